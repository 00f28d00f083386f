"""Attention, and its units: prediction of scores and choice of keys."""
