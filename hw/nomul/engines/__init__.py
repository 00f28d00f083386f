"""Matmul engines behind one contract (`nomul.engines.matmul`)."""
