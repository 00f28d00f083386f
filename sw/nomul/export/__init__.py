"""What is written for others: RTLIL and Verilog, manifests, IP-XACT, testbenches, headers."""
