"""Memories and what feeds them: queues, weight decoders."""
