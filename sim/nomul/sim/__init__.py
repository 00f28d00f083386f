"""cocotb benches and their runner."""
