"""Benches of MixPE: the RTL of many configurations against plain torch, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.arith.recoding import RECODINGS
from nomul.engines.mixpe import MixpeConfig
from nomul.formats.mixpe import GroupQuantized
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product, random_product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 96, "n_out_max": 24}
CONFIGS = {
    "portable": MixpeConfig(lanes_in=8, rows=4, group=32, **SMALL),
    "binary": MixpeConfig(lanes_in=6, rows=3, group=24, recoding="binary", codes="unsigned", act_bits=6, **SMALL),
    "row": MixpeConfig(lanes_in=5, rows=4, group=0, recoding="booth4", scale_bits=5, load_lanes=1, **SMALL),
    "one": MixpeConfig(lanes_in=1, rows=1, group=1, recoding="digits", n_in_max=24, n_out_max=8),
    "units": MixpeConfig(lanes_in=8, rows=6, group=16, codes="unsigned", scale_bits=3, **SMALL),
    "fold": MixpeConfig(lanes_in=4, rows=8, fold=2, group=24, codes="unsigned", scale_bits=4, **SMALL),
    "xcup": MixpeConfig(lanes_in=8, rows=4, group=32, target="xcup", **SMALL),
    "xc7": MixpeConfig(lanes_in=7, rows=2, group=14, act_bits=4, codes="unsigned", target="xc7", **SMALL),
    "ecp5": MixpeConfig(lanes_in=8, rows=2, group=32, target="ecp5", **SMALL),
    "ecp5_ternary": MixpeConfig(lanes_in=5, rows=4, group=10, weight="ternary", scale_bits=5, target="ecp5", **SMALL),
    "ternary": MixpeConfig(lanes_in=8, rows=2, group=16, weight="ternary", target="cells", **SMALL),
    "cells": MixpeConfig(lanes_in=8, rows=4, group=32, codes="unsigned", target="cells", **SMALL),
    "cells_fold": MixpeConfig(lanes_in=4, rows=6, fold=3, group=24, target="cells", **SMALL),
    "cells_digits": MixpeConfig(lanes_in=4, rows=4, group=8, recoding="digits", low=3, target="cells", **SMALL),
    "cells_booth": MixpeConfig(lanes_in=6, rows=2, group=12, recoding="booth4", low=0, target="cells", **SMALL),
    "cells_binary": MixpeConfig(lanes_in=4, rows=2, group=0, recoding="binary", act_bits=5, target="cells", **SMALL),
}


class TestMixpe(CoreConformance):
    core = "mixpe"
    configs = CONFIGS


@pytest.mark.bench
@pytest.mark.parametrize("codes", ["signed", "unsigned"])
@pytest.mark.parametrize("target", ["portable", "cells"])
@pytest.mark.parametrize("recoding", RECODINGS)
def test_every_code_times_every_activation(recoding: str, target: str, codes: str, simulator_name: str) -> None:
    """All 16 codes x 256 activations, -128 included, in every lane of every row, the other lanes at an extreme."""
    config = MixpeConfig(
        lanes_in=4, rows=2, group=4, codes=codes, recoding=recoding, target=target, n_in_max=4, n_out_max=16
    )
    low = -8 if codes == "signed" else 0
    runs = []
    for lane in range(config.lanes_in):
        activations = torch.full((256, config.lanes_in), -128 if lane % 2 else 127)
        activations[:, lane] = torch.arange(-128, 128)
        weight = (torch.arange(16)[:, None] * 7 + torch.arange(config.lanes_in)) % 16 + low
        weight[:, lane] = torch.arange(low, low + 16)
        zeros = (torch.arange(16)[:, None] * 5) % 16 + low
        scales = (torch.arange(16)[:, None] * 17) % 256
        runs.append(Run([Product(GroupQuantized(weight.to(torch.int8), zeros, scales, 4), activations)]))
    run("mixpe", config, simulator_name, runs)


@pytest.mark.bench
def test_behind_axi(simulator_name: str) -> None:
    config = MixpeConfig(lanes_in=4, rows=2, group=8, n_in_max=24, n_out_max=8)
    products = [random_product(n_in, 5, 3, config, seed=n_in) for n_in in (7, 24)]
    simulator = build_core("mixpe", config, simulator_name, "axi")
    runs = [
        Run(products),
        Run(products, 0.3, seed=1),
        Run(products, illegal_last=[{"n_in": 0, "n_out": 1, "tokens": 1}]),
    ]
    said = bench_core(simulator, "mixpe", config, runs, "axi")
    assert [(each["mismatches"], each["surplus"]) for each in said] == [(0, 0)] * 3
    assert [each["fault"] for each in said] == [0, 0, 1]
