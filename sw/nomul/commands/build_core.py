"""What `nomul build` does for a core: streams, Verilog, simulation and synthesis, and what each of them proves."""

import dataclasses
from pathlib import Path
from typing import Any

from nomul.catalog import choose_variant, configure, parse_setting
from nomul.commands.build_design import Design
from nomul.commands.build_proof import Claim, not_run
from nomul.commands.build_schema import CELLS
from nomul.commands.build_steps import CoreSteps
from nomul.commands.build_weights import write_random
from nomul.cores.discover import find_core

__all__ = ["build_core", "synthesised"]

SHAPE = "64x256"
"""Of random weights for which none is given: N_OUTxN_IN."""

AREA = {"area": "area, um2", "critical_path_ns": "critical path, ns", "power_mw": "power, mW"}
TAKEN = {"lut": "LUT", "ff": "flip-flops", "dsp": "multipliers", "bram": "block RAM", "uram": "large RAM"}
"""Figures of reports, in words."""


def build_core(design: Design, folder: Path) -> tuple[list[Claim], dict[str, Any]]:
    """Fill a folder with a core; return what is known of it, and what the steps said, by step."""
    core = find_core(design.name)
    weights = _weights(design, folder)
    steps = CoreSteps(design, weights)
    said: dict[str, Any] = {}
    claims = []
    feeds = core.multiplies or core.jobs is not None
    if not feeds:
        claims.append(not_run("outputs", f"{core.name} has neither a packer nor random jobs"))
    else:
        with design.blaming("weights" if design.given("weights") else "check"):
            said["streams"] = steps.pack(folder / "streams")
        steps.settings += _found(design, said["streams"]["config"])
    with design.blaming("design"):
        said["verilog"] = steps.verilog(folder)
    if feeds and design.get("check", "simulate"):
        with design.blaming("check"):
            said["simulation"] = steps.check()
        claims += simulated(design, said["simulation"])
    elif feeds:
        claims.append(not_run("outputs", "check.simulate = false"))
    if design.get("report", "synthesise"):
        with design.blaming("report"):
            said["report"] = steps.report()
        claims += mapped(said["report"]) if design.get("target") == CELLS else synthesised(said["report"])
        claims += routed(said["report"].get("fmax_mhz"), design)
    else:
        claims.append(not_run("cost", "report.synthesise = false"))
    return claims, said


def _weights(design: Design, folder: Path) -> Path | None:
    """Write random weights if the design asks for them."""
    seed = design.get("weights", "random")
    if seed is None:
        return None
    with design.blaming("weights"):
        engine, settings, _ = choose_variant(design.name, design.settings)
        groups = find_core(engine).in_groups(dict(parse_setting(engine, setting) for setting in settings))
        n_out, n_in = (int(size) for size in (design.get("weights", "shape") or SHAPE).split("x"))
        mode = design.get("weights", "mode")
        file = folder / "weights.safetensors"
        write_random(file, configure(engine, settings), mode, (n_out, n_in), seed, groups=groups)
    return file


def _found(design: Design, config: dict[str, Any]) -> list[str]:
    """Return the fields that followed from the layer, so that what is written and measured is what is simulated."""
    engine, settings, _ = choose_variant(design.name, design.settings)
    own = dataclasses.asdict(configure(engine, settings))
    return [f"{name}={value}" for name, value in config.items() if name != "target" and own[name] != value]


def simulated(design: Design, said: dict[str, Any]) -> list[Claim]:
    """Return what a simulation proves: every output, and the model of cycles where nothing stalls."""
    outputs, wrong, by = said["outputs"], said["mismatches"], design.get("check", "simulator")
    text = f"{outputs:,} equal PyTorch's, bit for bit"
    if wrong:
        text = f"{wrong:,} of {outputs:,} differ; the run is kept in {said['folder']}"
    claims = [Claim("outputs", text, "simulated", outputs, not wrong, by)]
    taken, model = said.get("job_cycles", said["cycles"]), said["model_cycles"]
    if design.get("check", "stall"):
        claims.append(Claim("cycles", f"{taken:,}, with stalls; without: {model:,}", "simulated", taken, None, by))
    else:
        text = f"{taken:,}, {'as modelled' if taken == model else f'but the model says {model:,}'}"
        claims.append(Claim("cycles", text, "simulated", taken, taken == model, by))
    return claims


def synthesised(said: dict[str, Any]) -> list[Claim]:
    """Return what a core takes on an FPGA."""
    by = said["tool_versions"][0]
    return [
        Claim(name, f"{said[key]:,g}", "synthesised", said[key], None, by)
        for key, name in TAKEN.items()
        if said[key] or key in ("lut", "ff")
    ]


def mapped(said: dict[str, Any]) -> list[Claim]:
    """Return what a core takes in each library of standard cells."""
    claims = []
    for found in said.get("libraries", [said]):
        for key, name in AREA.items():
            if found[key] is not None:
                text = f"{found[key]:,.4g} ({found['library']}, before layout)"
                claims.append(Claim(name, text, "mapped", found[key], None, found["tool_versions"][0]))
    return claims


def routed(fmax: float | None, design: Design) -> list[Claim]:
    """Return the clock, or why it is not known."""
    if not design.get("report", "place_and_route"):
        why = "before layout" if design.get("target") == CELLS else "report.place_and_route = false"
        return [not_run("Fmax, MHz", why)]
    text = "no path between registers" if fmax is None else f"{fmax:.1f}"
    return [Claim("Fmax, MHz", text, "routed", fmax, None, "nextpnr")]
