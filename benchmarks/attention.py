"""Measures how well leading-one prediction finds the keys that matter, on the committed `small` model.

Usage: python -m benchmarks.attention TEXT [--every N] [--keep N] [--all-scalings] [--json FILE]. TEXT is the text
that the model was trained on; what is measured is its validation part, as `nomul eval` does it.

Every head of every layer attends from each token to the K = ceil(M / keep) keys of the M visible ones whose predicted
scores are largest, and to nothing else. A predicted score is the predictor's sum as `nomul.attention.leading_one` gives
it ("none"); for comparison also shifted left by the bit length of the key's scale ("power"), or multiplied by the scale
("exact"). For each predictor:

    mass   share of the exact model's attention that its K keys receive, over that of the best K keys; mean over all
           queries of all heads
    loss   nats a character of the model that attends only to the predicted keys

Beside them `best`: the K keys of largest exact scores, which no predictor can beat by much.
"""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table
from torch import Tensor

from nomul.console import progress, stdout
from nomul.files import write_atomically
from nomul.golden.attention import KVCache
from nomul.golden.leading_one import PREDICTORS, leading_one, predict
from nomul.golden.rounding import bit_length
from nomul.golden.top_k import choose
from nomul.model import checkpoints
from nomul.model.evaluation import total_loss
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import load_model, load_tokenizer
from nomul.model.text import read_text, split, windows

SCALINGS = ("none", "power", "exact")
RANK_BITS = 50


@dataclasses.dataclass(frozen=True)
class Predictor:
    """One way to choose keys: what is summed, and how the scale of a key enters."""

    sums: str
    """One of `PREDICTORS`, or `best` for the exact product."""

    scaling: str
    """One of `SCALINGS`."""

    @property
    def name(self) -> str:
        """How it is printed."""
        return f"{self.sums}, {self.scaling} scale"

    def scores(self, queries: Tensor, cache: KVCache) -> Tensor:
        """Return predicted scores, int64 `[batch, heads, tokens, length]`."""
        batch, heads, tokens, head_dim = queries.shape
        length, kv_heads = cache.length, cache.keys.shape[1]
        rows = queries.view(batch, kv_heads, -1, head_dim)
        keys, scales = cache.keys[:, :, :length], cache.key_scales[:, :, None, :length].long()
        if self.sums == "best":
            sums = (rows.float() @ keys.float().transpose(-1, -2)).long()
        else:
            sums = predict(rows, leading_one(keys), self.sums)
        if self.scaling == "power":
            sums = sums << bit_length(scales)
        elif self.scaling == "exact":
            sums = sums * scales
        return sums.view(batch, heads, tokens, length)

    def select(self, keep: int) -> Any:
        """Return a selector for `IntegerModel`."""

        def selector(queries: Tensor, cache: KVCache) -> Tensor:
            tokens, length = queries.shape[2], cache.length
            visible = torch.arange(length) <= torch.arange(length - tokens, length)[:, None]
            counts = -(-torch.arange(length - tokens + 1, length + 1) // keep)
            return choose(self.scores(queries, cache), counts, RANK_BITS, visible)

        return selector


BEST = Predictor("best", "exact")
CANDIDATES = [Predictor(sums, scaling) for sums, scaling in itertools.product(PREDICTORS, SCALINGS)]


def measure(text: Path, every: int, keep: int, candidates: list[Predictor]) -> dict[str, Any]:
    """Return the loss of the exact model, and of each predictor the loss and the share of mass."""
    path = checkpoints.path("small")
    model, config = load_model(path)
    positions = Positions.from_config(config, model.config.layers, str(path))
    tokens = load_tokenizer(path).encode(split(read_text(text))[1])
    pairs = [
        pair for inputs, targets in windows(tokens, model.config.context) for pair in zip(inputs, targets, strict=True)
    ][::every]
    predictors = [*candidates, BEST]
    mass = dict.fromkeys(predictors, 0.0)
    queries = 0

    def watch(queries_: Tensor, cache: KVCache) -> Tensor:
        """Attend to everything, and note which keys each predictor would have chosen."""
        for predictor in predictors:
            chosen[predictor].append(predictor.select(keep)(queries_, cache))
        return torch.ones(1, dtype=torch.bool).expand(*queries_.shape[:3], cache.length)

    chosen: dict[Predictor, list[Tensor]] = {}
    exact = IntegerModel(model, positions, watch)
    sparse = {predictor: IntegerModel(model, positions, predictor.select(keep)) for predictor in predictors}
    losses: dict[Any, float] = dict.fromkeys([None, *predictors], 0.0)
    with progress("windows", len(pairs)) as advance:
        for x, y in pairs:
            chosen = {predictor: [] for predictor in predictors}
            weights: list[Tensor] = []

            def record(name: str, value: Tensor, weights: list[Tensor] = weights) -> None:
                if name.endswith("attention.weights"):
                    weights.append(value.double() / value.sum(-1, keepdim=True))

            losses[None] += total_loss(exact, x[None], y[None], record)
            queries += sum(share[..., 0].numel() for share in weights)
            for predictor in predictors:
                for share, keys in zip(weights, chosen[predictor], strict=True):
                    mass[predictor] += (share * keys).sum().item()
                losses[predictor] += total_loss(sparse[predictor], x[None], y[None])
            advance()
    characters = sum(len(x) for x, _ in pairs)
    base = losses[None] / characters
    return {
        "checkpoint": "small", "characters": characters, "keep": keep, "nats_per_char": base,
        "predictors": {
            predictor.name: {
                "mass": mass[predictor] / queries,
                "share_of_best_mass": mass[predictor] / mass[BEST],
                "nats_per_char": losses[predictor] / characters,
                "change": losses[predictor] / characters - base,
                "relative_change": losses[predictor] / characters / base - 1,
            }
            for predictor in predictors
        },
    }  # fmt: skip


@click.command()
@click.argument("text", type=click.Path(path_type=Path))
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Of so many windows, take one.")
@click.option("--keep", default=8, show_default=True, type=click.IntRange(1), help="K is M over this, rounded up.")
@click.option("--all-scalings", is_flag=True, help="Also with the keys' scales.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures there too.")
def main(text: Path, every: int, keep: int, all_scalings: bool, file: Path | None) -> None:
    """Print mass and loss of every predictor."""
    torch.set_num_threads(1)
    candidates = [c for c in CANDIDATES if all_scalings or c.scaling == "none"]
    with torch.no_grad():
        result = measure(text, every, keep, candidates)
    if file is not None:
        write_atomically(file, (json.dumps(result, indent=2) + "\n").encode())
    table = Table("keys", "mass", "of the best K", "nats a character", "change")
    table.add_row("all", "1", "", f"{result['nats_per_char']:.4f}", "")
    for name, entry in result["predictors"].items():
        table.add_row(
            name, f"{entry['mass']:.4f}", f"{entry['share_of_best_mass']:.4f}", f"{entry['nats_per_char']:.4f}",
            f"{entry['change']:+.4f} ({100 * entry['relative_change']:+.2f} %)",
        )  # fmt: skip
    stdout.print(table)


if __name__ == "__main__":
    main()
