"""Units that work on vectors element by element."""
