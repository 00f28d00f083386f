"""The cores: one file and one `Core` object each (`nomul.cores.api`), found by `nomul.cores.discover`.

A file of this package imports gateware at once, but PyTorch only inside the functions that need it, so that listing the
cores waits for neither PyTorch nor numpy.
"""
