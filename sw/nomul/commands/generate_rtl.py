"""`nomul generate --backend rtl`: text from the simulated machine, each value of which is compared."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.console import stderr
from nomul.errors import MismatchError
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.sim.accelerator import build_machine, generate

if TYPE_CHECKING:
    from nomul.commands.generate import RtlOptions

__all__ = ["generate_rtl"]


def generate_rtl(
    model: IntegerModel,
    prompt: Tensor,
    tokens: int,
    options: "RtlOptions",
    figures: dict[str, Any],
) -> Iterator[int]:
    """Yield the tokens of a simulated machine; fill `figures` when they have all come.

    Raises
    ------
    InputError
        If the configuration is none.
    MismatchError
        If any recorded value differs from the integer model's; the message says which is the first. Or if a token does,
        though the logits that it was chosen from do not. No token is yielded that differs, and none after it.
    """
    sizes = {name: value for name, value in (("lanes", options.lanes), ("tile", options.tile)) if value is not None}
    config = machine_config(model, options.engine, options.settings, trace=True, **sizes)
    stderr.print(f"building the machine: {config.engine.name}, {config.lanes} lanes, tiles of {config.tile} tokens")
    simulator = build_machine(config)
    reference = generate_integer(model, prompt, tokens, 0.0, 0)
    cycles: list[int] = []
    wrong: str | None = None
    for number, (token, cycle) in enumerate(generate(simulator, model, config, prompt, tokens)):
        cycles.append(cycle)
        expected = next(reference)
        if token != expected and wrong is None:
            wrong = f"token {number} is {token}; the integer model says {expected}"
            stderr.print("the text is wrong from here on; the run goes on to find the first value that differs")
        if wrong is None:
            yield token
    if wrong is not None:
        raise MismatchError(wrong)
    figures.update(summary(config, len(prompt), cycles))


def summary(config: AcceleratorConfig, prompt: int, cycles: Sequence[int]) -> dict[str, Any]:
    """Return the figures of a run, from the cycle of each token."""
    steps = [later - earlier for earlier, later in itertools.pairwise(cycles)]
    bits = config.weight_depth * config.engine_config.weight_width
    return {
        "engine": config.engine.name,
        "lanes": config.lanes,
        "tile": config.tile,
        "prefill_cycles": cycles[0],
        "prefill_cycles_per_token": round(cycles[0] / prompt, 1),
        "cycles_per_token": round(sum(steps) / len(steps), 1) if steps else None,
        "weight_bytes_per_token": bits // 8,
    }
