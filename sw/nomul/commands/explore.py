"""`nomul explore`: the engine and configuration that serve a model on a device best."""

import dataclasses
from collections.abc import Collection
from typing import Any

import click
from rich.table import Table

from nomul.commands.shapes import find_shape
from nomul.console import json_option, print_json, status, stdout
from nomul.cores.discover import find_core, matmul_cores
from nomul.errors import InputError, ToolError
from nomul.jobs.pool import JobOutcome, ToolJob, run_jobs
from nomul.model.checkpoints import NAMES
from nomul.names import canonical
from nomul.numerals import read_number
from nomul.options import POSITIVE, Integer, bundle
from nomul.report.exploration import NEAR, SHARE, Constraints, DesignPoint, Exploration, front, recommend, search
from nomul.report.measure import cells_job, fpga_job, routed_job
from nomul.report.shapes import SHAPES, Shape, find_device

CONTEXT = 1024
"""Tokens that attention sees unless told, if the model has as many."""

MOST = {"clock": 1e4, "bandwidth": 1e5}
"""The most MHz and GB/s that may be asked for."""

RESOURCES = ("lut", "ff", "bram", "uram", "dsp", "area")
SEEDS = [1]
"""Of place and route: one, since several survivors are compared, not their last per cent."""


def parse_budget(items: tuple[str, ...], target: str) -> dict[str, float]:
    """Read 'lut=5000' and the like; InputError for another resource or a number that is not above 0."""
    budget = {}
    allowed = ("area",) if target == "cells" else RESOURCES[:-1]
    for item in (each for words in items for each in words.replace(",", " ").split()):
        name, _, text = item.partition("=")
        try:
            value = read_number(text)
        except ValueError:
            value = 0.0
        if name not in allowed or not 0 < value < float("inf"):
            raise InputError(
                f"budget '{item}' is not RESOURCE=NUMBER with a number above 0 and a resource of {', '.join(allowed)}"
            )
        budget[name] = value
    return budget


def survivors(found: list[DesignPoint], best: DesignPoint, count: int) -> list[DesignPoint]:
    """Return the recommended choice and others of the front, spread evenly, `count` in all."""
    others = [choice for choice in found if choice is not best]
    picked = others[:: max(1, -(-len(others) // max(1, count - 1)))] if count > 1 else []
    return ([best] if count else []) + picked[: max(0, count - 1)]


def synthesis_job(choice: DesignPoint, question: Constraints) -> ToolJob:
    """Return the job that measures a choice."""
    config, weight = dataclasses.asdict(choice.config), choice.resources[question.size]
    if question.device.target == "cells":
        clock = None if question.device.liberty is None else 1000 / question.clock_mhz
        return cells_job(choice.engine, config, question.device.liberty, clock, weight)
    return fpga_job(choice.engine, config, question.device.target, weight)


def measured_choice(choice: DesignPoint, value: dict[str, Any], clock: float | None) -> DesignPoint:
    """Return a choice with the figures of its synthesis, and its clock if that is lower than the one assumed."""
    resources = {name: value[name] for name in RESOURCES if name in value}
    rate = min(choice.clock_mhz, clock) if clock else choice.clock_mhz
    return dataclasses.replace(choice, resources=resources, measured=True, clock_mhz=rate)


def entry_of(choice: DesignPoint) -> dict[str, Any]:
    """Return a choice as an entry of the command's JSON."""
    return {
        "engine": choice.engine,
        "settings": choice.settings,
        "resources": {name: round(value, 1) for name, value in choice.resources.items()},
        "measured": choice.measured,
        "clock_mhz": round(choice.clock_mhz, 2),
        "decode_tokens_per_second": round(choice.decode_rate, 4),
        "decode_bound": choice.decode_bound,
        "decode_cycles": choice.decode[0],
        "decode_attention_cycles": choice.attention[0],
        "decode_bytes": choice.decode[1] // 8,
        "on_chip": choice.on_chip,
        "prefill_tokens_per_second": round(choice.prefill_rate, 4),
        "prefill_bound": choice.prefill_bound,
        "prefill_cycles": choice.prefill[0],
        "prefill_attention_cycles": choice.attention[1],
        "command": choice.command,
    }


def short(number: float) -> str:
    """Return a rate with three digits."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def sizes_of(choice: DesignPoint, found: list[DesignPoint]) -> str:
    """Return a configuration in words: its size, and each further field in which choices of its engine differ."""
    first = next(name for name in next(iter(find_core(choice.engine).candidates())) if name != "rows")
    words = [f"{getattr(choice.config, first)} x {choice.config.rows}"]
    for field in dataclasses.fields(choice.config):
        values = {getattr(other.config, field.name) for other in found if other.engine == choice.engine}
        if field.name not in (first, "rows") and len(values) > 1:
            value = getattr(choice.config, field.name)
            words.append(value if isinstance(value, str) else f"{field.name} {value}")
    return ", ".join(words)


def table_of(found: list[DesignPoint], best: DesignPoint, question: Constraints) -> Table:
    """Return the front as a table that fits 80 columns."""
    unit = {"lut": "LUT", "area": "area" if question.device.liberty else "GE"}[question.size]
    table = Table(box=None, pad_edge=False, title=f"{question.shape.name} on {question.device.name}")
    for name in ("", "engine", "sizes"):
        table.add_column(name, overflow="fold")
    for name in (unit, "decode/s", "bound", "prefill/s", "bound"):
        table.add_column(name, justify="right")
    for choice in found:
        table.add_row(
            ">" if choice is best else "",
            choice.engine,
            sizes_of(choice, found),
            f"{'' if choice.measured else '~'}{choice.resources[question.size]:,.0f}",
            short(choice.decode_rate),
            choice.decode_bound,
            short(choice.prefill_rate),
            choice.prefill_bound,
        )
    return table


def notes_of(question: Constraints, found: Exploration, best: DesignPoint, given: Collection[str]) -> list[str]:
    """Return what the figures assume; `given` names the options that say what would be assumed without them."""
    device, shape = question.device, question.shape
    cycles, bits = best.decode
    clock = "given" if "clock" in given else "assumed"
    if device.liberty is not None:
        clock += ", or the critical path's where that is slower"
    if best.on_chip:
        memory = f"weights, LM head, keys and values ({bits / 8 / 1024:,.0f} KiB) stay in block memory"
    elif question.bandwidth:
        memory = f"memory {question.bandwidth:g} GB/s, {'given' if 'bandwidth' in given else 'its peak'}"
    else:
        memory = "memory is left out: no --bandwidth"
    notes = [
        f"{found.points:,} configurations in {found.seconds:.2f} s ({found.points / found.seconds:,.0f} a second); ~ "
        "is predicted, the rest synthesised",
        f"clock {question.clock_mhz:g} MHz, {clock}",
        memory,
        f"context {question.context} tokens, prompt {question.prompt}; LM head, keys and values eight bits each",
        f"attention takes {best.attention[0]:,} of the {cycles + best.attention[0]:,} cycles of a token of the "
        "recommended choice; its unit, norms and vector memories take resources that are not in these figures: "
        "nomul accelerator report",
        "budget " + (", ".join(f"{name} {most:,.0f}" for name, most in question.budget.items()) or "none"),
    ]
    size = shape.weights * 1.6 + shape.head_bits + shape.cache_bits(question.context)
    if not best.on_chip and device.memory_mib and size / 8 / 2**20 > device.memory_mib:
        notes.append(
            f"at 1.6 bit a weight the model takes {size / 8 / 2**20:,.0f} MiB; {device.name} has "
            f"{device.memory_mib:,.0f} MiB, so it does not fit"
        )
    return notes


def context_of(shape: Shape, context: int | None, prompt: int) -> int:
    """Return the tokens that attention sees: those asked for, or 1,024, or what the model was made for if less."""
    most = shape.context
    if context is None:
        context = min(CONTEXT, most or CONTEXT)
    elif most is not None and context > most:
        raise InputError(f"--context is {context}; {shape.name} was made for {most} tokens, so allowed: 1 to {most}")
    if prompt > (most or prompt):
        raise InputError(f"--prompt is {prompt}; {shape.name} was made for {most} tokens, so allowed: 1 to {most}")
    return context


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the search stays within, where it is not the device's own."""

    clock: float | None
    bandwidth: float | None
    budget: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Workload:
    """What the machine does."""

    phase: str
    prompt: int
    context: int | None


@dataclasses.dataclass(frozen=True)
class Making:
    """How many points are synthesised, and how."""

    count: int
    pnr: bool
    workers: int | None
    scheduler: str | None


@click.command()
@click.option("--model", required=True, metavar="SHAPE", help=f"{', '.join((*NAMES, *SHAPES))}.")
@click.option("--target", required=True, metavar="T", help="A board, an FPGA family, cells, or a Liberty file.")
@bundle(
    "given",
    Limits,
    click.option("--clock", type=POSITIVE, metavar="MHZ", help="Clock; by default what is usual on the target."),
    click.option("--bandwidth", type=POSITIVE, metavar="GB/S", help="External memory; by default the board's peak."),
    click.option(
        "--budget", multiple=True, metavar="lut=N...", help="Most of a resource; by default 70 % of the board."
    ),
)
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this engine; may be repeated.")
@bundle(
    "workload",
    Workload,
    click.option(
        "--phase",
        type=click.Choice(["decode", "prefill"]),
        default="decode",
        show_default=True,
        help="What the front is drawn for.",
    ),
    click.option("--prompt", default=128, show_default=True, type=Integer(1, 65535), help="Tokens of the prompt."),
    click.option("--context", type=Integer(1), help="Tokens that attention sees; by default 1024, or the model's."),
)
@bundle(
    "making",
    Making,
    click.option(
        "--synthesise",
        "count",
        default=4,
        show_default=True,
        type=Integer(0, 100),
        help="Points of the front to synthesise.",
    ),
    click.option("--pnr", is_flag=True, help="Place and route them too, for their clock."),
    click.option("--workers", type=Integer(1), help="Processes; as many as there are cores by default."),
    click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers synthesise."),
)
@json_option
def command(
    model: str, target: str, given: Limits, engines: tuple[str, ...], workload: Workload, making: Making, as_json: bool
) -> None:
    """Exploration engine and configuration for a model on a device: cost models first, then synthesis of the best."""
    shape, device = find_shape(model), find_device(target)
    clock, bandwidth, phase, prompt = given.clock, given.bandwidth, workload.phase, workload.prompt
    for name, value in (("clock", clock), ("bandwidth", bandwidth)):
        if value is not None and value > MOST[name]:
            raise InputError(f"--{name} is {value:g}; allowed: above 0, at most {MOST[name]:g}")
    if making.pnr and device.target not in ("ecp5", "gowin", "ice40"):
        raise InputError(f"--pnr is not possible on {device.name}; nextpnr supports ecp5, gowin and ice40")
    for engine in engines:
        if canonical(engine, matmul_cores()) not in matmul_cores():
            raise InputError(f"no engine is called '{engine}'; the engines are {', '.join(matmul_cores())}")
    asked = parse_budget(given.budget, device.target)
    limits = asked or {name: float(round(SHARE * most)) for name, most in device.resources.items()}
    question = Constraints(
        shape, device, clock or device.clock_mhz, bandwidth or device.bandwidth, limits, prompt,
        context_of(shape, workload.context, prompt), tuple(canonical(engine, matmul_cores()) for engine in engines),
        device.usable_bits(asked),
    )  # fmt: skip
    with status("searching") as say:
        result = search(question, say)
    found = front(result.choices, question.size, phase)
    best = recommend(found, phase)
    tried: list[DesignPoint] = []
    refused: list[str] = []
    if making.count:
        chosen = survivors(found, best, making.count)
        outcomes = run_jobs(
            [synthesis_job(choice, question) for choice in chosen],
            workers=making.workers, scheduler=making.scheduler, description="synthesising",
        )  # fmt: skip
        clocks = _clocks(chosen, outcomes, question, making)
        for choice, outcome, limit in zip(chosen, outcomes, clocks, strict=True):
            if outcome.value is None:
                refused.append(f"{choice.engine} {choice.settings}: {outcome.error}")
                continue
            made = measured_choice(choice, outcome.value, limit)
            over = [name for name, most in limits.items() if made.resources.get(name, 0) > most]
            if over:
                refused.append(f"{choice.engine} {choice.settings}: over the budget of {', '.join(over)}")
            else:
                tried.append(made)
        if not tried:
            raise ToolError(f"no point of the front could be made: {'; '.join(refused)}")
        best = recommend(front(tried, question.size, phase), phase)
        found = front([*tried, *(choice for choice in found if choice not in chosen)], question.size, phase)
        if best not in found:
            found = sorted([*found, best], key=lambda choice: choice.resources[question.size])
    own = [name for name, value in (("clock", clock), ("bandwidth", bandwidth)) if value is not None]
    notes = notes_of(question, result, best, own)
    if as_json:
        print_json(
            {
                "model": {"name": shape.name, "weights": shape.weights, "source": shape.source},
                "target": {"name": device.name, "family": device.target, "source": device.source},
                "phase": phase,
                "clock_mhz": question.clock_mhz,
                "bandwidth_gb_s": question.bandwidth,
                "context": question.context,
                "prompt": prompt,
                "budget": limits,
                "points": result.points,
                "points_per_second": round(result.points / result.seconds),
                "front": [entry_of(choice) for choice in found],
                "synthesised": [entry_of(choice) for choice in tried],
                "refused": refused,
                "recommended": entry_of(best),
                "notes": notes,
            }
        )
        return
    stdout.print(table_of(found, best, question))
    for note in [*notes, *refused]:
        stdout.print(note, markup=False, highlight=False)
    stdout.print(f"\nsmallest within {1 - NEAR:.0%} of the best {phase} rate:", highlight=False)
    stdout.print(f"  {best.command}", markup=False, highlight=False, soft_wrap=True)


def _clocks(
    chosen: list[DesignPoint], outcomes: list[JobOutcome], question: Constraints, making: Making
) -> list[float | None]:
    """Return the clock in MHz that each choice reaches, where a tool says; None where it does not."""
    if question.device.target == "cells":
        paths = [(outcome.value or {}).get("critical_path_ns") for outcome in outcomes]
        return [1000 / path if path and question.device.liberty else None for path in paths]
    if not making.pnr:
        return [None for _ in chosen]
    jobs = [
        routed_job(
            choice.engine, dataclasses.asdict(choice.config), question.device.target, SEEDS, choice.resources["lut"]
        )
        for choice in chosen
    ]
    routed = run_jobs(jobs, workers=making.workers, scheduler=making.scheduler, description="placing and routing")
    return [(outcome.value or {}).get("fmax_mhz") for outcome in routed]
