"""The serial side of a board: frames in gateware against `nomul.host.serial`, under noise."""

import dataclasses
import os

import pytest

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.shape import ModelShape
from nomul.cores.tlmm import CORE
from nomul.export.rtlil import verilog
from nomul.sim.echo_machine import EchoTop
from nomul.sim.runner import build
from nomul.sim.serial_fuzz import BoardModel, script

TIMEOUT = 300
NUMBER = 0x89ABCDEF
OCTETS = int(os.environ.get("NOMUL_FUZZ_OCTETS", "30000"))

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def config():
    shape = ModelShape(width=4, layers=1, heads=1, kv_heads=1, head_dim=4, ffn=4, vocabulary=65, context=20)
    return AcceleratorConfig(
        shape, CORE.gateware, lanes=2, tile=2, settings=(("tables", 2), ("fill_units", 1)), steps=(0, 0)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_never_hangs_or_misleads_the_board(config, simulator_name, seed):
    simulator = build(verilog(EchoTop(config, NUMBER, TIMEOUT), "echo_top"), "echo_top", simulator_name)
    model = BoardModel(config.shape.context, config.shape.vocabulary, NUMBER)
    steps = [dataclasses.astuple(step) for step in script(model, OCTETS // 2, seed)]
    case = {"steps": steps, "seed": seed, "gap": 3, "timeout": TIMEOUT}
    result = simulator.run("nomul.sim.serial_bench", case)
    assert result["wrong"] is None
    assert result["octets"] >= OCTETS // 2
