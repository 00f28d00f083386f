"""Synthesis, place and route, and bitstreams for FPGAs."""
