"""Units that work on vectors between the matmuls."""
