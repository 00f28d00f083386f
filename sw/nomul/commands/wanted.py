"""What the options of several commands say: which core, and what it works on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from nomul.arith.target import TARGETS
from nomul.catalog import choose_variant, configure
from nomul.commands.operands import Vectors
from nomul.engines.matmul import TOKENS_MAX
from nomul.options import CheckpointPath, Integer, Seed, bundle

__all__ = ["Named", "Wanted", "named_core", "wanted_jobs"]


@dataclass(frozen=True)
class Named:
    """A core as the command line names it: the core, or one of its variants, and fields of its configuration."""

    engine: str
    settings: Sequence[str]
    target: str | None

    def __post_init__(self) -> None:
        """Take the variant that the settings choose; `InputError` if there is no such core or variant."""
        core, settings, variant = choose_variant(self.engine, self.settings)
        for name, value in (("engine", core), ("settings", settings), ("variant", variant)):
            object.__setattr__(self, name, value)

    variant: dict[str, str] = field(init=False)
    """What was chosen of the fields of a core's variants."""

    def configure(self) -> Any:
        """Return the configuration; `InputError` if a field is wrong."""
        return configure(self.engine, self.settings, self.target)


@dataclass(frozen=True)
class Wanted:
    """What the options say of the jobs."""

    checkpoint: Path | None = None
    layer: str | None = None
    mode: str | None = None
    activations: Path | None = None
    """File of vectors."""

    tokens: int = 4
    """Vectors, or random jobs."""

    seed: int = 0
    prompt: str | None = None
    """Text that the model reads, for its own vectors."""

    @property
    def vectors(self) -> Vectors:
        """Where the vectors come from."""
        return Vectors(self.activations, self.prompt, self.tokens, self.seed)


named_core = bundle(
    "named",
    Named,
    click.argument("engine"),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be repeated."),
    click.option("--target", type=click.Choice(TARGETS), help="Technology whose arithmetic forms are used."),
)
"""Gives a command a `Named` core."""

wanted_jobs = bundle(
    "wanted",
    Wanted,
    click.option("--checkpoint", type=CheckpointPath(), help="Weights; a committed tiny model by default."),
    click.option(
        "--layer",
        help="Layer, by default the first, or for INT modes the head; or LAYER.self_attn.scores or .values.",
    ),
    click.option("--mode", help="What to multiply, of a core that has several modes; its first by default."),
    click.option("--activations", type=click.Path(path_type=Path), help=".npy file, integers [tokens, n_in]."),
    click.option("--prompt", help="Text that the model reads; its own activations are multiplied."),
    click.option("--tokens", default=4, show_default=True, type=Integer(1, TOKENS_MAX), help="Vectors to multiply."),
    click.option("--seed", default=0, show_default=True, type=Seed(), help="Of stalls, random activations and jobs."),
)
"""Gives a command the jobs that are `Wanted`."""
