"""The search for the engine and configuration that serve a model on a device best.

How a rate is reckoned, the same for every engine:

* A token of decoding passes every projection as a job of its own; its cycles are the exact ones of the engine's cost
  model. Attention stands between projections and takes a cycle for each row of keys and of values of each head, as this
  repository's unit does. Meanwhile the weights come from external memory once, in the engine's own code, and so do the
  LM head (eight bits a weight) and the keys and values of `context` tokens (eight bits each). The slower of the two is
  the rate: compute-bound or memory-bound.
* Where all of that fits a device's block memory (`FILLED` of it) it stays there, and memory limits nothing.
* A prompt of `prompt` tokens passes each projection as one job. An engine takes the whole matrix again for every token;
  half of the device's block memory is taken as a buffer, so that external memory is read once for each part of a matrix
  that fits. Without block memory it is read for every token.
* Norms and the head's arithmetic run beside the engine and are not reckoned; resources are the engine's alone. The
  clock is an assumption on an FPGA unless the survivors are placed and routed.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nomul.asic.gate_library import generic_library
from nomul.asic.liberty import Library, read_liberty
from nomul.cores.discover import cores, find_core
from nomul.errors import InputError
from nomul.report.cost import arithmetic, cost_model, modelled
from nomul.report.shapes import Device, Shape

__all__ = ["Constraints", "DesignPoint", "Exploration", "front", "recommend", "search", "serving"]

SHARE = 0.7
"""Share of a board that the engine may take, unless a budget is given: the rest is for what stands around it."""

FILLED = 0.9
"""Share of block memory that a model may fill: the rest is the engine's own, and words that do not fill a block."""

STEADY = 8
"""Tokens after which a job's pace does not change."""

NEAR = 0.95
"""The recommended point is the smallest of those that reach this share of the best rate."""


@dataclasses.dataclass(frozen=True)
class Constraints:
    """What is asked: a model, a device, and the conditions."""

    shape: Shape
    device: Device
    clock_mhz: float
    bandwidth: float | None
    """GB/s of external memory; None leaves memory out."""
    budget: Mapping[str, float]
    """The most of each resource: lut, ff, bram, uram, dsp, or area."""
    prompt: int = 128
    context: int = 1024
    engines: tuple[str, ...] = ()
    """Only these, if any are named."""
    on_chip_bits: int | None = None
    """Bits of block memory that may be used; None is all that the device has."""

    @property
    def block_bits(self) -> int:
        """Bits of block memory that may be used."""
        return self.device.on_chip_bits if self.on_chip_bits is None else self.on_chip_bits

    @property
    def size(self) -> str:
        """The resource that the front is drawn over."""
        return "area" if self.device.target == "cells" else "lut"


@dataclasses.dataclass(frozen=True)
class DesignPoint:
    """An engine's configuration with its resources and rates."""

    engine: str
    config: Any
    mode: int
    resources: Mapping[str, float]
    measured: bool
    """Whether the resources are those of a synthesis, not predictions."""
    clock_mhz: float
    question: Constraints

    @functools.cached_property
    def decode(self) -> tuple[int, int]:
        """Cycles of a token's projections, and the bits that it reads, wherever they lie."""
        shape, config, mode, cycles, bits = self.question.shape, self.config, self.mode, 0, 0
        for (n_out, n_in), count in shape.matrices.items():
            cycles += count * config.cycles(n_in, n_out, 1, mode)
            bits += count * config.weight_stream_bits(n_in, n_out, mode)
        return cycles, bits + shape.head_bits + shape.cache_bits(self.question.context)

    @functools.cached_property
    def prefill(self) -> tuple[int, int]:
        """Cycles of a prompt's projections, and the bits that it reads, wherever they lie."""
        shape, config, mode, cycles, bits = self.question.shape, self.config, self.mode, 0, 0
        tokens = self.question.prompt
        buffer = self.decode[1] if self.on_chip else self.question.block_bits // 2
        for (n_out, n_in), count in shape.matrices.items():
            matrix = config.weight_stream_bits(n_in, n_out, mode)
            parts = -(-matrix // buffer) if buffer else 1
            part = min(n_out, -(n_out // -parts // config.rows) * config.rows)
            whole, rest = divmod(n_out, part)
            cycles += count * whole * prompt_cycles(config, n_in, part, tokens, mode)
            cycles += count * prompt_cycles(config, n_in, rest, tokens, mode) if rest else 0
            bits += count * matrix * (1 if buffer else -(-tokens // config.tokens_together))
        return cycles, bits + shape.head_bits

    @property
    def on_chip(self) -> bool:
        """Whether weights, LM head, keys and values stay in block memory."""
        return self.decode[1] <= FILLED * self.question.block_bits

    @property
    def attention(self) -> tuple[int, int]:
        """Cycles of attention of a token, and of a prompt, whose tokens see those before them."""
        question = self.question
        rows = 2 * question.shape.layers * question.shape.heads
        return rows * question.context, rows * question.prompt * (question.prompt + 1) // 2

    def _seconds(self, cycles: int, bits: int) -> tuple[float, float]:
        bandwidth = None if self.on_chip else self.question.bandwidth
        return cycles / (self.clock_mhz * 1e6), bits / 8 / (bandwidth * 1e9) if bandwidth else 0.0

    @property
    def _decoding(self) -> tuple[float, float]:
        cycles, bits = self.decode
        return self._seconds(cycles + self.attention[0], bits)

    @property
    def _prompting(self) -> tuple[float, float]:
        cycles, bits = self.prefill
        return self._seconds(cycles + self.attention[1], bits)

    @property
    def decode_rate(self) -> float:
        """Tokens a second, one after the other."""
        return 1 / max(self._decoding)

    @property
    def decode_bound(self) -> str:
        """What limits decoding: 'memory' or 'compute'."""
        compute, memory = self._decoding
        return "memory" if memory > compute else "compute"

    @property
    def prefill_rate(self) -> float:
        """Tokens of the prompt a second."""
        return self.question.prompt / max(self._prompting)

    @property
    def prefill_bound(self) -> str:
        """What limits the prompt: 'memory' or 'compute'."""
        compute, memory = self._prompting
        return "memory" if memory > compute else "compute"

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that differ from the defaults, the target left out."""
        return {
            field.name: getattr(self.config, field.name)
            for field in dataclasses.fields(self.config)
            if field.name != "target" and getattr(self.config, field.name) != field.default
        }

    @property
    def command(self) -> str:
        """The command that writes it as Verilog."""
        fields = "".join(f" --set {name}={value}" for name, value in self.settings.items())
        return f"nomul verilog {self.engine}{fields} --target {self.config.target} -o build/verilog"


@dataclasses.dataclass(frozen=True)
class Exploration:
    """What the cost models say: the choices within the budget, how many there were, and how long it took."""

    choices: tuple[DesignPoint, ...]
    points: int
    seconds: float


def serving(shape: Shape, target: str, engines: Sequence[str] = ()) -> dict[str, str]:
    """Return the engines that can serve a model on a target, with the mode of each.

    Raises
    ------
    InputError
        If an engine is named that cannot, or none can.
    """
    able = {name: core.serves[shape.arithmetic] for name, core in cores().items() if shape.arithmetic in core.serves}
    fitted = modelled(target)
    for engine in engines:
        if engine not in able:
            raise InputError(
                f"engine '{engine}' does not compute {shape.arithmetic} projections; choose from {', '.join(able)}"
            )
        cost_model(engine, target)
    found = {name: mode for name, mode in able.items() if name in fitted and (not engines or name in engines)}
    if not found:
        raise InputError(f"no engine with a cost model on target '{target}' computes {shape.arithmetic} projections")
    return found


def candidates(engine: str, shape: Shape, target: str) -> Iterator[Any]:
    """Yield the configurations that are looked at; values that do not go together are passed over."""
    core = find_core(engine)
    longest = {"n_in_max": shape.n_in_max, "n_out_max": shape.n_out_max, "target": arithmetic(target)}
    for fields in core.candidates():
        try:
            yield core.gateware.config(**fields, **longest)
        except ValueError:
            continue


def gate_area(device: Device) -> float:
    """Return the area of a gate equivalent in a device's library: that of its smallest NAND of two inputs."""
    library: Library = generic_library() if device.liberty is None else read_liberty(device.liberty)
    nand = library.matching(7, inputs=2)
    return nand[0].area if nand else 1.0


def search(question: Constraints, progress: Callable[[str], None] = lambda step: None) -> Exploration:
    """Return every choice whose predicted resources are within the budget.

    Raises
    ------
    InputError
        As `serving` does, or if the budget names a resource that is not predicted or holds nothing.
    """
    start = time.perf_counter()
    shape, device = question.shape, question.device
    gate = gate_area(device) if device.target == "cells" else 1.0
    choices: list[DesignPoint] = []
    points, smallest = 0, math.inf
    for engine, mode_name in serving(shape, device.target, question.engines).items():
        progress(f"searching {engine}")
        model = cost_model(engine, device.target)
        for config in candidates(engine, shape, device.target):
            points += 1
            resources = {name: value * gate for name, value in model.predict(config).items()}
            smallest = min(smallest, resources[question.size])
            if any(resources.get(name, 0) > most for name, most in question.budget.items()):
                continue
            mode = [each.name for each in config.modes].index(mode_name)
            choice = DesignPoint(engine, config, mode, resources, False, question.clock_mhz, question)
            if choice.decode_rate > 0:
                choices.append(choice)
    if not choices:
        raise InputError(
            f"nothing fits the budget of {question.budget[question.size]:,.0f} {question.size}; "
            f"the smallest choice takes about {smallest:,.0f}"
            if question.size in question.budget
            else "nothing fits the budget"
        )
    return Exploration(tuple(choices), points, time.perf_counter() - start)


def prompt_cycles(config: Any, n_in: int, n_out: int, tokens: int, mode: int) -> int:
    """Return `config.cycles`, exactly, without walking through every token.

    From `STEADY` tokens on each takes as long as the second before it: engines hold two vectors, and whatever is
    slower, loading or computing, sets the pace. Cores that take several together have formulas for any number.
    """
    if tokens <= STEADY or config.tokens_together > 1:
        return int(config.cycles(n_in, n_out, tokens, mode))
    pairs, odd = divmod(tokens - STEADY, 2)
    before, last = (config.cycles(n_in, n_out, STEADY + odd - back, mode) for back in (2, 0))
    return int(last + pairs * (last - before))


def front(choices: Sequence[DesignPoint], size: str, phase: str = "decode") -> list[DesignPoint]:
    """Return the Pareto front: no other choice is both smaller and faster in `phase`. Smallest first."""

    def rate(choice: DesignPoint) -> float:
        return choice.decode_rate if phase == "decode" else choice.prefill_rate

    best, found = 0.0, []
    for choice in sorted(choices, key=lambda choice: (choice.resources[size], -rate(choice))):
        if rate(choice) > best * (1 + 1e-9):
            best = rate(choice)
            found.append(choice)
    return found


def recommend(found: Sequence[DesignPoint], phase: str = "decode") -> DesignPoint:
    """Return the smallest choice of a front that comes near its best rate (`NEAR`)."""
    rates = [choice.decode_rate if phase == "decode" else choice.prefill_rate for choice in found]
    return next(choice for choice, rate in zip(found, rates, strict=True) if rate >= NEAR * max(rates))
