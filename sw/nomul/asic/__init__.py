"""Mapping, timing repair, timing and power in standard cells."""
