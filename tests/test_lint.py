"""Everything that is printed is clean to Verilator's linter with -Wall, but for what a file switches off by name.

Whole machines are checked where they are written (tests/test_accelerator_commands.py).
"""

from pathlib import Path

import pytest

from nomul.arith.target import TARGETS
from nomul.catalog import configure
from nomul.commands.verilog import make_engine
from nomul.cores.discover import cores
from nomul.export.heading import LINT_OFF, PRIMITIVES_LINT_OFF
from tests.lint import warnings

pytestmark = pytest.mark.slow

SMALL = {
    "tlmm": ("tables=2", "rows=1", "fill_units=1", "n_in_max=96"),
    "tint": ("lanes_in=4", "rows=1", "n_in_max=96"),
    "baseline": ("lanes_in=3", "rows=1", "n_in_max=96"),
    "boothflex": ("lanes_in=3", "rows=1", "n_in_max=96"),
    "boothflex_bs": ("lanes_in=2", "rows=1", "n_in_max=96"),
    "bwta": ("lanes_in=16", "rows=1", "n_in_max=96"),
    "mixpe": ("lanes_in=8", "rows=1", "group=32", "n_in_max=96"),
    "fp16": ("rows=1", "n_in_max=96"),
    "mixpe_fp16": ("lanes_in=2", "rows=1", "group=32", "n_in_max=96"),
    "absmax": ("lanes=2", "length_max=40"),
    "top_k": ("lanes=4", "scores_max=64"),
    "leading_one": ("lanes=2", "length_max=10"),
    "systolic": ("rows=2", "columns=2", "n_in_max=96", "n_out_max=8"),
    "bwta_attention": ("lanes_in=8", "rows=2", "size_max=20", "keys_max=40"),
}
"""Settings of each core with which it is quick to generate."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("core", cores())
def test_a_core_is_clean(core: str, target: str, tmp_path: Path) -> None:
    """The portable form behind AXI, which has the bare core in it; the others bare."""
    config = configure(core, SMALL[core], target)
    manifest, text = make_engine(core, config, "axi" if target == "portable" else "stream")
    assert warnings(text, manifest["top"], target, tmp_path) == ""


@pytest.mark.slow
def test_what_is_switched_off_would_be_found(tmp_path: Path) -> None:
    """The list names no warning that printed text does not have."""
    manifest, text = make_engine("absmax", configure("absmax", SMALL["absmax"], "ecp5"), "axi")
    for name in (*LINT_OFF, *PRIMITIVES_LINT_OFF):
        without = text.replace(f"/* verilator lint_off {name} */", "")
        assert f"-{name}:" in warnings(without, manifest["top"], "ecp5", tmp_path), name
