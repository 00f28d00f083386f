"""What runs on a host beside the hardware; it needs nothing but Python."""
