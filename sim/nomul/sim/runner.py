"""Builds simulators and runs cocotb benches in them.

A simulator is built once for each text of Verilog, simulator version and set of options: its folder in the cache
carries their hash, so that the same engine is never compiled twice and benches that run side by side share it.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from nomul.errors import InputError, ToolError
from nomul.jobs.cache import place, ready
from nomul.sim.environment import plain_names, plain_place, simulator_environment
from nomul.sim.primitives import primitives

__all__ = ["SIMULATORS", "Simulator", "build", "ports"]

WAVES = "waves.vcd"

SIMULATORS = ("verilator", "icarus")
"""Simulators that benches run on; the first is the default."""

_VERILATOR_ARGS = [
    "-O1",
    "--x-assign", "fast",
    "--x-initial", "fast",
    "--no-assert",
    # cocotb asks for every signal to be public; only the ports of the top are (`_ports`), or compiling takes minutes.
    "--no-public-flat-rw",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-SPECIFYIGN",
    "-Wno-TIMESCALEMOD",
]  # fmt: skip

_LEVEL = "-O0"

_WHOLE = ["--output-split", "0", "-CFLAGS", _LEVEL]
"""One file of C++, in a third of the time that many take, and not optimised, in half of that: a bench spends its time
in cocotb. Not for large designs: g++ would take minutes, and a machine that reads a text runs at a quarter of the speed
of -O1."""

_SPLIT = ["--output-split", "5000", "--output-split-cfuncs", "500", "-CFLAGS", "-O1"]

_LARGE = 500_000
"""Characters of Verilog from which a design is large."""

_RUNTIME = ("verilated.o", "verilated_dpi.o", "verilated_vpi.o", "verilated_threads.o")
"""Objects that are the same in every simulator and take longer than a small engine: compiled once.

cocotb's verilator.o is not among them: it knows the top.
"""

_HEADER = "runtime.h"
"""What every simulator includes: compiled once, or reading it is half of the time of a small engine."""


@dataclasses.dataclass(frozen=True)
class Simulator:
    """A built simulator: run benches in it with `run`."""

    name: str
    top: str
    folder: Path

    @property
    def source(self) -> Path:
        """The Verilog text that it was built from."""
        return self.folder / f"{self.top}.v"

    def run(
        self,
        module: str,
        case: dict[str, Any],
        test: str | None = None,
        activity: Path | None = None,
        folder: Path | None = None,
        waves: Path | None = None,
    ) -> dict[str, Any]:
        """Run the cocotb tests of `module`, give them `case`, and return what they write.

        With `activity`, a simulator built for it also writes the toggles of every net there, in SAIF. The simulation
        runs in `folder`, where the design finds its files, or in one of its own. With `waves`, one built for them
        writes the values of every signal there, as VCD, also if it stops without a result.

        The case reaches the bench as a JSON file named by the environment variable NOMUL_CASE; the bench writes its
        result, one JSON object, to the file named by NOMUL_RESULT.

        Raises
        ------
        ToolError
            If the simulator stopped without a result; the message ends with the last lines of its log.
        """
        import cocotb_tools.config
        from cocotb_tools.runner import get_runner

        traced = activity.resolve() if activity else None
        with tempfile.TemporaryDirectory(prefix="nomul-bench-") as name:
            folder = folder or Path(name)
            if waves:
                traced = folder / WAVES
            case_file, result_file, log_file = folder / "case.json", folder / "result.json", folder / "log.txt"
            case_file.write_text(json.dumps(case))
            environment = {
                "NOMUL_CASE": str(case_file),
                "NOMUL_RESULT": str(result_file),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "COCOTB_LOG_LEVEL": "WARNING",
                "COCOTB_ANSI_OUTPUT": "0",
                # Where it was linked may have been a name for the time of building
                # (`nomul.sim.environment.plain_names`).
                "LD_LIBRARY_PATH": os.pathsep.join(
                    [str(cocotb_tools.config.libs_dir), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
                ),
                # Pytest would rewrite the asserts of every module, NumPy's too: a second for each simulation.
                "COCOTB_REWRITE_ASSERTION_FILES": "",
                # Quicker, but Icarus applies such a write before what the same clock edge samples.
                "COCOTB_TRUST_INERTIAL_WRITES": str(int(self.name == "verilator")),
            }
            # The last option says what Icarus writes; cocotb's is that it writes nothing.
            dump = {"SIM_CMD_SUFFIX": "-vcd"} if waves and self.name == "icarus" else {}
            with (
                simulator_environment(**dump),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.suppress(SystemExit),
            ):
                get_runner(self.name).test(
                    test_module=module,
                    hdl_toplevel=self.top,
                    hdl_toplevel_lang="verilog",
                    build_dir=self.folder.resolve(),
                    test_dir=folder,
                    results_xml=str(folder / "results.xml"),
                    extra_env=environment,
                    test_filter=test,
                    log_file=log_file,
                    test_args=["--trace", "--trace-file", str(traced)] if traced and self.name == "verilator" else [],
                )
            if waves and traced and traced.exists():
                shutil.move(traced, waves)
            if not result_file.exists():
                log = log_file.read_text(errors="replace") if log_file.exists() else ""
                raise ToolError(f"{self.name} stopped without a result: {_tail(log)}")
            return json.loads(result_file.read_text())


def _tail(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(lines[-6:]) or "it wrote no log"


def build(
    verilog: str,
    top: str,
    simulator: str = "verilator",
    target: str = "portable",
    *,
    activity: bool = False,
    waves: bool = False,
) -> Simulator:
    """Build a simulator of `verilog`, or find the one that was built before.

    Parameters
    ----------
    verilog : str
        The design.
    top : str
        Its top module.
    simulator : str
        One of `SIMULATORS`.
    target : str
        Technology whose primitives the design instantiates.
    activity : bool
        Whether it can count the toggles of its nets (Verilator only).
    waves : bool
        Whether it can write the values of its signals.

    Raises
    ------
    InputError
        If there is no such simulator.
    ToolError
        If it is not installed or the design does not compile.
    """
    if simulator not in SIMULATORS:
        raise InputError(f"no simulator is called {simulator!r}; the simulators are {', '.join(SIMULATORS)}")
    if simulator == "icarus" and not shutil.which("iverilog"):
        raise ToolError("Icarus Verilog (iverilog) is not installed; install it, or use --sim verilator")
    models = primitives(target, verilog)
    versions = "".join(f"{name}={importlib.metadata.version(name)};" for name in ("cocotb", "verilator"))
    # As SystemVerilog, Icarus starts some combinational processes of the generated text too late, and they stay X.
    args = ["-g2005"]
    if simulator == "verilator":
        args = [
            *_VERILATOR_ARGS,
            *(_SPLIT if len(verilog) > _LARGE else _WHOLE),
            *(["--trace-saif"] if activity else []),
            *(["--trace-vcd"] if waves else []),
        ]
    elif waves:
        args += ["-s", "nomul_waves"]
        verilog += f'\nmodule nomul_waves;\n  initial begin\n    $dumpfile("{WAVES}");\n    $dumpvars(0, {top});\n'
        verilog += "  end\nendmodule\n"
    key = hashlib.sha256("\0".join([verilog, top, simulator, models, versions, *args]).encode()).hexdigest()[:24]
    kept_here = ready(place() / "sim")
    folder = kept_here / f"{top}-{simulator}-{key}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            source = folder / f"{top}.v"
            source.write_text(verilog)
            sources = [source]
            if simulator == "verilator":
                sources.append(folder / "ports.vlt")
                lines = [f'public_flat_rw -module "{top}" -var "{name}"' for _, _, name in ports(verilog, top)]
                sources[-1].write_text("`verilator_config\n" + "\n".join(lines) + "\n")
            library = folder / "primitives.v"
            library.write_text(models)
            libraries = [library] if models else []
            if simulator == "verilator":
                kind = hashlib.sha256(f"{versions}{activity}{waves}{_VERILATOR_ARGS}".encode()).hexdigest()[:12]
                _compile_with_runtime(kept_here / f"runtime-{kind}", sources, top, folder, args, libraries)
            else:
                _compile(simulator, sources, top, folder, args, libraries)
            (folder / "built").touch()
    return Simulator(simulator, top, folder)


def ports(verilog: str, top: str) -> list[tuple[str, int, str]]:
    """Return the ports of a module as (input or output, width, name), in the order of their declarations.

    Raises
    ------
    ToolError
        If the text has no such module.
    """
    found = re.search(rf"^module {re.escape(top)}\b.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ToolError(f"the Verilog text has no module {top}")
    declared = re.findall(r"^\s*(input|output)\s+(?:reg\s+|wire\s+)?(?:\[(\d+):0\]\s*)?(\w+)", found[0], re.MULTILINE)
    return [(direction, int(high or 0) + 1, name) for direction, high, name in declared]


def _compile_with_runtime(
    runtime: Path, sources: list[Path], top: str, folder: Path, args: list[str], libraries: list[Path]
) -> None:
    """Compile with Verilator; take what is the same in every simulator from a folder, or make it for the next one."""
    made = (runtime / "made").exists()
    header = [folder / _HEADER, folder / f"{_HEADER}.gch"]
    if made:
        later = time.time() + 3600
        for name in _RUNTIME:
            # Their rules depend on a makefile that is written later.
            os.utime(shutil.copy(runtime / name, folder), (later, later))
    # Many files have a precompiled header of their own, and a compiler takes one at most.
    if made and _LEVEL in args:
        for file in header:
            try:
                os.link(runtime / file.name, file)
            except OSError:
                shutil.copy(runtime / file.name, file)
        args = [*args, "-CFLAGS", f"-include {_HEADER}"]
    _compile("verilator", sources, top, folder, args, libraries)
    for file in header:
        file.unlink(missing_ok=True)
    with FileLock(f"{runtime}.lock"):
        if (runtime / "made").exists():
            return
        runtime.mkdir(exist_ok=True)
        for name in _RUNTIME:
            shutil.copy(folder / name, runtime)
        (runtime / _HEADER).write_text(
            "".join(f'#include "{name}.h"\n' for name in ("verilated", "verilated_dpi", "verilated_vpi"))
        )
        # A precompiled header serves those who compile with the options that it was compiled with.
        # Verilator's own level stands behind ours in this command, and before ours in those of the design's files.
        command = re.search(r"^(\S+ .*) -c -o verilator\.o \S+$", (folder / "build.log").read_text(), re.MULTILINE)
        if command:
            options = [*shlex.split(command[1]), _LEVEL, "-x", "c++-header", _HEADER, "-o", f"{_HEADER}.gch"]
            subprocess.run(options, cwd=runtime, check=True, capture_output=True)
            (runtime / "made").touch()


def _compile(
    simulator: str,
    sources: list[Path],
    top: str,
    folder: Path,
    args: list[str],
    libraries: list[Path],
) -> None:
    from cocotb_tools.runner import get_runner

    log_file = folder / "build.log"
    try:
        with plain_names(), plain_place(folder) as place, contextlib.redirect_stdout(io.StringIO()):
            for library in libraries:
                args += ["-v" if simulator == "verilator" else "-l", str(place / library.name)]
            get_runner(simulator).build(
                sources=[place / source.name for source in sources],
                hdl_toplevel=top,
                build_dir=place,
                build_args=args,
                timescale=("1ns", "1ps") if simulator == "icarus" else None,
                always=True,
                waves=any(arg.startswith("--trace") for arg in args),
                log_file=log_file,
            )
    except (RuntimeError, subprocess.CalledProcessError, SystemExit):
        log = log_file.read_text(errors="replace") if log_file.exists() else ""
        raise ToolError(f"{simulator} could not compile {top}: {_tail(log)}") from None
