"""Systolic arrays of MixPE's elements, for INT8 and for FP16 activations."""
