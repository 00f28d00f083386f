"""Drivers of Yosys, nextpnr and the other tools, and the reports made of their results."""
