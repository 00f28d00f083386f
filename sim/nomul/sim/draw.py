"""Draws configurations of every core from what their fields allow, and runs for them.

Nothing here is typed for one core: fields, ranges and choices come from the declarations (`nomul.config.parameter`),
what goes together from the sentence with which a configuration refuses what does not.
"""

import dataclasses
import random
import re
from typing import Any

from nomul.cores.discover import find_core
from nomul.formats.job import Job
from nomul.sim.check import Run, random_jobs
from nomul.sim.product import Product, random_product

__all__ = ["draw_config", "draw_runs", "draw_value", "widest"]

LARGE = 0.03
"""Chance of a number from anywhere in its range."""

STALLS = (0.1, 0.3, 0.6, 0.8)


def draw_config(kind: type[Any], dice: random.Random, large: float = LARGE) -> Any:
    """Return a configuration of a dataclass of `nomul.config.parameter`s.

    A number is near its least but for a chance of `large`, with which it is from anywhere in its range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    while True:
        values = {name: draw_value(field, dice, large) for name, field in fields.items()}
        for _ in range(200):
            try:
                return kind(**values)
            except ValueError as error:
                # Another value for the field that is refused, or for one that it does not go with.
                named = re.search(r"field '(\w+)'", str(error))
                assert named, f"{kind.__name__}({values}) is refused without the name of a field: {error}"
                name = named[1] if dice.random() < 0.7 else dice.choice([*fields])
                values[name] = draw_value(fields[name], dice, large)


def draw_value(field: dataclasses.Field[Any], dice: random.Random, large: float = LARGE) -> Any:
    """Return a value that a field's declaration allows."""
    allowed = field.metadata
    if field.default is None and dice.random() < 0.5:
        return None
    if allowed["choices"]:
        return dice.choice(allowed["choices"])
    low, high = allowed["low"], allowed["high"]
    if dice.random() < large:
        return dice.randint(low, high)
    # Often among the least few, otherwise of every order of magnitude as often.
    return min(high, low + dice.randrange(8 if dice.random() < 0.4 else 1 << dice.randint(1, 6)))


def widest(config: Any) -> int:
    """Return the width of the widest stream of a core, in bits."""
    return max(port.width for port in (*config.inputs, *config.outputs))


def _size(limit: int, step: int, dice: random.Random) -> int:
    """Return a length: one, the most, about a step, or some steps."""
    return min(limit, dice.choice((1, limit, step, step + 1, dice.randint(1, 4 * step), dice.randint(1, 64))))


def _product(config: Any, dice: random.Random, budget: int, tokens_max: int = 3) -> Product:
    """Return a random product that takes a budget of cycles at most, or the shortest of many."""
    step, best = getattr(config, "step", config.activation_lanes), None
    for _ in range(40):
        tokens, mode = dice.randint(1, tokens_max), dice.randrange(len(config.modes))
        shape = _size(config.n_in_max, step, dice), _size(config.n_out_max, config.rows, dice)
        cycles = config.cycles(*shape, tokens, mode)
        if best is None or cycles < best[0]:
            best = cycles, (*shape, tokens), mode
        if cycles <= budget:
            break
    assert best is not None
    return random_product(*best[1], config, dice.randrange(1 << 30), best[2])


def draw_runs(core: str, config: Any, bus: str, dice: random.Random, budget: int = 400) -> list[Run]:
    """Return runs of a core: jobs alone that nothing stalls, jobs in a row with stalls, a reset, illegal ones."""
    alone: list[Job | Product]
    row: list[Job | Product]
    if find_core(core).streams_products:
        alone = [_product(config, dice, budget) for _ in range(2)]
        row = [_product(config, dice, budget // 2) for _ in range(dice.randint(2, 3))]
    else:
        jobs = random_jobs(core, config, 12, dice.randrange(1 << 30))
        jobs.sort(key=lambda job: config.cycles(**job.fields))
        short = [job for job in jobs if config.cycles(**job.fields) <= budget] or jobs[:1]
        alone = [short[0], short[-1]]
        row = [dice.choice(short) for _ in range(dice.randint(2, 4))]
    stalled = Run(row, dice.choice(STALLS), dice.randrange(1 << 30))
    if bus == "axi":
        return [Run(alone[1:]), stalled]
    total = sum(config.cycles(**job.fields) for job in row)
    reset = dataclasses.replace(stalled, seed=stalled.seed + 1, reset_after=dice.randint(1, total))
    wrong = row[0].fields | {dice.choice([*config.job_limits]): 0}
    place: dict[str, Any] = {dice.choice(("illegal_first", "illegal_last")): [wrong]}
    return [*(Run([job]) for job in alone), stalled, reset, dataclasses.replace(Run(row[:1]), **place)]
