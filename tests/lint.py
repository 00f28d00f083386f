"""Verilator's linter."""

import subprocess
from pathlib import Path

from nomul.jobs.tools import verilator_environment
from nomul.sim.primitives import primitives


def warnings(text: str, top: str, target: str, folder: Path) -> str:
    """Return what the linter says of a design; of the models of a target's primitives, which are not ours, nothing."""
    folder.mkdir(exist_ok=True)
    (folder / "design.v").write_text(text)
    (folder / "primitives.v").write_text(f"/* verilator lint_off SPECIFYIGN */\n{primitives(target, text)}")
    (folder / "others.vlt").write_text('`verilator_config\nlint_off -file "*primitives.v"\n')
    done = subprocess.run(
        ["verilator_bin", "--lint-only", "-Wall", "--top-module", top, "others.vlt", "design.v", "-v", "primitives.v"],
        cwd=folder, env=verilator_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr
