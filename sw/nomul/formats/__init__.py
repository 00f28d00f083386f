"""Readers, writers and packers of weight files and weight streams."""
