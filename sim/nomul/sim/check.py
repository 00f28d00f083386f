"""Simulates an engine on matrices and vectors, and compares what it says with plain PyTorch."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomul.catalog import pack_activations, pack_weights
from nomul.cores.discover import find_core
from nomul.draw import Draw
from nomul.engines.matmul import TOKENS_MAX
from nomul.errors import InputError
from nomul.flow.rtlil import verilog
from nomul.flow.tops import make_top
from nomul.formats.job import pack_lanes
from nomul.formats.mixpe import Operands
from nomul.sim.bench import REPLAYED, Case
from nomul.sim.evidence import Evidence
from nomul.sim.grouped import random_groups
from nomul.sim.replay import add_replay
from nomul.sim.runner import Simulator, build

__all__ = [
    "Product",
    "Run",
    "bench_engine",
    "build_engine",
    "build_netlist",
    "check_product",
    "expect",
    "fits",
    "oracle",
    "padded",
    "random_product",
    "rows_beyond",
]


@dataclasses.dataclass(frozen=True)
class Product:
    """One job: weights [n_out, n_in] and activations [tokens, n_in], in one of the engine's modes.

    Both are integers, weights int8; in a format 'fp16' they are bit patterns as numbers of 16 bits, two's complement.
    In place of a matrix of weights there may be what stands for one: something with a `shape` that can `dequantise`

    The weights are int8 [n_out, n_in], or what stands for such a matrix: something with a `shape` that can `dequantise`
    itself to integers, as `nomul.formats.mixpe.Operands`.
    """

    weight: Tensor | Operands
    activations: Tensor
    mode: int = 0

    def __post_init__(self) -> None:
        """Check that the shapes go together."""
        if (
            len(self.weight.shape) != 2
            or self.activations.ndim != 2
            or self.weight.shape[1] != self.activations.shape[1]
        ):
            raise InputError(
                f"activations have shape {list(self.activations.shape)}; "
                f"weights of shape {list(self.weight.shape)} want [tokens, {self.weight.shape[-1]}]"
            )

    @property
    def job(self) -> dict[str, int]:
        """The job as the engine is told it."""
        n_out, n_in = self.weight.shape
        return {"n_in": n_in, "n_out": n_out, "tokens": len(self.activations), "mode": self.mode}


def oracle(weight: Tensor | Operands, activations: Tensor) -> Tensor:
    """Return y = W a for every token: plain torch on unpacked tensors, int64 [tokens, n_out]."""
    whole = weight if isinstance(weight, Tensor) else weight.dequantise()
    return activations.long() @ whole.long().T


def expect(engine: str, config: Any, product: Product) -> Tensor:
    """Return what an engine makes of a product, int64 [tokens, n_out]: `oracle`, or the golden model of an FP16 one."""
    assert isinstance(product.weight, Tensor) or config.modes[product.mode].activation_format == "integer"
    special = find_core(engine).expect
    if special is not None and isinstance(product.weight, Tensor):
        return special(config, product.weight, product.activations)
    return oracle(product.weight, product.activations)


def rows_beyond(engine: str, config: Any, product: Product) -> Tensor:
    """Return the results of rows beyond n_out, int64 [tokens]: zero, or in FP16 what zero weights give."""
    if config.modes[product.mode].activation_format == "integer" or not isinstance(product.weight, Tensor):
        return torch.zeros(len(product.activations), dtype=torch.int64)
    nothing = dataclasses.replace(product, weight=torch.zeros_like(product.weight[:1]))
    return expect(engine, config, nothing)[:, 0]


def fits(config: Any, product: Product) -> None:
    """Raise InputError if a product is larger than an engine takes, or has a value that its mode does not have."""
    for name, length, most in (
        ("n_in", product.weight.shape[1], config.n_in_max),
        ("n_out", product.weight.shape[0], config.n_out_max),
        ("tokens", len(product.activations), TOKENS_MAX),
    ):
        if not 1 <= length <= most:
            remedy = f"; set {name}_max to {length} or more" if length and name != "tokens" else ""
            raise InputError(f"{name} is {length}; this engine takes 1 to {most}{remedy}")
    kinds = config.modes[product.mode]
    for name, operand, values in (
        ("weight", product.weight, kinds.weight_values),
        ("activation", product.activations, kinds.activation_values),
    ):
        if values.step == 1 or not isinstance(operand, Tensor):
            continue  # their packers say so
        wrong = (operand < values.start) | (operand >= values.stop) | ((operand - values.start) % values.step != 0)
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            allowed = ", ".join(str(value) for value in values)
            raise InputError(
                f"the {name} at [{row}, {column}] is {operand[row, column]}; mode {kinds.name!r} takes {allowed}"
            )


def build_engine(
    engine: str, config: Any, simulator: str = "verilator", bus: str = "stream", *, waves: bool = False
) -> Simulator:
    """Generate an engine or a unit on a bus of `nomul.flow.tops.BUSES` and build a simulator of it.

    The wide streams of a bare engine are replayed from files; a unit's bench drives all of its streams itself.
    """
    component, top = make_top(engine, config, bus)
    text = verilog(component, top)
    if bus == "stream" and find_core(engine).multiplies:
        text, top = add_replay(text, top, REPLAYED)
    return build(text, top, simulator, config.target, waves=waves)


def build_netlist(text: str, engine: str) -> Simulator:
    """Build a simulator, which counts toggles, of Verilog that has the ports of an engine on bare streams."""
    text, top = add_replay(text, engine, REPLAYED)
    return build(text, top, activity=True)


@dataclasses.dataclass(frozen=True)
class Run:
    """Products that run one after the other through an engine; the next is offered while the last is still running."""

    products: Sequence[Product]

    stall: float = 0.0
    """Probability that a stream waits, in each cycle, for each stream."""

    seed: int = 0
    """Of the stalls."""

    reset_after: int | None = None
    """First run everything for so many cycles, then reset and start again."""

    illegal_first: dict[str, int] | None = None
    illegal_last: dict[str, int] | None = None
    """Jobs that the engine must refuse, given before and after the products."""


def bench_engine(
    simulator: Simulator,
    engine: str,
    config: Any,
    runs: Sequence[Run],
    bus: str = "stream",
    activity: Path | None = None,
    folder: Path | None = None,
    waves: Path | None = None,
) -> list[dict[str, Any]]:
    """Drive runs through a built engine, with a reset before each; return what the bench says of each.

    What it expects is what `expect` says. With `activity`, a simulator of `build_netlist` writes toggles there; with
    `waves`, one that was built for them writes the values of signals. Everything of the runs is put into `folder`, if
    it is given.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-case-") as temporary:
        cases = []
        for number, run in enumerate(runs):
            file = (folder or Path(temporary)) / f"arrays{number}.npz"
            cases.append(dataclasses.asdict(_case(engine, config, run, file)))
        if bus == "stream":
            said = simulator.run("nomul.sim.bench", {"cases": cases}, activity=activity, folder=folder, waves=waves)
            return said["results"]
        # The AXI bench runs one case in each simulation.
        more: dict[str, Any] = {"folder": folder, "waves": waves}
        return [simulator.run("nomul.sim.axi_bench", {"cases": [case]}, **more)["results"][0] for case in cases]


def padded(config: Any, product: Product) -> Tensor:
    """Fill the last transfer of each vector with legal values, which must not change a result."""
    missing = -product.activations.shape[1] % config.activation_lanes
    if getattr(config, "padding", "any") == "zero":
        return product.activations
    values = config.modes[product.mode].activation_values
    random = torch.Generator().manual_seed(missing)
    shape = (len(product.activations), missing)
    filling = values.start + values.step * torch.randint(len(values), shape, generator=random)
    return torch.cat([product.activations.long(), filling], dim=1)


def _case(engine: str, config: Any, run: Run, file: Path) -> Case:
    arrays: dict[str, Any] = {}
    for number, product in enumerate(run.products):
        fits(config, product)
        arrays[f"activations{number}"] = pack_activations(config, padded(config, product))
        arrays[f"weights{number}"] = pack_weights(engine, config, product.weight, product.mode)
        arrays[f"expected{number}"] = expect(engine, config, product).numpy()
        arrays[f"padding{number}"] = rows_beyond(engine, config, product).numpy()
    np.savez(file, **arrays)
    model = sum(config.cycles(**product.job) for product in run.products)
    return Case(
        jobs=[product.job for product in run.products],
        arrays=str(file),
        rows=config.rows,
        total_width=config.total_width,
        widths={
            "n_in": config.n_in_max.bit_length(),
            "n_out": config.n_out_max.bit_length(),
            "tokens": TOKENS_MAX.bit_length(),
            "mode": (len(config.modes) - 1).bit_length(),
            "activation": config.act_bits,
        },
        rows_beyond_are_zero=getattr(config, "padding", "any") == "any",
        stall=run.stall,
        seed=run.seed,
        reset_after=run.reset_after,
        illegal_first=run.illegal_first,
        illegal_last=run.illegal_last,
        timeout=int((model + 1000) * 4 / (1 - min(run.stall, 0.9)) ** 2),
    )


def check_product(
    engine: str,
    config: Any,
    product: Product,
    *,
    simulator: str = "verilator",
    bus: str = "stream",
    stall: float = 0.0,
    seed: int = 0,
    waves: Path | None = None,
) -> dict[str, Any]:
    """Simulate one product and return the figures that `nomul check` reports.

    Utilisation is products needed over products that the cycles allowed at full use, stalls and padding included.
    `folder` is where the run was kept, if something differed. The values of all signals are written to `waves`.
    """
    fits(config, product)
    built = build_engine(engine, config, simulator, bus, waves=waves is not None)
    with Evidence() as evidence:
        run = Run([product], stall, seed)
        (said,) = bench_engine(built, engine, config, [run], bus, folder=evidence.folder, waves=waves)
        wrong, folder = said["mismatches"] + said["surplus"], None
        if wrong:
            folder = _keep(evidence, built, engine, config, product, said["differences"])
    n_out, n_in = product.weight.shape
    macs, peak = n_out * n_in * len(product.activations), config.modes[product.mode].macs_per_cycle
    return {
        "n_in": n_in,
        "n_out": n_out,
        "tokens": len(product.activations),
        "outputs": said["outputs"],
        "mismatches": wrong,
        "first_mismatch": said["first_mismatch"],
        "differences": said["differences"],
        "folder": folder,
        "cycles": said["cycles"],
        "model_cycles": config.cycles(**product.job),
        "macs": macs,
        "macs_per_cycle_peak": peak,
        "utilization": macs / (said["cycles"] * peak) if said["cycles"] > 0 else 0.0,
        "seed": seed,
        "seconds": said["seconds"],
    }


def _keep(
    evidence: Evidence, built: Simulator, engine: str, config: Any, product: Product, differences: list[dict[str, Any]]
) -> str:
    """Keep a run that found differences: operands as numbers, streams as transfers; return its folder."""
    expected = expect(engine, config, product)
    operands = {"activations": product.activations.numpy(), "expected": expected.numpy()}
    if isinstance(product.weight, Tensor):
        operands["weights"] = product.weight.numpy()
    else:
        parts = {"codes": product.weight.codes, "zeros": product.weight.zeros, "scales": product.weight.scales}
        operands |= {f"weights_{name}": part.numpy() for name, part in parts.items()}
    beyond = rows_beyond(engine, config, product)[:, None].expand(-1, -expected.shape[1] % config.rows)
    blocks = torch.cat([expected, beyond], dim=1).reshape(-1, config.rows).numpy()
    last = np.tile(np.arange(1, len(blocks) // len(expected) + 1) == len(blocks) // len(expected), len(expected))
    streams = {
        "activations": pack_activations(config, padded(config, product)),
        "weights": pack_weights(engine, config, product.weight, product.mode),
        "results_expected": pack_lanes(blocks, config.total_width, last),
    }
    return evidence.keep(built, operands, streams, differences)


def random_product(n_in: int, n_out: int, tokens: int, config: Any, seed: int, mode: int = 0) -> Product:
    """Return random weights and activations over the full ranges of an engine's mode, the same for the same seed."""
    drawn, kinds = Draw(seed), config.modes[mode]

    def operand(values: range, form: str, *shape: int) -> Tensor:
        if form == "fp16":
            return drawn.words(*shape)
        return values.start + values.step * drawn.integers(0, len(values) - 1, *shape)

    weight = operand(kinds.weight_values, kinds.weight_format, n_out, n_in)
    if kinds.weight_format == "integer":
        weight = weight.to(torch.int8)
    activations = operand(kinds.activation_values, kinds.activation_format, tokens, n_in)
    return Product(random_groups(config, weight, drawn.random, mode), activations, mode)
