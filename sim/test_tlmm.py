"""Benches of TLMM: the RTL of many configurations against plain torch, in Verilator or Icarus.

Each configuration is compiled once and runs every case: extreme operands, ragged and single-element sizes, random
operands with random stalls, jobs back to back, illegal jobs, and a reset in mid-flight. Without stalls the cycles must
equal the engine's cost model.
"""

import dataclasses
import itertools
import shutil
from typing import Any

import pytest
import torch

from nomul.engines.tlmm import TlmmConfig
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product, random_product
from nomul.sim.runner import SIMULATORS
from nomul.sim.scenarios import extremes, run

SMALL: dict[str, Any] = {"n_in_max": 96, "n_out_max": 48}
CONFIGS = {
    "half": TlmmConfig(tables=6, rows=4, fill_units=2, **SMALL),
    "one_bank": TlmmConfig(group=4, tables=3, rows=3, fill_units=1, banks=1, act_bits=5, **SMALL),
    "full": TlmmConfig(group=2, table="full", tables=5, rows=2, fill_units=5, **SMALL),
    "wide": TlmmConfig(group=5, tables=2, rows=1, fill_units=2, act_bits=16, **SMALL),
    "xcup": TlmmConfig(tables=9, rows=8, fill_units=3, target="xcup", **SMALL),
    "xc7_full": TlmmConfig(table="full", tables=7, rows=4, fill_units=7, target="xc7", **SMALL),
    "ecp5": TlmmConfig(tables=5, rows=3, fill_units=5, banks=1, target="ecp5", **SMALL),
}


class TestTlmm(CoreConformance):
    core = "tlmm"
    configs = CONFIGS


@pytest.mark.bench
def test_every_code_times_every_pair_of_activations(simulator_name: str) -> None:
    """Exhaustive: groups of two 4-bit activations, all 256 pairs times all 9 ternary pairs, in each table."""
    config = TlmmConfig(group=2, tables=2, rows=3, fill_units=1, act_bits=4, n_in_max=8, n_out_max=9)
    pairs = torch.tensor(list(itertools.product(range(-8, 8), repeat=2)))
    codes = torch.tensor(list(itertools.product((-1, 0, 1), repeat=2)), dtype=torch.int8)
    runs = []
    for place in (0, 2):
        activations, weight = torch.zeros(256, 4, dtype=torch.int64), torch.zeros(9, 4, dtype=torch.int8)
        activations[:, place : place + 2], weight[:, place : place + 2] = pairs, codes
        runs.append(Run([Product(weight, activations)]))
    for said in bench_core(build_core("tlmm", config, simulator_name), "tlmm", config, runs):
        assert (said["outputs"], said["mismatches"]) == (256 * 9, 0)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["half", "xcup"])
def test_every_code_times_every_activation(name: str, simulator_name: str) -> None:
    """All 27 ternary triples times all 256 activations in each place, the others at an extreme, in every table."""
    codes = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=torch.int8)
    config, runs = CONFIGS[name], []
    for table in range(config.tables):
        activations = torch.zeros(3 * 256, config.step, dtype=torch.int64)
        for place in range(3):
            block = activations[256 * place : 256 * (place + 1), 3 * table : 3 * table + 3]
            block[:] = -128 if place % 2 else 127
            block[:, place] = torch.arange(-128, 128)
        weight = torch.zeros(27, config.step, dtype=torch.int8)
        weight[:, 3 * table : 3 * table + 3] = codes
        runs.append(Run([Product(weight, activations)]))
    run("tlmm", CONFIGS[name], simulator_name, runs)


@pytest.mark.bench
def test_no_sum_of_the_longest_reduction_overflows(simulator_name: str) -> None:
    """The narrowest accumulator that the configuration accepts holds -128 * -1 summed n_in_max times."""
    config = dataclasses.replace(CONFIGS["half"], total_bits=CONFIGS["half"].total_width)
    with pytest.raises(ValueError, match=r"^TlmmConfig field 'total_bits' is 14; allowed: 15 or more"):
        dataclasses.replace(config, total_bits=config.total_width - 1)
    run("tlmm", CONFIGS["half"], simulator_name, [Run([extremes(config)])])


ONE_STAGE = {"table": "full", "group": 2, "tables": 2, "rows": 1, "fill_units": 1, "n_in_max": 8, "n_out_max": 8}


@pytest.mark.bench
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    "fields",
    [
        ONE_STAGE | {"target": "xcup"},
        ONE_STAGE | {"target": "xc7", "group": 3, "rows": 2, "banks": 1, "weights": "dense"},
        {"tables": 8, "rows": 2, "fill_units": 1, "n_in_max": 6, "n_out_max": 4},
    ],
    ids=["one stage", "one stage, dense", "tables far beyond the longest vector"],
)
def test_smallest_sums_and_longest_steps(fields: dict[str, Any], simulator: str) -> None:
    """A sum of one stage takes its accumulator early; a step may have many beats beyond the end of a vector."""
    if simulator == "icarus" and not shutil.which("iverilog"):
        pytest.skip("Icarus is not installed")
    config = TlmmConfig(**fields)
    jobs = [random_product(min(n_in, config.n_in_max), min(n_out, config.n_out_max), 6, config, n_in)
            for n_in, n_out in ((8, 8), (3, 4), (5, 1))]  # fmt: skip
    run("tlmm", config, simulator, [*(Run([job]) for job in jobs), Run(jobs, stall=0.4, seed=1)])
