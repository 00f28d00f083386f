"""Bit-exact references of the gateware, one file per `hw` module. Imports nothing of `hw`."""
