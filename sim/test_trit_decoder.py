"""Benches of the decoder of dense weights, alone and in TLMM, in Verilator or Icarus.

Alone it meets every value, legal or not, in every place of a block; the expectation is made of trits by
division and of the codes of `nomul.golden.tlmm`. In TLMM the products must be those of plain torch and, without stalls,
the cycles those of the cost model.
"""

import functools
import random
from typing import Any

import pytest

from nomul.engines.tlmm import TlmmConfig
from nomul.engines.tlmm_table import index_codes
from nomul.export.rtlil import verilog
from nomul.golden.tlmm import rank_weights
from nomul.memory.trit_decoder import GroupCode, TritDecoder
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.product import random_product
from nomul.sim.runner import Simulator, build

DECODERS = {  # group, full, groups of a block, units of a transfer
    "half_three": (3, False, 9, 2),
    "full_three_ragged": (3, True, 13, 1),
    "half_two": (2, False, 12, 2),
    "half_four": (4, False, 5, 1),
    "full_five": (5, True, 11, 1),
}


@functools.cache
def built(name: str, simulator: str) -> Simulator:
    group, full, groups, units = DECODERS[name]
    code = GroupCode(group, tuple(index_codes(group, full)))
    return build(verilog(TritDecoder(code, groups, units), "decoder"), "decoder", simulator)


def block_of(name: str, transfers: list[list[int]]) -> str:
    """Return the block that some transfers of bytes make, in hexadecimal."""
    group, full, groups, _ = DECODERS[name]
    sign = 1 << (3**group // 2).bit_length()
    ranks = {tuple(weights): rank for rank, weights in enumerate(rank_weights(group).tolist(), -(3**group // 2))}
    trits = [byte // 3**i % 3 - 1 if byte < 243 else 0 for transfer in transfers for byte in transfer for i in range(5)]
    block = 0
    for number in range(groups):
        rank = ranks[tuple(trits[number * group : (number + 1) * group])]
        index = rank & 2 * sign - 1 if full else abs(rank) | (rank < 0) * sign
        block |= index << number * sign.bit_length()
    return f"{block:x}"


def run(name: str, simulator: str, transfers: list[list[int]], stall: float = 0.0) -> dict[str, Any]:
    """Decode transfers, compare the blocks, and return what the bench says."""
    _, _, groups, units = DECODERS[name]
    per_block = -(-groups // (5 * units))
    assert len(transfers) % per_block == 0
    want = [block_of(name, transfers[i : i + per_block]) for i in range(0, len(transfers), per_block)]
    case = {
        "transfers": [bytes(transfer)[::-1].hex() for transfer in transfers],
        "blocks": len(want),
        "stall": stall,
        "seed": 1,
    }
    said = built(name, simulator).run("nomul.sim.decoder_bench", case)
    assert said["blocks"] == want
    return said


@pytest.mark.bench
@pytest.mark.parametrize("name", DECODERS)
class TestTritDecoder:
    def test_every_byte_in_every_place(self, name: str, simulator_name: str) -> None:
        group, _, groups, units = DECODERS[name]
        lanes, per_block = units * group, -(-groups // (5 * units))
        dice = random.Random(name)
        transfers = []
        for _ in range(2):
            # One order of all values for each place of a block.
            values = [dice.sample(range(256), 256) for _ in range(lanes * per_block)]
            for block in zip(*values, strict=True):
                transfers += [list(block[i : i + lanes]) for i in range(0, len(block), lanes)]
        said = run(name, simulator_name, transfers)
        # Without stalls, a transfer a cycle, and a block in the cycle after its last transfer.
        assert said["taken"] == list(range(len(transfers)))
        assert said["cycles"] == list(range(per_block, len(transfers) + 1, per_block))
        assert said["fault"] == 2 + next(i for i, transfer in enumerate(transfers) if max(transfer) > 242)

    def test_stalls_neither_lose_nor_repeat_a_block(self, name: str, simulator_name: str) -> None:
        group, _, groups, units = DECODERS[name]
        dice = random.Random(name)
        count = 60 * -(-groups // (5 * units))
        transfers = [[dice.randrange(243) for _ in range(units * group)] for _ in range(count)]
        said = run(name, simulator_name, transfers, stall=0.5)
        assert said["fault"] is None

    def test_the_fault_stays(self, name: str, simulator_name: str) -> None:
        group, _, groups, units = DECODERS[name]
        per_block = -(-groups // (5 * units))
        transfers = [[121] * (units * group) for _ in range(8 * per_block)]
        transfers[2][-1] = 243
        said = run(name, simulator_name, transfers)
        assert (said["fault"], said["faulty"]) == (4, 1)


SMALL: dict[str, Any] = {"n_in_max": 64, "n_out_max": 64, "weights": "dense"}
ENGINES = {
    "one_transfer": TlmmConfig(tables=4, rows=2, fill_units=2, **SMALL),
    "two_transfers": TlmmConfig(group=2, table="full", tables=3, rows=3, fill_units=3, weight_lanes=1, **SMALL),
    "ragged": TlmmConfig(tables=4, rows=4, fill_units=4, weight_lanes=1, banks=1, **SMALL),
    "five": TlmmConfig(group=5, tables=3, rows=3, fill_units=3, weight_lanes=1, act_bits=4, **SMALL),
}


@functools.cache
def engine(name: str, simulator: str) -> Simulator:
    return build_core("tlmm", ENGINES[name], simulator)


@pytest.mark.bench
@pytest.mark.parametrize("name", ENGINES)
class TestDenseTlmm:
    def test_products_and_cycles(self, name: str, simulator_name: str) -> None:
        config = ENGINES[name]
        shapes = [(1, 1, 1), (1, 64, 2), (64, 1, 5), (64, 64, 2), (config.step + 1, config.rows + 1, 4), (37, 29, 3)]
        runs = [
            Run([random_product(*shape, config, seed=shape[0])], stall, seed=shape[1])
            for shape in shapes
            for stall in (0.0, 0.5)
        ]
        for run_, said in zip(runs, bench_core(engine(name, simulator_name), "tlmm", config, runs), strict=True):
            assert (said["mismatches"], said["surplus"], said["fault"]) == (0, 0, 0), said["first_mismatch"]
            if not run_.stall:
                assert said["cycles"] == config.cycles(**run_.jobs[0].fields), run_.jobs[0].fields

    def test_jobs_back_to_back_and_reset(self, name: str, simulator_name: str) -> None:
        config = ENGINES[name]
        products = [random_product(n, 40 - n, 2, config, seed=n) for n in (7, 31, 19)]
        runs = [Run(products, stall=0.1, seed=5, reset_after=reset_after) for reset_after in (None, 45, 46, 47)]
        for said in bench_core(engine(name, simulator_name), "tlmm", config, runs):
            assert (said["mismatches"], said["surplus"], said["fault"]) == (0, 0, 0), said["first_mismatch"]
