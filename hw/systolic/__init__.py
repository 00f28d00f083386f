"""Systolic arrays of MixPE's integer element."""
