"""Matmul engines, one file each, behind one contract (`hw.engines.contract`)."""
