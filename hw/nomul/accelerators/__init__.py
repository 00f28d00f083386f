"""Whole machines: a language model in gateware."""
