"""Tools, long jobs and the cache of their results."""
