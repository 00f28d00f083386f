"""Draws small machines, the models that they run, and jobs for them; what a machine may have comes from the fields."""

import dataclasses
import random
import re
from collections.abc import Sequence
from typing import Any

import torch

from nomul.accelerator_image import shape_of
from nomul.accelerators.config import MEMORIES, AcceleratorConfig
from nomul.accelerators.shape import ACTIVATIONS
from nomul.cores.discover import find_core, matmul_cores
from nomul.model.calibration import calibrate
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.model.transformer import Transformer, TransformerConfig
from nomul.sim.draw import draw_value, widest
from nomul.spec import Spec

__all__ = ["KINDS", "MachineJobs", "draw_jobs", "draw_machine", "random_model"]

FOLLOWS = ("rows", "n_in_max", "n_out_max", "act_bits")
"""Fields of an engine that follow from the machine."""

WEIGHTS_MOST = 1500
"""Most bits of a transfer of weights, of results or of activations."""

MEMORY_MOST = 400_000
"""Largest memory of a machine, in bytes."""


def _draw_shape(dice: random.Random, lanes: int) -> TransformerConfig:
    """Return the shape of a small model whose lengths are multiples of `lanes`."""
    kv_heads = dice.choice((1, 1, 2))
    return TransformerConfig(
        dice.randint(2, 40), width=lanes * dice.randint(1, 4), layers=dice.choice((1, 1, 1, 2)),
        heads=kv_heads * dice.randint(1, 2), kv_heads=kv_heads, head_dim=lanes * dice.randint(1, 3),
        ffn=lanes * dice.randint(1, 5), context=dice.randint(6, 20), activation=dice.choice(ACTIVATIONS),
        tied=dice.random() < 0.5, linear="ternary",
    )  # fmt: skip


@torch.no_grad()
def random_model(config: TransformerConfig, seed: int) -> IntegerModel:
    """Return a random model whose values use their ranges."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight") or "layernorm" in name:
            parameter.uniform_(-1.5, 1.5)
        else:
            parameter.normal_(std=0.5)
    return IntegerModel(model, calibrate(model, torch.randint(config.vocabulary, (4, config.context))))


def _fields(dice: random.Random, context: int) -> dict[str, Any]:
    """Return fields of the machine beside its engine's."""
    tile = dice.randint(1, min(4, context))
    fields: dict[str, Any] = {"tile": tile, "queries": dice.randint(1, tile), "memory": dice.choice(MEMORIES)}
    if fields["memory"] == "axi":
        fields |= {"ring": 1 << dice.randint(4, 9), "ports": dice.randint(1, 4), "uram": dice.random() < 0.3}
        fields["port_bits"] = dice.choice((32, 64, 128, 256, 512))
    return fields


def draw_machine(dice: random.Random) -> tuple[IntegerModel, AcceleratorConfig]:
    """Return a model and a machine for it."""
    while True:
        lanes = dice.choice((2, 2, 4, 4, 8))
        model = random_model(_draw_shape(dice, lanes), dice.randrange(1 << 30))
        config = _draw_config(dice, model, lanes)
        if config is not None:
            return model, config


def _draw_config(dice: random.Random, model: IntegerModel, lanes: int) -> AcceleratorConfig | None:
    """Return a configuration, or None if none is found soon."""
    engine = dice.choice([name for name, core in matmul_cores().items() if core.machine is not None])
    gateware = find_core(engine).gateware
    assert isinstance(gateware, Spec)
    declared = {field.name: field for field in dataclasses.fields(gateware.config) if field.name not in FOLLOWS}
    settings = {name: draw_value(field, dice) for name, field in declared.items() if dice.random() < 0.6}
    for _ in range(100):
        fields = _fields(dice, model.config.context)
        try:
            config = AcceleratorConfig(
                shape_of(model), gateware, lanes=lanes, settings=tuple(settings.items()),
                steps=tuple(model.steps.tolist()), **fields,
            )  # fmt: skip
        except ValueError as error:
            # Another value for the field that is refused, or its default.
            named = re.search(r"field '(\w+)'", str(error))
            name = named[1] if named and named[1] in declared else dice.choice([*declared])
            settings.pop(name, None)
            if dice.random() < 0.7:
                settings[name] = draw_value(declared[name], dice)
            continue
        if widest(config.engine_config) <= WEIGHTS_MOST:
            return config
        settings.clear()
    return None


@dataclasses.dataclass(frozen=True)
class MachineJobs:
    """Jobs for `nomul.sim.accelerator.run_jobs`, and the tokens that must come of each; None if it must be refused."""

    jobs: list[dict[str, Any]]
    tokens: list[list[int] | None]


KINDS = ("plain", "stalled", "refused", "reset")
"""A job, one that stalls, one that is refused, and one that is given again after a reset."""


def draw_jobs(dice: random.Random, model: IntegerModel, timeout: int, kinds: Sequence[str] = KINDS) -> MachineJobs:
    """Return a job of each of `KINDS`, in any order."""
    context, vocabulary = model.config.context, model.config.vocabulary
    jobs: list[dict[str, Any]] = []
    tokens: list[list[int] | None] = []
    for kind in dice.sample(kinds, len(kinds)):
        prompt = [dice.randrange(vocabulary) for _ in range(dice.randint(1, 3))]
        count = dice.randint(1, min(2, context - len(prompt) + 1))
        job = {"prompt": prompt, "tokens": count, "timeout": timeout}
        if kind == "refused":
            job |= dice.choice(({"prompt": [], "tokens": 1}, {"prompt": [], "prompt_length": 1, "tokens": 0}))
            tokens.append(None)
        else:
            said = generate_integer(model, torch.tensor(prompt), count, 0.0, 0)
            tokens.append(list(said))
        if kind == "stalled":
            job["stall"] = 0.6
        if kind == "reset":
            job["reset_after"] = dice.randint(1, 3000)
        jobs.append(job)
    return MachineJobs(jobs, tokens)
