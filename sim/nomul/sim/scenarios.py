"""What every core's bench runs: extreme operands, ragged sizes with stalls, resets, illegal jobs, the cost model.

Of a core that multiplies over the streams of `nomul.engines.matmul`, sizes and operands are chosen; what another core
does, its random jobs say.
"""

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nomul.cores.discover import find_core
from nomul.formats.job import Job
from nomul.sim.check import Run, bench_core, build_core, random_jobs, vectors_of
from nomul.sim.grouped import extreme_groups
from nomul.sim.product import Product, random_product
from nomul.sim.runner import Simulator

__all__ = ["SCENARIOS", "behind_axi", "extremes", "mixed", "run", "run_scenarios"]

FP16 = (-0x0401, 0x7BFF, 0, -0x8000, 1, 0x03FF, 0x0400, 0x3C00, 0x7C00, -0x0400, 0x7E00)
"""Words of binary16: largest of either sign, zeros, ends of the subnormal range, one, infinities, NaN."""

STALLS = (0.0, 0.1, 0.5, 0.8)

MANY = 100
"""Random jobs in a row that nothing stalls."""


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


def extreme_operands(core: str, config: Any) -> list[Run]:
    """The largest and smallest operands in every mode, one mode after the other."""
    if not find_core(core).streams_products:
        return []
    return [Run([extremes(config, mode) for mode in range(len(config.modes))])]


def lone_jobs(core: str, config: Any) -> list[Run]:
    """Jobs alone: the smallest and largest, and in every mode such as fill a step, a block and a group just so."""
    if not find_core(core).streams_products:
        jobs = sorted(random_jobs(core, config, 60, seed=7), key=lambda job: config.cycles(**job.fields))
        return [Run([job]) for job in (jobs[0], *jobs[10::12], jobs[-1])]
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


def jobs_with_stalls(core: str, config: Any, count: int = MANY) -> list[Run]:
    """Random jobs back to back, with random stalls of every stream; products four at a time, twice for each stall."""
    if not find_core(core).streams_products:
        counts = [count if not stall else max(10, count // 8) for stall in STALLS]
        return [
            Run(random_jobs(core, config, some, seed), stall, seed)
            for seed, (some, stall) in enumerate(zip(counts, STALLS, strict=True))
        ]
    runs = []
    for seed in range(8):
        dice = random.Random(seed)
        shapes = [
            (dice.randint(1, config.n_in_max), dice.randint(1, config.n_out_max), dice.randint(1, 4)) for _ in range(4)
        ]
        products = [random_product(*shape, config, seed, dice.randrange(len(config.modes))) for shape in shapes]
        runs.append(Run(products, stall=dice.choice(STALLS), seed=seed))
    return runs


def resets_in_mid_flight(core: str, config: Any) -> list[Run]:
    """A reset at several moments of some jobs, which then run again."""
    jobs: Sequence[Job | Product]
    if find_core(core).streams_products:
        jobs = [random_product(config.n_in_max, config.n_out_max, 2, config, seed) for seed in (1, 2)]
    else:
        jobs = random_jobs(core, config, 6, seed=5)
    total = sum(config.cycles(**job.fields) for job in jobs)
    moments = (1, 7, total // 5, total // 2, total - 9)
    return [Run(jobs, stall=0.2, seed=after, reset_after=after) for after in moments]


def illegal_jobs(core: str, config: Any) -> list[Run]:
    """Illegal jobs after and before a legal one: those raise fault until this is taken."""
    good: Job | Product
    if find_core(core).streams_products:
        good = random_product(min(5, config.n_in_max), min(3, config.n_out_max), 1, config, seed=0)
    else:
        (good,) = random_jobs(core, config, 1, seed=9)
    wrong = [(name, 0) for name in config.job_limits]
    # Sizes and modes that fit the field and do not exist.
    wrong += [(name, most + 1) for name, most in config.job_limits.items() if most & (most + 1)]
    modes = len(config.modes)
    wrong += [("mode", mode) for mode in range(modes, 1 << (modes - 1).bit_length())] if modes else []
    assert len(wrong) > len(config.job_limits), "every limit fills its field; choose another for the bench"
    jobs = [good.fields | {field: value} for field, value in wrong]
    return [Run([good], illegal_last=[job]) for job in jobs] + [Run([good], illegal_first=jobs)]


def mixed(core: str, config: Any) -> list[Run]:
    """Extremes, and random jobs of every mode back to back, without stalls, with some and with many."""
    jobs: Sequence[Job | Product]
    if find_core(core).streams_products:
        shapes = [(config.n_in_max, config.n_out_max, 3), (config.n_in_max // 2 + 1, min(5, config.n_out_max), 2)]
        jobs = [
            random_product(min(n_in, config.n_in_max), n_out, tokens, config, seed=mode, mode=mode)
            for mode in range(len(config.modes))
            for n_in, n_out, tokens in shapes
        ]
    else:
        jobs = random_jobs(core, config, 20, seed=1)
    return [*extreme_operands(core, config), *(Run(jobs, stall, seed=1) for stall in (0.0, 0.4, 0.8))]


SCENARIOS: dict[str, Callable[[str, Any], list[Run]]] = {
    "extreme operands": extreme_operands,
    "jobs alone, whose cycles the cost model says": lone_jobs,
    "jobs in a row with stalls": jobs_with_stalls,
    "resets in mid-flight": resets_in_mid_flight,
    "illegal jobs": illegal_jobs,
}
"""The runs of each, for a configuration of small lengths: they go up to its limits."""


@functools.cache
def built(core: str, config: Any, simulator: str, bus: str = "stream") -> Simulator:
    """Build a core once in a session."""
    return build_core(core, config, simulator, bus)


def run(
    core: str, config: Any, simulator: str, runs: Sequence[Run], names: Sequence[str] = (), bus: str = "stream"
) -> list[Any]:
    """Run in one simulation, and fail with the first difference and its seed; return what the bench says.

    No result may differ, none may be too many, `fault` is set after an illegal job alone, and a job alone that nothing
    stalls takes the cycles of the cost model. `names` says of each run what it belongs to.
    """
    said = bench_core(built(core, config, simulator, bus), core, config, runs, bus)
    for each, result, name in zip(runs, said, names or [core] * len(runs), strict=True):
        assert result["mismatches"] == 0, f"{name}: {result['first_mismatch']}; replay with seed {result['seed']}"
        assert result["surplus"] == 0, name
        assert result["fault"] == bool(each.illegal_last), name
        if each.alone:
            job = each.jobs[0].fields
            assert result["cycles"] == config.cycles(**job), f"{name}: {job}"
        if bus != "stream":
            assert result["vectors"] == sum(vectors_of(config, job) for job in each.jobs), name
    return said


def run_scenarios(core: str, config: Any, simulator: str, count: int = MANY) -> None:
    """Run all scenarios, one after the other, in one simulation; `count` random jobs of a core that has no products."""
    runs = {name: scenario(core, config) for name, scenario in SCENARIOS.items()}
    runs["jobs in a row with stalls"] = jobs_with_stalls(core, config, count)
    names = [name for name, some in runs.items() for _ in some]
    run(core, config, simulator, [each for some in runs.values() for each in some], names)


def behind_axi(core: str, config: Any, simulator: str) -> None:
    """Behind AXI jobs of all modes, the mode from its register, are exact under stalls; alone, one takes its cycles."""
    jobs: list[Job | Product]
    if find_core(core).streams_products:
        shape = (min(37, config.n_in_max), min(7, config.n_out_max), 2)
        jobs = [random_product(*shape, config, mode, mode) for mode in reversed(range(len(config.modes)))]
        jobs.append(jobs[0])
    else:
        jobs = [*random_jobs(core, config, 6, seed=3)]
    illegal = dict.fromkeys(jobs[0].fields, 0)
    runs = [
        Run(jobs, stall=0.2),
        Run(jobs, 0.4, 2, reset_after=120),
        Run(jobs[:1]),
        Run(jobs[:1], illegal_last=[illegal]),
    ]
    run(core, config, simulator, runs, bus="axi")
