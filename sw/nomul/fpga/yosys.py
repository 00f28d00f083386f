"""Synthesis for an FPGA with Yosys, and the count of what it takes.

What a designer of gateware should know of Yosys 0.70, each measured with this module:

* It never uses the output register of a block RAM on ECP5: its map sets REGMODE to NOREG, and a register behind the
  read port stays in the fabric. The block's clock to output is then 5.8 ns at speed grade 6 in nextpnr's model, against
  0.9 ns with REGMODE = OUTREG, so an engine that wants 150 MHz or more from a block RAM has to instantiate DP16KD.
* It shares a LUTRAM between read ports only when they fill it: on xcup 7 (or 14, 21 ...) ports of two bits take one
  (two, three ...) RAM32M16, but any other number takes one for each port, 8 ports as many as eight. On xc7 the unit is
  3 ports, and it rounds up. What has other numbers of readers instantiates the primitive (`nomul.arith.xilinx.lutram`).
* A synchronous read port of an Amaranth memory says what a read returns in the cycle in which its word is written, and
  Yosys builds that around the block where the block does not do it: 46 LUTs and 119 flip-flops for 512 x 36 bits on
  ECP5, 47 and 119 on Gowin. Where it does not matter, use a read port of the domain `comb` with a register behind it,
  and give the memory the attribute `no_rw_check`: then nothing is added, on any target.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nomul.arith.cells import cell_models
from nomul.errors import ToolError
from nomul.fpga.targets import FpgaTarget, find_target
from nomul.jobs.cache import DEFAULT, Cache, digest
from nomul.jobs.yosys_run import run_yosys

SOURCE = re.compile(r'^\s*attribute \\src ".*"\n', re.MULTILINE)
IGNORED = {"$scopeinfo"}
SOURCES = {"src", "module_not_derived", "hdlname"}


@dataclass(frozen=True)
class Synthesis:
    """The result of synthesising one module: cells by type, and what they add up to (`nomul.fpga.targets.Cost`).

    `lut` includes the LUTs used as memory, `lutram_as_lut`. `seconds` is the time that the synthesis took, when it was
    done. `netlist` is Yosys' JSON for nextpnr, with the top module alone, if it was asked for.
    """

    target: str
    top: str
    cells: dict[str, int]
    lut: int
    lutram_as_lut: int
    ff: int
    carry: int
    dsp: int
    bram: float
    uram: int
    seconds: float
    tool: str
    netlist: str | None = None


def yosys_version() -> str:
    """Return the name and release of the Yosys that synthesises."""
    return f"Yosys {version('pyosys')}"


def is_rtlil(text: str) -> bool:
    """Tell RTLIL from Verilog by the first line that opens a module."""
    found = re.search(r"^\s*module\s+(.*)$", text, re.MULTILINE)
    return bool(found and re.fullmatch(r"\\\S+", found[1]))


def synthesise(
    text: str,
    top: str,
    target: str,
    *,
    dsp: bool = False,
    netlist: bool = False,
    once: bool = False,
    cache: Path | None = DEFAULT,
    files: Mapping[str, str] | None = None,
) -> Synthesis:
    """Synthesise module `top` of an RTLIL or Verilog text for an FPGA target.

    Parameters
    ----------
    text
        The whole design. Primitives of the target may be instantiated without a declaration.
    top
        Name of the top module. Its ports get neither pins nor buffers.
    target
        A name of `nomul.fpga.targets.TARGETS`.
    dsp
        Whether Yosys may use the target's multipliers.
    netlist
        Whether to return the mapped netlist.
    once
        Whether a module that the top module holds several times is mapped by itself, once. That is much faster for an
        array of wide rows, and gives a few cells more, since nothing is simplified across its ports. The text has to
        be RTLIL; not with `netlist`.
    cache
        Folder of earlier results, by the text (source locations apart), the script and the release of Yosys; None
        synthesises anew.
    files
        Further files by name: Verilog whose parameters the text sets (.v), and what is read by `$readmemh`.

    Raises
    ------
    InputError
        If the target is unknown.
    ToolError
        If Yosys fails, or the result is not one that hardware can be made of: a module that is missing, a latch, a
        wire with two drivers or none, a combinational loop, an unmapped cell, or nothing at all.

    """
    if once and netlist:
        raise ValueError("a netlist is flat; it cannot be mapped with once = True")
    family = find_target(target)
    repeated = _repeated(text, top) if once else []
    files = dict(files or {})
    # An engine that instantiates generic cells needs their models, unless its text has them.
    if not re.search(r"module \\?NOMUL_(?!ROM|TRACE)", text) and (cells := cell_models(text)):
        files["cells.v"] = cells
    models = [name for name in files if name.endswith(".v")]
    scripts = [
        _script(family, top, dsp=dsp, rtlil=is_rtlil(text), netlist=wanted, repeated=repeated, models=models)
        for wanted in (False, True)
    ]
    store = Cache(None if cache is None else cache / "synthesis")
    parts = (SOURCE.sub("", text), yosys_version(), *(part for file in files.items() for part in file))
    key, with_netlist = (digest(script, *parts) for script in scripts)
    kept = store.get(with_netlist) or (None if netlist else store.get(key))
    if kept is None:
        start = time.monotonic()
        run = run_yosys(
            scripts[netlist], {"design": text, **files}, ["stat.json", *(["netlist.json"] if netlist else [])]
        )
        kept = {"cells": _cells(run.files["stat.json"], top, repeated), "seconds": round(time.monotonic() - start, 3)}
        mapped = compact(run.files["netlist.json"], top) if netlist else None
        store.put(with_netlist if netlist else key, kept, {".mapped": mapped} if mapped else None)
    else:
        mapped = store.path(with_netlist, ".mapped").read_text() if netlist else None
    return tally(kept["cells"], family, top, kept["seconds"], mapped)


def tally(
    cells: dict[str, int],
    target: FpgaTarget,
    top: str,
    seconds: float = 0,
    netlist: str | None = None,
    *,
    check: bool = True,
) -> Synthesis:
    """Add up the costs of `cells`; ToolError for a latch, for a cell that the target does not have, and for none.

    Without `check` there may be none: a part of a design may be nothing but wires.
    """
    latches = sorted(name for name in cells if name in target.latches or "DLATCH" in name or "dlatch" in name)
    if latches:
        raise ToolError(
            f"synthesis of {top} for {target.name} left latches ({', '.join(latches)}); make them registers"
        )
    unknown = sorted(name for name in cells if name not in target.costs and name not in IGNORED)
    if unknown:
        raise ToolError(
            f"synthesis of {top} for {target.name} left cells that are not primitives of the target: "
            + ", ".join(unknown)
        )
    costs = [(target.costs[name], count) for name, count in cells.items() if name not in IGNORED]
    result = Synthesis(
        target=target.name,
        top=top,
        cells={name: count for name, count in sorted(cells.items()) if name not in IGNORED},
        lut=sum(cost.lut * count for cost, count in costs),
        lutram_as_lut=sum(cost.lutram * count for cost, count in costs),
        ff=sum(cost.ff * count for cost, count in costs),
        carry=sum(cost.carry * count for cost, count in costs),
        dsp=sum(cost.dsp * count for cost, count in costs),
        bram=sum(cost.bram * count for cost, count in costs),
        uram=sum(cost.uram * count for cost, count in costs),
        seconds=seconds,
        tool=yosys_version(),
        netlist=netlist,
    )
    if check and not (result.lut or result.ff or result.carry or result.dsp or result.bram or result.uram):
        raise ToolError(
            f"synthesis of {top} for {target.name} left no logic at all; its outputs are constants or its own inputs"
        )
    return result


def _script(
    target: FpgaTarget,
    top: str,
    *,
    dsp: bool,
    rtlil: bool,
    netlist: bool,
    repeated: Sequence[str] = (),
    models: Sequence[str] = (),
) -> str:
    """Return the commands that check the design as written, map it, check the result and write it down.

    The check comes before the mapping because optimisation silently drops one of two drivers, and again after it
    because only single bits show every combinational loop. Where only cells are counted, the mapping ends before its
    step `check`, which names every cell after the wires around it: half of the time for a large array.
    """
    command = target.command(top, dsp=dsp)
    last = [f"{command} -json netlist.json -run {target.second_step}:"]
    if not netlist:
        last = [f"{command} -run {target.second_step}:check", "blackbox =A:whitebox"]
    return "\n".join(
        [
            "read_rtlil design" if rtlil else "read_verilog -sv design",
            *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in repeated),
            *(f"read_verilog -sv -defer {name}" for name in models),
            f"{command} -run begin:{target.second_step}",
            "design -push-copy",
            "proc",
            "flatten",
            "opt_clean",
            "check -nolatches -force-detailed-loop-check -assert",
            "design -pop",
            *last,
            "check -nolatches -assert",
            "tee -q -o stat.json stat -json",
            "",
        ]
    )


def _repeated(text: str, top: str) -> list[str]:
    """Return the modules of an RTLIL text that its top module, or a module that it holds once, holds several times."""
    inside = {
        module: Counter(re.findall(r"^  cell \\(\S+) ", body, re.MULTILINE))
        for module, body in re.findall(r"^module \\(\S+)\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)
    }
    found: list[str] = []
    waiting = [top]
    while waiting:
        for name, count in inside[waiting.pop()].items():
            if name in inside:
                (found if count > 1 else waiting).append(name)
    return found


def _cells(stat: str, top: str, modules: Sequence[str]) -> dict[str, int]:
    """Return the cells by type of Yosys' `stat -json`; `modules` are not cells."""
    try:
        counted = json.loads(stat)["design"]["num_cells_by_type"]
    except (ValueError, KeyError):
        raise ToolError(f"Yosys left no statistics of {top}: see `nomul doctor`") from None
    return {str(name): int(count) for name, count in counted.items() if name not in modules}


def compact(netlist: str, top: str) -> str:
    """Return Yosys' JSON with the top module alone, without where each cell came from."""
    design = json.loads(netlist)
    module = design["modules"][top]
    for item in (*module["cells"].values(), *module["netnames"].values()):
        item["attributes"] = {name: value for name, value in item["attributes"].items() if name not in SOURCES}
    return json.dumps({"creator": design["creator"], "modules": {top: module}}, separators=(",", ":"))
