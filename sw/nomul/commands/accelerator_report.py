"""`nomul accelerator report`: what a machine costs, and how fast it is, by module and by step."""

import dataclasses
from typing import Any

import click
import numpy as np
import torch
from rich.table import Table

from nomul.accelerator_image import hex_files
from nomul.accelerators.axi_top import AxiMachine
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.cycles import ERROR, CycleModel, MemoryRate, Pass
from nomul.accelerators.sequencer import Step
from nomul.arith.target import TARGETS as ARITHMETIC
from nomul.console import json_option, print_json, status, stdout
from nomul.errors import InputError
from nomul.export.machine_manifest import TOP, memory_of
from nomul.export.rtlil import convert
from nomul.fpga.hierarchy import Parts, children, synthesise_parts
from nomul.fpga.nextpnr import Timing, place_and_route
from nomul.fpga.targets import TARGETS, find_target
from nomul.fpga.yosys import Synthesis
from nomul.machines import Choice, machine_options
from nomul.memory.rom import rom_model
from nomul.model.integer import IntegerModel
from nomul.options import POSITIVE, Integer, bundle
from nomul.report.figures import check_routable

CLOCKS = {"xcup": 250.0}
"""MHz that are assumed where none are given, and 100 for the other targets."""

BANDWIDTH = 17.1
"""GB/s of the DDR4 of a KV260: 64 bits at 2133 MT/s."""


def rom_files(config: AcceleratorConfig, model: IntegerModel | None) -> dict[str, str]:
    """Return what the memories of a machine are filled from: a model's parameters, or else random bits."""
    if config.memory == "axi":
        return {}
    if model is not None:
        return {f"{name}.hex": text for name, text in hex_files(model, config).items()}
    random, files = np.random.default_rng(0), {}
    for name, size in memory_of(config)["files"].items():
        width, depth = size["width"], size["depth"]
        words = (int.from_bytes(random.bytes(-(-width // 8)), "little") >> (-width % 8) for _ in range(depth))
        files[name] = "".join(f"{word:0{-(-width // 4)}x}\n" for word in words)
    return files


def synthesise_machine(config: AcceleratorConfig, model: IntegerModel | None, target: str, netlist: bool) -> Parts:
    """Synthesise a machine behind its registers; its units are the parts."""
    text = convert(AxiMachine(config), TOP)
    inside = children(text, TOP)
    units = children(text, inside["machine"])
    kept = sorted({inside["machine"], *units.values()})
    files = rom_files(config, model)
    if model_text := rom_model(text):
        files["rom.v"] = model_text
    return synthesise_parts(text, TOP, target, kept, files=files, netlist=netlist)


def speed(passes: list[Pass], tokens: int, clock: float) -> dict[str, Any]:
    """Return the cycles of some passes by step, and the tokens that they are in a second at a clock in MHz."""
    cycles = sum(each.total for each in passes)
    return {
        "cycles": cycles,
        "tokens_per_second": round(1e6 * clock * tokens / cycles, 2),
        "steps": {step.name: sum(each.steps[step] for each in passes) for step in Step},
        "waiting_for_weights": sum(sum(each.waited.values()) for each in passes),
    }


def figures(config: AcceleratorConfig, clock: float, bandwidth: float, prompt: int, context: int) -> dict[str, Any]:
    """Return tokens a second by the model of cycles, and the roofline of the memory."""
    rate = MemoryRate(1e3 * bandwidth / clock)
    model = CycleModel(config, rate)
    decode, traffic = model.job(1, 2, context - 2)[1], model.traffic(1, context - 1, True)
    roofline = 1e9 * bandwidth / traffic.total
    found: dict[str, Any] = {
        "clock_mhz": clock,
        "model_error": ERROR,
        "prefill": {"prompt": prompt} | speed(model.job(prompt, 1), prompt, clock),
        "decode": {"context": context} | speed([decode], 1, clock),
        "bytes_per_token": {
            "weights": traffic.weights,
            "head": traffic.head,
            "cache": traffic.cache,
            "parameters": traffic.parameters,
            "total": traffic.total,
        },
        "roofline": {
            "gigabytes_per_second": bandwidth,
            "port_gigabytes_per_second": round(config.ports * config.port_bits / 8 * clock / 1e3, 3)
            if config.memory == "axi"
            else None,
            "tokens_per_second": round(roofline, 2),
        },
    }
    if config.memory == "axi":
        found["roofline"]["share"] = round(found["decode"]["tokens_per_second"] / roofline, 4)
    return found


def resources(found: Synthesis) -> dict[str, Any]:
    """Return what a part takes."""
    return {name: getattr(found, name) for name in ("lut", "lutram_as_lut", "ff", "carry", "dsp", "bram", "uram")}


def _check(config: AcceleratorConfig, prompt: int, context: int) -> None:
    most = config.shape.context
    for name, value in (("--prompt", prompt), ("--context", context)):
        if not 2 <= value <= most:
            raise InputError(f"{name} is {value}; allowed: 2 to the model's context, {most}")


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What tokens a second are computed with."""

    clock: float | None
    bandwidth: float
    prompt: int | None
    context: int | None


@click.command("report")
@machine_options
@click.option("--target", required=True, type=click.Choice(list(TARGETS)), help="FPGA family.")
@click.option("--portable", is_flag=True, help="Use plain operators instead of the target's arithmetic forms.")
@click.option("--pnr", is_flag=True, help="Place and route too, with one seed, where nextpnr supports the family.")
@click.option("--no-synthesis", is_flag=True, help="Cycles and roofline only.")
@bundle(
    "given",
    Assumed,
    click.option("--clock", type=POSITIVE, help="MHz for tokens a second; Fmax with --pnr, else 250 on xcup and 100."),
    click.option("--bandwidth", type=POSITIVE, default=BANDWIDTH, show_default=True, help="GB/s of the memory."),
    click.option(
        "--prompt", type=Integer(), help="Tokens of the prefill; 64, or as many as the context holds, if absent."
    ),
    click.option("--context", type=Integer(), help="Tokens that a decoded one sees; 512, or all, if absent."),
)
@json_option
def command(
    choice: Choice, target: str, portable: bool, pnr: bool, no_synthesis: bool, given: Assumed, as_json: bool
) -> None:
    """Report resources by module, tokens a second by step, and the roofline of the memory."""
    torch.set_num_threads(1)
    clock, bandwidth, prompt, context = given.clock, given.bandwidth, given.prompt, given.context
    if pnr and no_synthesis:
        raise InputError("--pnr needs synthesis; --no-synthesis leaves it out")
    if pnr:
        check_routable(target)
    arithmetic = None if portable or target not in ARITHMETIC else target
    config, model = choice.for_target(arithmetic).build(weights=not no_synthesis)
    most = config.shape.context
    prompt, context = min(64, most) if prompt is None else prompt, min(512, most) if context is None else context
    assumed = clock if clock is not None else CLOCKS.get(target, 100.0)
    _check(config, prompt, context)
    result: dict[str, Any] = {
        "model": choice.name,
        "engine": config.engine.name,
        "memory": config.memory,
        "lanes": config.lanes,
        "tile": config.tile,
        "macs_per_cycle": config.engine_config.macs_per_cycle,
        "target": target,
    }
    timing: Timing | None = None
    if not no_synthesis:
        with status(f"synthesising for {find_target(target).description}") as say:
            found = synthesise_machine(config, model, target, pnr)
            if pnr:
                assert found.total.netlist is not None
                say("placing and routing")
                timing = place_and_route(found.total.netlist, TOP, target, seeds=(1,))
        result["resources"] = {"total": resources(found.total)}
        result["resources"]["parts"] = {name: resources(part) for name, part in found.parts.items()}
        result["fmax_mhz"] = timing.fmax_mhz if timing else None
        result["tool"] = found.total.tool
    if timing is not None and timing.fmax_mhz is not None and clock is None:
        assumed = timing.fmax_mhz
    result |= figures(config, assumed, bandwidth, prompt, context)
    if as_json:
        print_json(result)
        return
    show(result)


def show(result: dict[str, Any]) -> None:
    """Print the figures as tables."""
    if "resources" in result:
        table = Table(
            box=None, pad_edge=False, title=f"{result['model']} on {find_target(result['target']).description}"
        )
        table.add_column("module")
        for name in ("LUT", "of them memory", "flip-flops", "multipliers", "block RAM", "large RAM"):
            table.add_column(name, justify="right")
        rows = sorted(result["resources"]["parts"].items(), key=lambda row: -row[1]["lut"])
        for name, part in [*rows, ("total", result["resources"]["total"])]:
            values = [part[key] for key in ("lut", "lutram_as_lut", "ff", "dsp", "bram", "uram")]
            table.add_row(name.removeprefix(f"{TOP}__"), *(f"{value:,g}" for value in values))
        stdout.print(table)
        if result["fmax_mhz"]:
            stdout.print(f"Fmax {result['fmax_mhz']:.1f} MHz", highlight=False)
    table = Table(box=None, pad_edge=False, title=f"cycles by step, and tokens a second at {result['clock_mhz']:g} MHz")
    table.add_column("step")
    for name in ("prefill", "decode"):
        table.add_column(name, justify="right")
    both = (result["prefill"], result["decode"])
    for step in Step:
        table.add_row(step.name, *(f"{each['steps'][step.name]:,}" for each in both))
    table.add_row("all", *(f"{each['cycles']:,}" for each in both))
    table.add_row("waiting for weights", *(f"{each['waiting_for_weights']:,}" for each in both))
    table.add_row("tokens a second", *(f"{each['tokens_per_second']:,.1f}" for each in both))
    table.caption = (
        f"prompt of {both[0]['prompt']}, decode at context {both[1]['context']}; a model of cycles, within "
        f"{100 * result['model_error']:g} % of simulated machines"
    )
    stdout.print(table)
    roof, moved = result["roofline"], result["bytes_per_token"]
    share = f"; the machine reaches {100 * roof['share']:.0f} % of it" if "share" in roof else ", were they in DRAM"
    stdout.print(
        f"roofline: {moved['total']:,} bytes a token at {roof['gigabytes_per_second']:g} GB/s are "
        f"{roof['tokens_per_second']:,.1f} tokens a second{share}",
        highlight=False,
    )
