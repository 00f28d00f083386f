"""What a machine's taps must say, by the integer model, and the first place where they do not.

The taps of `nomul.accelerators.machine` write, in order, what passes: sums of projections, codes of norms, rows of
heads, words of the residual stream, hidden vectors, and the scales that are kept. The integer model runs the same tiles
and records the same values (docs/numerics.md names them); here they are put into the machine's order.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nomul.accelerator_image import head_matrix, head_order
from nomul.accelerators.config import AcceleratorConfig, Projection
from nomul.accelerators.lm_head import logit_bits
from nomul.golden.activation import relu2_gate, silu_gate
from nomul.golden.requantise import requantise
from nomul.golden.scale import Scale, multiply
from nomul.model.integer import IntegerModel

__all__ = ["Difference", "Event", "compare", "expected"]


@dataclasses.dataclass(frozen=True)
class Event:
    """A run of transfers at one tap: values [transfers, lanes] of one tensor of the integer model."""

    tap: str
    name: str
    """As `nomul trace` names it, with the position of the first token."""
    values: Tensor


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first value, in time, that differs."""

    name: str
    transfer: int
    lane: int
    got: int
    expected: int
    cycle: int

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"{self.name} differs in transfer {self.transfer}, lane {self.lane}: the machine has {self.got}, the "
            f"integer model {self.expected} (cycle {self.cycle})"
        )


def expected(model: IntegerModel, config: AcceleratorConfig, prompt: Tensor, tokens: list[int]) -> Iterator[Event]:
    """Yield the events of every tap, pass by pass; `tokens` are those that the machine chose."""
    caches = model.caches()
    stream = torch.cat((prompt, torch.tensor(tokens, dtype=prompt.dtype)))
    start = 0
    while start < len(stream) - 1:
        count = min(config.tile, len(prompt) - start) if start < len(prompt) else 1
        seen: dict[str, Tensor] = {}
        model.forward(stream[None, start : start + count], caches, seen.__setitem__)
        yield from _pass(model, config, seen, start, start + count >= len(prompt))
        start += count


def _pass(
    model: IntegerModel, config: AcceleratorConfig, seen: dict[str, Tensor], start: int, final: bool
) -> Iterator[Event]:
    lanes, shape = config.lanes, config.shape
    order = head_order(shape.head_dim, lanes)

    def event(tap: str, name: str, values: Tensor, projection: Projection | None = None) -> Event:
        """Return values [tokens, n]; those of a projection come chunk by chunk."""
        chunks = 1 if projection is None else config.chunks(projection)
        ordered = values.reshape(-1, chunks, values[0].numel() // chunks).transpose(0, 1) if chunks > 1 else values
        return Event(tap, f"{name} (tokens from {start})", ordered.reshape(-1, lanes))

    yield event("residual", "embedding", seen["embedding"][0])
    for layer in model.layers:
        at = f"layers.{layer.index}."
        heads = {}
        for name in ("q_proj", "k_proj"):
            heads[name] = seen[at + name][0].unflatten(-1, (-1, shape.head_dim))[..., order].flatten(1)
        yield event("codes", at + "attention.input", seen[at + "attention.input"][0])
        sums = torch.cat((heads["q_proj"], heads["k_proj"], seen[at + "v_proj"][0]), -1)
        yield event("sums", at + "q_proj, k_proj, v_proj", sums, Projection.QKV)
        yield Event(
            "rows",
            f"{at}attention.query, key, value (tokens from {start})",
            _rows(seen, at, order, config.chunks(Projection.QKV)),
        )
        output = seen[at + "attention.output"][0].transpose(0, 1)  # [tokens, heads, head_dim]
        # Tokens that share rows come head by head.
        shared = [part.transpose(0, 1).flatten(0, 1) for part in output.split(config.queries)]
        yield event("hidden", at + "attention.output", torch.cat(shared))
        yield event("codes", at + "attention.sub_norm", seen[at + "attention.sub_norm"][0])
        yield event("sums", at + "o_proj", seen[at + "o_proj"][0], Projection.OUT)
        yield event("residual", at + "attention.residual", seen[at + "attention.residual"][0], Projection.OUT)
        yield event("codes", at + "mlp.input", seen[at + "mlp.input"][0])
        gate, up = seen[at + "gate_proj"][0], seen[at + "up_proj"][0]
        both = torch.stack((gate.unflatten(-1, (-1, lanes)), up.unflatten(-1, (-1, lanes))), dim=2)
        yield event("sums", at + "gate_proj, up_proj", both, Projection.GATE_UP)
        if shape.activation == "relu2":
            products = relu2_gate(gate, up)
        else:
            scale = Scale(seen[at + "mlp.input_scale.mantissa"][0], seen[at + "mlp.input_scale.exponent"][0])
            unit = multiply(multiply(scale, layer.gate_unit), layer.silu_unit).unsqueeze(-1)
            products = silu_gate(requantise(gate, unit), up)
        yield event("hidden", at + "gated products", products, Projection.GATE_UP)
        yield event("codes", at + "mlp.sub_norm", seen[at + "mlp.sub_norm"][0])
        yield event("sums", at + "down_proj", seen[at + "down_proj"][0], Projection.DOWN)
        yield event("residual", at + "mlp.residual", seen[at + "mlp.residual"][0], Projection.DOWN)
    if final:
        codes = seen["norm"][0, -1]
        yield event("codes", "norm", codes)
        beyond = torch.zeros(config.head_blocks * lanes - shape.vocabulary, dtype=torch.int64)
        yield event("logits", "logits", torch.cat((seen["logits"][0, -1], beyond)))
        yield event("sums", "digits of the logits", head_matrix(model.head, config).long() @ codes)


def _rows(seen: dict[str, Tensor], at: str, order: Tensor, chunks: int) -> Tensor:
    """Return the rows of all heads, chunk by chunk and token by token: codes, then mantissa, exponent and word of the
    scale.

    What a row has no use for is -1.
    """
    q, k, v = (seen[f"{at}attention.{name}"][0].transpose(0, 1) for name in ("query", "key", "value"))
    q_scale = torch.stack(
        [seen[f"{at}attention.query_scale.{part}"][0].transpose(0, 1) for part in ("mantissa", "exponent")], dim=-1
    )
    none = torch.iinfo(torch.int64).min
    parts = [torch.cat((q[..., order], q_scale, torch.full((*q.shape[:2], 1), none)), -1)]
    for codes, name in ((k[..., order], "key"), (v, "value")):
        word = seen[f"{at}attention.{name}_scale"][0].transpose(0, 1)[..., None]
        parts.append(torch.cat((codes, torch.full((*codes.shape[:2], 2), none), word), -1))
    return torch.cat(parts, dim=1).unflatten(1, (chunks, -1)).transpose(0, 1).flatten(0, 2)


def _widths(config: AcceleratorConfig, tap: str) -> list[tuple[int, bool]]:
    """Return width and sign of each value of a tap's transfer, lowest first."""
    lanes, shape = config.lanes, config.shape
    if tap == "rows":
        return [(8, True)] * shape.head_dim + [(16, False), (10, True), (16, False)]
    if tap == "logits":
        return [(logit_bits(config), True)] * lanes
    width = {"codes": 8, "sums": config.sum_bits, "residual": 20, "hidden": config.product_bits}[tap]
    return [(width, True)] * lanes


def compare(
    model: IntegerModel, config: AcceleratorConfig, prompt: Tensor, tokens: list[int], folder: Path
) -> Difference | None:
    """Compare the traces in a folder with the integer model; return the first difference in time, if there is one.

    A trace that ends too early, or goes on after the last value, is a difference as well.
    """
    none = torch.iinfo(torch.int64).min
    lines = {tap: iter((folder / f"{tap}.trace").read_text().splitlines()) for tap in TAPS}
    widths = {tap: _widths(config, tap) for tap in TAPS}
    first: dict[str, Difference] = {}
    for event in expected(model, config, prompt, tokens):
        if event.tap in first:
            continue
        for number, row in enumerate(event.values.tolist()):
            line = next(lines[event.tap], None)
            if line is None:
                first[event.tap] = Difference(event.name, number, 0, 0, 0, 1 << 62)
                break
            cycle, text = line.split()
            got = _values(int(text, 16), widths[event.tap])
            wrong = [lane for lane, value in enumerate(row) if value not in (none, got[lane])]
            if wrong:
                lane = wrong[0]
                first[event.tap] = Difference(event.name, number, lane, got[lane], row[lane], int(cycle))
                break
    for tap in TAPS:
        if tap not in first and next(lines[tap], None) is not None:
            first[tap] = Difference(f"the end of {tap}", 0, 0, 0, 0, 1 << 62)
    return min(first.values(), key=lambda difference: difference.cycle, default=None)


TAPS = ("sums", "codes", "rows", "residual", "hidden", "logits")
"""The taps that are compared."""


def _values(number: int, widths: list[tuple[int, bool]]) -> list[int]:
    values = []
    for width, negative in widths:
        value = number & ((1 << width) - 1)
        values.append(value - (1 << width) if negative and value >> (width - 1) else value)
        number >>= width
    return values
