"""What every engine's bench runs: extreme operands, ragged sizes with stalls, resets, illegal jobs, the cost model."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nomul.sim.check import Product, Run, bench_engine, build_engine, random_product
from nomul.sim.grouped import extreme_groups
from nomul.sim.runner import Simulator

__all__ = ["SCENARIOS", "behind_axi", "extremes", "mixed", "run", "run_scenarios"]

FP16 = (-0x0401, 0x7BFF, 0, -0x8000, 1, 0x03FF, 0x0400, 0x3C00, 0x7C00, -0x0400, 0x7E00)
"""Words of binary16: largest of either sign, zeros, ends of the subnormal range, one, infinities, NaN."""


def extremes(config: Any, mode: int = 0) -> Product:
    """Return all-largest, all-smallest, zero and alternating vectors and rows, in every combination."""
    n_in = config.n_in_max

    def patterns(values: range, form: str) -> torch.Tensor:
        ends, wanted = (values[0], values[-1]), {values[0], values[-1], *({-1, 0, 1} & {*values})}
        if form == "fp16":
            ends, wanted = FP16[:2], {*FP16}
        mixed = torch.tensor(ends).repeat(n_in)[:n_in]
        return torch.stack([*(torch.full((n_in,), value) for value in sorted(wanted)), mixed, mixed.flip(0)])

    kinds = config.modes[mode]
    kind = torch.int8 if kinds.weight_format == "integer" else torch.int64
    rows = patterns(kinds.weight_values, kinds.weight_format).to(kind)
    weight = torch.full((config.n_out_max, n_in), 0 if 0 in kinds.weight_values else kinds.weights[1], dtype=kind)
    weight[: len(rows)] = rows[: config.n_out_max]
    weight[-1, 0], weight[-2] = kinds.weights[0], rows[-1]
    activations = patterns(kinds.activation_values, kinds.activation_format)
    return Product(extreme_groups(config, weight, mode), activations, mode)


def extreme_operands(config: Any) -> list[Run]:
    """The largest and smallest operands in every mode, one mode after the other."""
    return [Run([extremes(config, mode) for mode in range(len(config.modes))])]


def lone_jobs(config: Any) -> list[Run]:
    """Jobs alone, in every mode: the smallest and largest, and such as fill a step, a block and a group just so."""
    step, most, last = getattr(config, "step", config.activation_lanes), config.n_in_max, config.n_out_max
    shapes = [(1, 1, 1), (1, last, 2), (most, 1, 5), (most, last, 3), (step + 1, config.rows + 1, 4)]
    shapes += [(step, config.rows, 9)]
    if group := getattr(config, "group", 0):
        shapes += [(group, config.rows, 6), (group + 1, 1, 6)]
    return [
        Run([random_product(min(n_in, most), min(n_out, last), tokens, config, seed=n_in, mode=mode)])
        for mode in range(len(config.modes))
        for n_in, n_out, tokens in shapes
    ]


def ragged_sizes_with_stalls(config: Any) -> list[Run]:
    """Four random jobs back to back for each seed, with random stalls of every stream."""
    runs = []
    for seed in range(8):
        dice = random.Random(seed)
        shapes = [
            (dice.randint(1, config.n_in_max), dice.randint(1, config.n_out_max), dice.randint(1, 4)) for _ in range(4)
        ]
        products = [random_product(*shape, config, seed, dice.randrange(len(config.modes))) for shape in shapes]
        runs.append(Run(products, stall=dice.choice([0.0, 0.1, 0.5, 0.8]), seed=seed))
    return runs


def resets_in_mid_flight(config: Any) -> list[Run]:
    """A reset at several moments of two long jobs, which then run again."""
    products = [random_product(config.n_in_max, config.n_out_max, 2, config, seed) for seed in (1, 2)]
    total = sum(config.cycles(**product.job) for product in products)
    moments = (1, 7, total // 4, total // 2, total - 9)
    return [Run(products, stall=0.2, seed=after, reset_after=after) for after in moments]


def illegal_jobs(config: Any) -> list[Run]:
    """Illegal jobs after and before a legal one: those raise fault until this is taken."""
    good = random_product(min(5, config.n_in_max), min(3, config.n_out_max), 1, config, seed=0)
    wrong = [("n_in", 0), ("n_in", config.n_in_max + 1), ("n_out", 0), ("n_out", config.n_out_max + 1), ("tokens", 0)]
    # Modes that fit the field and do not exist.
    modes = len(config.modes)
    wrong += [("mode", mode) for mode in range(modes, 1 << (modes - 1).bit_length())]
    jobs = [good.job | {field: value} for field, value in wrong]
    return [Run([good], illegal_last=job) for job in jobs] + [Run([good], illegal_first=job) for job in jobs]


def mixed(config: Any) -> list[Run]:
    """Extremes, and random products of every mode back to back, without stalls, with some and with many."""
    shapes = [(config.n_in_max, config.n_out_max, 3), (max(1, config.n_in_max // 2 + 1), min(5, config.n_out_max), 2)]
    products = [
        random_product(*shape, config, seed=mode, mode=mode) for mode in range(len(config.modes)) for shape in shapes
    ]
    return [*extreme_operands(config), *(Run(products, stall, seed=1) for stall in (0.0, 0.4, 0.8))]


SCENARIOS: dict[str, Callable[[Any], list[Run]]] = {
    "extreme operands": extreme_operands,
    "jobs alone, whose cycles the cost model says": lone_jobs,
    "ragged sizes with stalls": ragged_sizes_with_stalls,
    "resets in mid-flight": resets_in_mid_flight,
    "illegal jobs": illegal_jobs,
}
"""The runs of each, for a configuration of small lengths: they go up to its limits."""


@functools.cache
def built(engine: str, config: Any, simulator: str) -> Simulator:
    """Build an engine once in a session."""
    return build_engine(engine, config, simulator)


def run(engine: str, config: Any, simulator: str, runs: Sequence[Run], names: Sequence[str] = ()) -> list[Any]:
    """Run in one simulation, and fail with the first difference and its seed; return what the bench says.

    No result may differ, none may be too many, `fault` is set after an illegal job alone, and a job alone that nothing
    stalls takes the cycles of the cost model. `names` says of each run what it belongs to.
    """
    said = bench_engine(built(engine, config, simulator), engine, config, runs)
    for each, result, name in zip(runs, said, names or [engine] * len(runs), strict=True):
        assert result["mismatches"] == 0, f"{name}: {result['first_mismatch']}; replay with seed {result['seed']}"
        assert result["surplus"] == 0, name
        assert result["fault"] == (each.illegal_last is not None), name
        alone = len(each.products) == 1 and not (each.stall or each.reset_after)
        if alone and each.illegal_first is None and each.illegal_last is None:
            job = each.products[0].job
            assert result["cycles"] == config.cycles(**job), f"{name}: {job}"
    return said


def run_scenarios(engine: str, config: Any, simulator: str) -> None:
    """Run all scenarios, one after the other, in one simulation."""
    runs = {name: scenario(config) for name, scenario in SCENARIOS.items()}
    names = [name for name, some in runs.items() for _ in some]
    run(engine, config, simulator, [each for some in runs.values() for each in some], names)


def behind_axi(engine: str, config: Any, simulator: str) -> None:
    """Behind AXI jobs of all modes, the mode from its register, are exact under stalls; alone, one takes its cycles."""
    shape = (min(37, config.n_in_max), min(7, config.n_out_max), 2)
    products = [random_product(*shape, config, mode, mode) for mode in reversed(range(len(config.modes)))]
    runs = [Run([*products, products[0]], stall=0.2), Run(products[:1])]
    stalled, alone = bench_engine(build_engine(engine, config, simulator, "axi"), engine, config, runs, "axi")
    for each, said in zip(runs, (stalled, alone), strict=True):
        tokens = 2 * len(each.products)
        assert (said["mismatches"], said["surplus"], said["fault"]) == (0, 0, 0), said["first_mismatch"]
        assert (said["outputs"], said["tokens"]) == (shape[1] * tokens, tokens)
    assert alone["cycles"] == config.cycles(**products[0].job)
