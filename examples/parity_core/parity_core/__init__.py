"""A core that Nomul does not ship: docs/add-a-core.md explains it step by step."""
