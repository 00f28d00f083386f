"""What holds for all tests: what they keep lies in the repository, never in the home of the person who runs them."""

import os
from pathlib import Path

os.environ.setdefault("NOMUL_CACHE", str(Path(__file__).parent / "build" / "cache"))


def pytest_configure() -> None:
    """Give PyTorch one thread: tests run on every core already, and waiting for a second thread costs more."""
    import torch

    torch.set_num_threads(1)
