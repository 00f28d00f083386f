"""PyTorch and host side: golden references, formats, models, flows and the `nomul` command."""
