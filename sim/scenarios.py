"""What every engine's bench runs: extreme operands, ragged sizes with stalls, resets, illegal jobs, the cost model."""

import random
from typing import Any

import torch

from sim.check import Product, Run, bench_engine, build_engine, random_product
from sim.grouped import extreme_groups

__all__ = ["Scenarios", "extremes"]

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


class Scenarios:
    """Runs one configuration of an engine in one simulator, and asserts that no result differs.

    Parameters
    ----------
    engine : str
    config : EngineConfig
        Small lengths: the scenarios go up to them.
    simulator : str
    """

    def __init__(self, engine: str, config: Any, simulator: str) -> None:
        self.engine, self.config = engine, config
        self.simulator = build_engine(engine, config, simulator)

    def run(self, *runs: Run) -> list[dict[str, Any]]:
        """Run and compare; a failure names the first difference and the seed."""
        said = bench_engine(self.simulator, self.engine, self.config, runs)
        for result in said:
            assert result["mismatches"] == 0, f"{result['first_mismatch']}; replay with seed {result['seed']}"
            assert result["surplus"] == 0
        return said

    @property
    def modes(self) -> range:
        """Numbers of the engine's modes."""
        return range(len(self.config.modes))

    def extreme_operands(self) -> None:
        """Run the largest and smallest operands in every mode, one mode after the other."""
        self.run(Run([extremes(self.config, mode) for mode in self.modes]))

    def cycles_equal_the_cost_model(self, shapes: list[tuple[int, int, int]]) -> None:
        """Run each shape (n_in, n_out, tokens) alone, in every mode, and compare the cycles."""
        config = self.config
        shapes = [
            (1, 1, 1),
            (1, config.n_out_max, 2),
            (config.n_in_max, 1, 5),
            (config.n_in_max, config.n_out_max, 3),
            *shapes,
        ]
        cases = [(*shape, mode) for mode in self.modes for shape in shapes]
        runs = [Run([random_product(*case[:3], config, seed=case[0], mode=case[3])]) for case in cases]
        for case, said in zip(cases, self.run(*runs), strict=True):
            assert said["cycles"] == config.cycles(*case), case

    def ragged_sizes_with_stalls(self, seeds: int = 8) -> None:
        """Run four random jobs back to back for each seed, with random stalls of every stream."""
        config, runs = self.config, []
        for seed in range(seeds):
            dice = random.Random(seed)
            shapes = [
                (dice.randint(1, config.n_in_max), dice.randint(1, config.n_out_max), dice.randint(1, 4))
                for _ in range(4)
            ]
            products = [random_product(*shape, config, seed, dice.choice(self.modes)) for shape in shapes]
            runs.append(Run(products, stall=dice.choice([0.0, 0.1, 0.5, 0.8]), seed=seed))
        self.run(*runs)

    def reset_in_mid_flight(self) -> None:
        """Reset at several moments of two long jobs and run them again."""
        config = self.config
        products = [random_product(config.n_in_max, config.n_out_max, 2, config, seed) for seed in (1, 2)]
        total = sum(config.cycles(**product.job) for product in products)
        moments = (1, 7, total // 4, total // 2, total - 9)
        self.run(*(Run(products, stall=0.2, seed=after, reset_after=after) for after in moments))

    def illegal_jobs_do_nothing(self) -> None:
        """Give illegal jobs before and after a legal one."""
        config = self.config
        good = random_product(min(5, config.n_in_max), min(3, config.n_out_max), 1, config, seed=0)
        wrong = [
            ("n_in", 0),
            ("n_in", config.n_in_max + 1),
            ("n_out", 0),
            ("n_out", config.n_out_max + 1),
            ("tokens", 0),
        ]
        # Modes that fit the field and do not exist.
        wrong += [("mode", mode) for mode in range(len(self.modes), 1 << (len(self.modes) - 1).bit_length())]
        jobs = [good.job | {field: value} for field, value in wrong]
        for said in self.run(*(Run([good], illegal_last=job) for job in jobs)):
            assert said["fault"] == 1
        for said in self.run(*(Run([good], illegal_first=job) for job in jobs)):
            assert said["fault"] == 0
