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


@pytest.fixture
def nangate45() -> Path:
    """A Liberty file of a 45 nm library; a test that needs it is skipped where it is not."""
    path = SHARED / "pdk" / "nangate45_typ.lib.gz"
    if not path.exists():
        pytest.skip(f"needs the NanGate 45 nm library at {path}")
    return path


@pytest.fixture(params=["nangate45_typ", "sky130hd_tt", "sg13g2_typ"])
def library_file(request: pytest.FixtureRequest) -> Path:
    """Each of three Liberty files; a test is skipped for one that is not there."""
    path = SHARED / "pdk" / f"{request.param}.lib.gz"
    if not path.exists():
        pytest.skip(f"needs the library at {path}")
    return path
