# amaranth: UnusedElaboratable=no
"""A core behind AXI: exact results under any stalling, and registers that keep their word."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nomul.bus.axi import AxiCore
from nomul.bus.axi_lite import AxiLiteRegisters, Register
from nomul.bus.job_registers import config_hash, job_registers
from nomul.engines.tlmm import Tlmm, TlmmConfig
from nomul.export.rtlil import verilog
from nomul.sim.axi_bench import BUSY, DONE, FAULT, PENDING, REFUSED
from nomul.sim.check import Run, make_case
from nomul.sim.product import Product
from nomul.sim.runner import SIMULATORS, Simulator, build

pytestmark = pytest.mark.bench

SMALL = TlmmConfig(tables=4, rows=2, fill_units=2, n_in_max=64, n_out_max=64, act_bits=6)
WIDE = TlmmConfig(
    tables=2,
    rows=3,
    fill_units=1,
    n_in_max=64,
    n_out_max=64,
    act_bits=12,
    total_bits=40,
    group=2,
    table="full",
    banks=1,
)
NUMBER = 0x12345678


def axi(config: TlmmConfig) -> Simulator:
    return build(
        verilog(AxiCore(Tlmm(config), config, NUMBER), "tlmm_axi"),
        "tlmm_axi",
        os.environ.get("NOMUL_SIM") or SIMULATORS[0],
    )


@pytest.fixture(scope="module")
def small() -> Simulator:
    return axi(SMALL)


def case(folder: Path, config: TlmmConfig, *shapes: tuple[int, int, int], **settings: Any) -> dict[str, Any]:
    """Draw a product for each (n_in, n_out, tokens), one vector of it the smallest; the oracle is plain torch."""
    random = torch.Generator().manual_seed(settings.get("seed", 0))
    products = []
    for n_in, n_out, tokens in shapes:
        low = -(1 << (config.act_bits - 1))
        weight = torch.randint(-1, 2, (n_out, n_in), generator=random, dtype=torch.int8)
        activations = torch.randint(low, -low, (tokens, n_in), generator=random)
        activations[0] = low
        products.append(Product(weight, activations))
    made = make_case("tlmm", config, Run(products, **settings), folder / "case.npz")
    return dataclasses.asdict(made) | {"timeout": 20_000}


def simulate(simulator: Simulator, values: dict[str, Any]) -> dict[str, Any]:
    (result,) = simulator.run("nomul.sim.axi_bench", {"cases": [values]})["results"]
    return result


def exact(result: dict[str, Any], outputs: int, tokens: int) -> None:
    assert result["first_mismatch"] is None
    assert (result["outputs"], result["mismatches"], result["surplus"]) == (outputs, 0, 0)
    assert result["vectors"] == tokens


@pytest.mark.parametrize("shape", [(50, 37, 3), (64, 64, 2), (1, 1, 1)])
def test_results_and_cycles_are_those_of_the_model_when_nothing_stalls(
    small: Simulator, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    result = simulate(small, case(tmp_path, SMALL, shape))
    exact(result, shape[1] * shape[2], shape[2])
    assert (result["cycles"], result["fault"]) == (SMALL.cycles(*shape), 0)


def test_cycles_of_jobs_that_overlap_count_from_the_first(small: Simulator, tmp_path: Path) -> None:
    result = simulate(small, case(tmp_path, SMALL, (64, 64, 2), (1, 1, 1)))
    exact(result, 129, 3)
    assert SMALL.cycles(64, 64, 2) < result["cycles"] < SMALL.cycles(64, 64, 2) + SMALL.cycles(1, 1, 1)


@pytest.mark.parametrize(("stall", "seed"), [(0.2, 1), (0.5, 2), (0.8, 3)])
def test_results_are_exact_under_random_pauses(small: Simulator, tmp_path: Path, stall: float, seed: int) -> None:
    jobs = ((13, 5, 1), (64, 3, 4), (1, 64, 2), (30, 1, 3))
    result = simulate(small, case(tmp_path, SMALL, *jobs, stall=stall, seed=seed))
    exact(result, 5 + 12 + 128 + 3, 10)


@pytest.mark.parametrize("cycles", [40, 90, 300])
def test_a_reset_in_mid_flight_leaves_nothing_behind(small: Simulator, tmp_path: Path, cycles: int) -> None:
    jobs = ((64, 37, 3), (20, 64, 1))
    result = simulate(small, case(tmp_path, SMALL, *jobs, stall=0.1, seed=cycles, reset_after=cycles))
    exact(result, 37 * 3 + 64, 4)


def test_wide_activations_and_results_have_wide_containers(tmp_path: Path) -> None:
    simulator = axi(WIDE)
    exact(simulate(simulator, case(tmp_path, WIDE, (50, 37, 3), stall=0.2)), 37 * 3, 3)
    assert simulate(simulator, case(tmp_path, WIDE, (64, 9, 2)))["cycles"] == WIDE.cycles(64, 9, 2)


def test_a_wrong_expectation_is_noticed(small: Simulator, tmp_path: Path) -> None:
    wrong = case(tmp_path, SMALL, (20, 7, 2))
    arrays = dict(np.load(wrong["arrays"]))
    arrays["results0"][6, 0] ^= 1  # of four transfers a token, the third of the second token
    np.savez(wrong["arrays"], **arrays)
    result = simulate(small, wrong)
    assert result["mismatches"] == 1
    assert (result["first_mismatch"]["token"], result["first_mismatch"]["row"]) == (1, 4)


def test_registers_read_as_declared_and_other_addresses_are_errors(small: Simulator, tmp_path: Path) -> None:
    seen = small.run("nomul.sim.axi_scenarios", case(tmp_path, SMALL), "register_access")
    okay, error = 0, 2
    words = {
        0x00: 0x4E4F4D4C, 0x04: 1, 0x08: NUMBER, 0x0C: config_hash(SMALL), 0x10: 0xEFCDAB44,
        0x14: 0, 0x18: 0, 0x20: 0, 0x24: 2, 0x28: 0, 0x2C: 0, 0x30: 0,
    }  # fmt: skip
    assert seen["words"] == {
        str(address): [words[address], okay] if address in words else [0, error] for address in range(0, 256, 4)
    }
    assert seen["writes"] == {
        "0": error, str(0x24): okay, str(0x2C): error, str(0x34): error, str(0x80): error, str(0xFC): error
    }  # fmt: skip
    assert seen["after"] == 0


def test_write_channels_may_come_in_any_order(small: Simulator, tmp_path: Path) -> None:
    seen = small.run("nomul.sim.axi_scenarios", case(tmp_path, SMALL), "channel_order")
    assert seen["seen"] == [[0] * 3, [100] * 3, [200] * 3]


def test_an_illegal_job_sets_fault_until_it_is_cleared_and_hangs_nothing(small: Simulator, tmp_path: Path) -> None:
    seen = small.run("nomul.sim.axi_scenarios", case(tmp_path, SMALL, (20, 7, 2)), "illegal_jobs")
    assert seen["statuses"] == [[FAULT, FAULT, 0]] * 8
    exact(seen, 14, 2)
    assert seen["fault"] == 0


def test_start_is_refused_while_a_job_is_pending(small: Simulator, tmp_path: Path) -> None:
    seen = small.run("nomul.sim.axi_scenarios", case(tmp_path, SMALL, (20, 7, 2), (33, 4, 1)), "pending_jobs")
    both = BUSY | PENDING
    assert seen["statuses"] == [BUSY, both, both | REFUSED, both, DONE]
    exact(seen, 18, 3)
    assert seen["left"] == 0


def test_each_job_interrupts_once_its_last_result_has_left(small: Simulator, tmp_path: Path) -> None:
    seen = small.run("nomul.sim.axi_scenarios", case(tmp_path, SMALL, (20, 7, 2), (33, 40, 1), (5, 9, 3)), "interrupts")
    assert seen == {"held": [0, 0], "tokens": [2, 3, 6], "quiet": [0, 0, 0], "raised": 1}


def test_every_field_of_a_configuration_changes_its_hash() -> None:
    changed = [dataclasses.replace(SMALL, rows=4), dataclasses.replace(SMALL, banks=1)]
    assert len({config_hash(config) for config in (SMALL, *changed)}) == 3


def test_register_declarations_are_checked() -> None:
    with pytest.raises(ValueError, match=r"register X has offset 6; allowed: multiples of 4 below 256"):
        Register("X", 6, "r", "")
    with pytest.raises(ValueError, match=r"register X has access 'x'; allowed: r, w, rw"):
        Register("X", 4, "x", "")
    with pytest.raises(ValueError, match=r"two registers have the same offset"):
        AxiLiteRegisters([job_registers(SMALL)[0]] * 2)
    with pytest.raises(ValueError, match=r"core number -1 is not one of 0 to 4294967295"):
        AxiCore(Tlmm(SMALL), SMALL, -1)
