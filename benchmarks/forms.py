"""What a target's own arithmetic costs, over the portable form on the same target, at every size of the report.

    python -m benchmarks.forms [ENGINE]...

Prints the ratios, writes benchmarks/forms.json and fails where one exceeds `MOST`. Everything takes about two hours of
one core; what was synthesised before, of the same sources, is not made again.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomul.arith.target import TARGETS, Target
from nomul.console import stderr, stdout
from nomul.cores.discover import matmul_cores
from nomul.files import write_atomically
from nomul.jobs.pool import ToolJob, run_jobs
from nomul.report.sweep import SIZES, Build, build_job, builds, not_tried

__all__ = ["FORMS", "MOST", "pairs", "ratio"]

FORMS = Path(__file__).with_name("forms.json")
"""The ratios that were measured last, by 'engine size target'."""

MOST = 1.02
"""The most look-up tables, or area, that a target's own form may take over the portable one."""


def pairs(engines: Sequence[str], sizes: Sequence[str]) -> dict[str, tuple[Build, ToolJob, ToolJob]]:
    """Return, by 'engine size target', each build of a target with forms, its job, and that of the portable form."""
    targets = [target for target in TARGETS if target != Target.PORTABLE.value]
    found = {}
    for build in builds(engines, sizes, targets, []):
        if not not_tried(build):
            own = build_job(build, None)
            config = own.arguments["config"] | {"target": Target.PORTABLE.value}
            found[f"{build.engine} {build.size} {build.target}"] = (
                build,
                own,
                dataclasses.replace(own, arguments=own.arguments | {"config": config}, label=f"{own.label}, portable"),
            )
    return found


def ratio(build: Build, own: dict[str, Any], portable: dict[str, Any]) -> dict[str, float]:
    """Return what the form takes, what the portable one takes, and the quotient."""
    name = "area" if build.target == Target.CELLS.value else "lut"
    return {"own": own[name], "portable": portable[name], "ratio": round(own[name] / portable[name], 4)}


def main(engines: Sequence[str]) -> int:
    """Measure, print, and write what was measured into the file; return the exit code."""
    found: dict[str, dict[str, float]] = json.loads(FORMS.read_text()) if FORMS.exists() else {}
    chosen = pairs(engines, SIZES)
    outcomes = run_jobs([job for _, *jobs in chosen.values() for job in jobs], description="synthesising")
    failed = 0
    for (name, (build, *_)), own, portable in zip(chosen.items(), outcomes[::2], outcomes[1::2], strict=True):
        if own.value is None or portable.value is None:
            stderr.print(f"{name}: {own.error or portable.error}", markup=False, highlight=False)
            failed += 1
            continue
        found[name] = ratio(build, own.value, portable.value)
        over = found[name]["ratio"] > MOST
        failed += over
        stdout.print(f"{name:36}{found[name]['ratio']:8.3f}{'  more than allowed' if over else ''}", highlight=False)
    lines = ",\n ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(found.items()))
    write_atomically(FORMS, f"{{\n {lines}\n}}\n".encode())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(matmul_cores())))
