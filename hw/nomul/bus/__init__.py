"""Adapters from the bare streams of an engine to standard buses."""
