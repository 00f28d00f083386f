"""The language model: architecture, training, integer form, committed checkpoints."""
