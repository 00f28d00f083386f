"""Runs random calls of the command line, each in a process of its own, and says what went wrong.

`python -m tests.cli_fuzz CASES SEED` prints a line for each fault, and how the cases ended. What takes long is cut off
where it begins (`CUTS`): what comes before it, where arguments and files are read, and the writing of results are run.
"""

import dataclasses
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nomul.cli import main
from nomul.errors import ToolError
from nomul.formats.checkpoint import save_dense
from nomul.formats.ternary import TernaryLayer
from nomul.sim.check import random_jobs
from tests.cli_cases import COMMANDS, Case, case
from tests.cli_files import fill, snapshot

SECONDS = 60
"""After which a call hangs."""

DISK = 4096
"""Bytes that a file may have where the disk is small."""


def _cut(*arguments: Any, **named: Any) -> Any:
    raise ToolError("the fuzzer goes no further")


def _few_jobs(unit: str, config: Any, count: int, seed: int) -> Any:
    return random_jobs(unit, config, min(count, 2), seed)


def _text(*arguments: Any) -> str:
    return "module nothing;\nendmodule\n"


CUTS: dict[str, Callable[..., Any]] = {
    "nomul.sim.check.build_core": _cut,
    "nomul.sim.board.simulated_top": _cut,
    "nomul.commands.calibrate.calibrate_on": _cut,
    "nomul.commands.jobs.random_jobs": _few_jobs,
    "nomul.commands.generate_rtl.build_machine": _cut,
    "nomul.commands.generate.generate_float": lambda model, start, tokens, *rest: iter([0] * tokens),
    "nomul.commands.generate.generate_integer": lambda model, start, tokens, *rest: iter([0] * tokens),
    "nomul.commands.accelerator_verilog.verilog": _text,
    "nomul.commands.accelerator_report.convert": _cut,
    "nomul.commands.verilog.verilog": _text,
    "nomul.commands.bitstream.hex_files": lambda *arguments: {},
    "nomul.commands.bitstream.board_design": _cut,
    "nomul.commands.doctor.run_trials": lambda finished: [],
    "nomul.commands.explore.run_jobs": _cut,
    "nomul.commands.report.convert": _cut,
    "nomul.commands.report_all.run_jobs": _cut,
    "nomul.commands.train.train": _cut,
    "nomul.commands.trace.trace": lambda model, codes: {},
    "nomul.machines.random_integer_model": _cut,
}
"""What takes long, and what stands in its place."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call left: its exit code, or a signal below 0, and what it said."""

    code: int
    out: str
    err: str


def _child(call: Case, streams: Path) -> None:
    """Run a call in this process, which ends with it."""
    os.setsid()
    out = {
        "file": lambda: os.open(streams / "out", os.O_CREAT | os.O_WRONLY),
        "small": lambda: os.open(streams / "out", os.O_CREAT | os.O_WRONLY),
        "full": lambda: os.open("/dev/full", os.O_WRONLY),
        "closed": lambda: os.open(os.devnull, os.O_WRONLY),
        "gone": _broken_pipe,
    }[call.stdout]()
    for number, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, os.open(streams / "err", 0o101))):
        os.dup2(descriptor, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "w" if n else "r", closefd=False) for n in range(3))
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if call.stdout == "closed":
        sys.stdout = None  # type: ignore[assignment]
        os.close(1)
    if call.stdout == "small":
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK))
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    os.environ["COLUMNS"] = "200"
    if call.cache is not None:
        os.environ["NOMUL_CACHE"] = call.cache
    code: Any = 0
    try:
        main(list(call.words))
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120  # as Python ends where its last words do not go out
    os._exit(int(code))


def _broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def run(call: Case, work: Path, streams: Path) -> Outcome:
    """Run a call in a working folder, in a process of its own."""
    child = os.fork()
    if not child:
        try:
            os.chdir(work)
            _child(call, streams)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        os._exit(99)
    end = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            code = -signal.SIGALRM
            break
        time.sleep(0.003)
    texts = [
        (streams / name).read_bytes().decode(errors="replace") if (streams / name).exists() else ""
        for name in ("out", "err")
    ]
    return Outcome(code, *texts)


def fault(call: Case, found: Outcome, work: Path, before: dict[str, Any]) -> str | None:
    """Return what is wrong with the outcome of a call in a working folder, which was as `before` says; or None."""
    said = [line for line in found.err.splitlines() if line.startswith("nomul: ")]
    if found.code == -signal.SIGALRM:
        return f"it takes more than {SECONDS} s"
    if "Traceback" in found.err or "Exception ignored" in found.err:
        return "a traceback"
    if found.code not in ((0, 1, 2) if call.stdout == "gone" else (0, 2)):
        return f"exit code {found.code}"
    if found.code == 2 and (len(said) != 1 or not found.err.endswith(f"{said[0]}\n")):
        return f"{len(said)} sentences"
    if found.code != 2 and said:
        return "a sentence and no exit code"
    if found.code == 2 and found.out and call.stdout == "file":
        return "a refusal, and something on stdout"
    if found.code == 0 and "--json" in call.words and call.stdout == "file" and "--help" not in call.words:
        try:
            json.loads(found.out)
        except ValueError:
            return "no JSON"
    after = snapshot(work)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    # Links are written through. What is whole stays, though the words about it had nowhere to go.
    refused = found.code == 2 and call.stdout == "file"
    outputs = () if refused else call.outputs
    allowed = {os.path.relpath(os.path.realpath(work / output), os.path.realpath(work)) for output in outputs}
    left = [
        name
        for name in changed
        if not any(
            path in (".", name) or name.startswith(f"{path}/") or path.startswith(f"{name}/") for path in allowed
        )
    ]
    return f"{sorted(left)} left behind" if left else None


def fuzz(cases: int, seed: int) -> list[str]:
    """Run so many cases; return a line for each fault."""
    torch.set_num_threads(1)
    for place, stand_in in CUTS.items():
        module, _, name = place.rpartition(".")
        assert hasattr(importlib.import_module(module), name), place
        setattr(sys.modules[module], name, stand_in)
    for words, _ in COMMANDS:
        importlib.import_module(f"nomul.commands.{words[0]}")
    faults, slow, ends = [], [], Counter[str]()
    with tempfile.TemporaryDirectory(prefix="nomul-fuzz-") as name:
        place = Path(name)
        os.environ["NOMUL_CACHE"] = str(place / "cache")
        weight = torch.eye(8, dtype=torch.int8)
        save_dense(place / "layer", [TernaryLayer("a[/]b", weight, 0.5)], {}, {})
        checkpoint = (place / "layer").read_bytes()
        for number in range(cases):
            call = case(random.Random(f"{seed} {number}"))
            work, streams = place / f"work{number}", place / f"streams{number}"
            work.mkdir()
            streams.mkdir()
            fill(work, checkpoint)
            before = snapshot(work)
            start = time.monotonic()
            found = run(call, work, streams)
            slow.append((time.monotonic() - start, str(call)))
            ends["cut" if "goes no further" in found.err else str(found.code)] += 1
            wrong = fault(call, found, work, before)
            if wrong is not None:
                last = found.err.strip().splitlines()[-1:] or [""]
                faults.append(f"case {number} of seed {seed}: {wrong}: {call} -> {found.code} {last[0][:300]}")
                print(faults[-1], flush=True)
            else:
                _remove(work)
    longest = max(slow, default=(0.0, ""))
    print(f"{cases} cases ended {dict(ends)}; {len(faults)} faults; the longest took {longest[0]:.1f} s: {longest[1]}")
    return faults


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(1 if fuzz(int(sys.argv[1]), int(sys.argv[2])) else 0)
