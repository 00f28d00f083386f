"""Gateware (Amaranth): everything that becomes Verilog, and nothing that does not. Imports nothing else of Nomul."""
