"""Fixtures that all tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture
def shakespeare() -> Path:
    """The text that the committed models were trained on; a test that needs it is skipped where it is not."""
    path = SHARED / "data" / "tinyshakespeare.txt"
    if not path.exists():
        pytest.skip(f"needs the Tiny Shakespeare text at {path}")
    return path
