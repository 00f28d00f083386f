"""Memories and what feeds them: queues, weight decoders, the cache of keys and values."""
