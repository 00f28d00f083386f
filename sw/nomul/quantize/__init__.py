"""Quantisers: from float tensors to the codes that the engines take."""
