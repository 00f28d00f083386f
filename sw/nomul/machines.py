"""What the commands for whole machines share: a model or a named shape, and the machine that is chosen for it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from nomul.accelerator_image import configure_machine, machine_config, shape_of_config
from nomul.accelerators.config import MEMORIES, AcceleratorConfig
from nomul.cores.discover import matmul_cores
from nomul.errors import InputError
from nomul.model.integer import IntegerModel
from nomul.model.random_model import random_integer_model
from nomul.model.transformer import SIZES, TransformerConfig
from nomul.names import canonical
from nomul.options import CheckpointPath, Integer, Seed
from nomul.report.shapes import SHAPES as PUBLISHED

__all__ = ["MACHINE_ONLY", "SHAPES", "Choice", "add_options", "machine_options", "take_choice"]

TINY_VOCABULARY = 65

CONTEXT = 1024
"""Tokens that a machine of a published shape sees."""


def _published(name: str) -> tuple[dict[str, Any], int]:
    """Return the sizes of a published shape, and its vocabulary."""
    shape = PUBLISHED[name]
    names = ("width", "layers", "heads", "kv_heads", "head_dim", "ffn")
    return {name: getattr(shape, name) for name in names} | {"context": CONTEXT}, shape.vocabulary


SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "bitnet-0.73b": _published("bitnet-0.73b"),
    "tiny": (SIZES["tiny"], TINY_VOCABULARY),
    "small": (SIZES["small"], TINY_VOCABULARY),
}
"""Shapes by name, each with its vocabulary."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A machine, as the options of a command describe it."""

    checkpoint: Path | None
    shape: str | None
    seed: int | None
    """Of random weights for a shape; without it there are none."""
    engine: str
    settings: tuple[str, ...]
    fields: dict[str, Any]
    """Further fields of `AcceleratorConfig`."""

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if (self.checkpoint is None) == (self.shape is None):
            given = "both were given" if self.shape else "neither was given"
            raise InputError(f"a machine is made for --checkpoint FILE or for --shape NAME; {given}")
        if self.shape is not None and self.shape not in SHAPES:
            raise InputError(f"no shape is called {self.shape!r}; the shapes are {', '.join(SHAPES)}")
        if self.seed is not None and self.shape is None:
            raise InputError("--random goes with --shape only; a checkpoint has its own weights")
        if self.fields.get("memory", "block") == "block":
            for name, option in (("ports", "--ports"), ("port_bits", "--port-bits"), ("ring", "--ring")):
                if name in self.fields:
                    raise InputError(f"{option} goes with --memory axi only; the memory is block")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.shape or str(self.checkpoint)

    def for_target(self, target: str | None) -> "Choice":
        """Return the same machine with the arithmetic forms of a technology, if one is given."""
        return dataclasses.replace(self, settings=(*self.settings, f"target={target}")) if target else self

    def model_config(self) -> TransformerConfig:
        """Return the model of the named shape."""
        assert self.shape is not None
        sizes, vocabulary = SHAPES[self.shape]
        return TransformerConfig(vocabulary, **sizes)

    def build(self, *, weights: bool = True) -> tuple[AcceleratorConfig, IntegerModel | None]:
        """Return the machine's configuration, and the model if there is one and its `weights` are wanted.

        Raises
        ------
        InputError
            If the checkpoint is none, or the configuration is none.
        """
        if self.checkpoint is not None:
            model = IntegerModel.load(self.checkpoint)
        elif self.seed is not None and weights:
            model = random_integer_model(self.model_config(), self.seed)
        else:
            config = self.model_config()
            shape, steps = shape_of_config(config)
            return configure_machine(shape, steps, self.engine, self.settings, **self.fields), None
        return machine_config(model, self.engine, self.settings, **self.fields), model


FIELDS = ("memory", "lanes", "tile", "queries", "ports", "port_bits", "ring", "uram")
"""Options that are fields of `AcceleratorConfig`."""

MACHINE_ONLY = ("checkpoint", "shape", "seed", "engine", *FIELDS)
"""Options that an engine alone does not have."""

ENGINES = [name for name, core in matmul_cores().items() if core.machine is not None]
"""Cores that machines are made of."""

OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option("--checkpoint", type=CheckpointPath(), help="A character model: a file, or tiny, small ..."),
    click.option("--shape", metavar="NAME", help=f"A shape without weights: {', '.join(SHAPES)}."),
    click.option("--random", "seed", type=Seed(), metavar="SEED", help="Random weights for the shape."),
    click.option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True),
    click.option("--memory", type=click.Choice(MEMORIES), default="block", show_default=True),
    click.option("--lanes", type=Integer(1), help="Elements of vectors in a cycle, and rows of the engine."),
    click.option("--tile", type=Integer(1), help="Prompt tokens that share the weights."),
    click.option(
        "--queries", type=Integer(1), help="Prompt tokens that share each row of keys and values that is read."
    ),
    click.option("--ports", type=Integer(1), metavar="P", help="Memory axi: AXI4 ports."),
    click.option("--port-bits", type=Integer(1), metavar="B", help="Memory axi: width of each port."),
    click.option(
        "--ring", type=Integer(1), metavar="N", help="Memory axi: transfers of weights that wait on the chip."
    ),
    click.option("--uram", is_flag=True, help="Ask for UltraRAM where the largest memories are (AMD UltraScale+)."),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the engine."),
)


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a machine to a command; they arrive as one argument, `choice`."""

    @functools.wraps(command)
    def wrapper(**options: Any) -> Any:
        return command(take_choice(options), **options)

    return add_options(wrapper)


def add_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a machine to a command, which gets each as an argument of its own."""
    for option in reversed(OPTIONS):
        option(command)
    return command


def take_choice(options: dict[str, Any]) -> Choice:
    """Take the machine that its options describe out of a command's arguments."""
    named = {name: options.pop(name) for name in ("checkpoint", "shape", "seed", "engine", "settings")}
    named["shape"] = named["shape"] and canonical(named["shape"], SHAPES)
    fields = {name: options.pop(name) for name in FIELDS}
    return Choice(**named, fields={name: value for name, value in fields.items() if value is not None})
