"""The dense weight stream of TLMM: its packer, the group codes of its decoder, and its configuration."""

import re

import numpy as np
import pytest
import torch
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.catalog import pack_weights
from nomul.engines.tlmm import TlmmConfig
from nomul.engines.tlmm_table import index_codes
from nomul.errors import InputError
from nomul.formats import tlmm
from nomul.golden.tlmm import rank_weights
from nomul.memory.trit_decoder import GroupCode, TritUnit


def trits(byte: int) -> list[int]:
    """Five trits of a byte, by repeated division; nothing of `nomul.formats`."""
    digits = []
    for _ in range(5):
        byte, digit = divmod(byte, 3)
        digits.append(digit - 1)
    return digits


@settings(max_examples=60, deadline=None)
@given(
    n_out=st.integers(1, 9),
    n_in=st.integers(1, 40),
    group=st.integers(2, 5),
    tables=st.integers(2, 5),
    rows=st.integers(1, 4),
    units=st.integers(1, 3),
    seed=st.integers(0, 1 << 16),
)
def test_packed_transfers_hold_every_weight_at_its_place(n_out, n_in, group, tables, rows, units, seed):
    weight = torch.randint(-1, 2, (n_out, n_in), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))
    packed = tlmm.pack_dense(weight, group=group, tables=tables, rows=rows, units=units)
    step, per_block = tables * group, -(-rows * tables // (5 * units))
    blocks, steps = -(-n_out // rows), -(-n_in // step)
    assert packed.dtype == np.uint8
    assert packed.shape == (steps * blocks * per_block, units * group)
    stream = packed.reshape(steps, blocks, -1)
    for s in range(steps):
        for b in range(blocks):
            run = [trit for byte in stream[s, b].tolist() for trit in trits(byte)]
            for place, trit in enumerate(run):
                row, column = divmod(place, step)
                k, n = b * rows + row, s * step + column
                exists = row < rows and k < n_out and n < n_in
                assert trit == (int(weight[k, n]) if exists else 0), (s, b, place)


def test_a_packed_block_written_by_hand():
    # One row, two tables of two: the trits 1 -1 0 1 and one of padding; digits 2 0 1 2 1.
    weight = torch.tensor([[1, -1, 0, 1]], dtype=torch.int8)
    packed = tlmm.pack_dense(weight, group=2, tables=2, rows=1, units=1)
    assert packed.tolist() == [[2 + 0 * 3 + 1 * 9 + 2 * 27 + 1 * 81, 121]]


def test_pack_dense_refuses_what_is_not_ternary():
    weight = torch.tensor([[0, 2]], dtype=torch.int8)
    with pytest.raises(InputError, match="2"):
        tlmm.pack_dense(weight, group=2, tables=2, rows=1, units=1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("group", [2, 3, 4, 5])
def test_index_codes_are_the_ranks_of_the_golden_model(group, full):
    codes, largest = index_codes(group, full), (3**group - 1) // 2
    sign = 1 << largest.bit_length()
    for rank, weights in enumerate(rank_weights(group).tolist(), -largest):
        number = sum((weight + 1) * 3**i for i, weight in enumerate(weights))
        assert codes[number] == (rank & 2 * sign - 1 if full else abs(rank) | (rank < 0) * sign)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5])
def test_decoded_bytes_are_the_trits_of_their_group(group):
    """Every value of every byte, and every pair of values of neighbouring bytes that share a group.

    Codes are numbers of groups, so that nothing of the engine is in the expectation.
    """
    codes = [(number * 7 + 3) % 3**group for number in range(3**group)]
    assert sorted(codes) == list(range(3**group))
    unit = TritUnit(GroupCode(group, tuple(codes)))
    rows = [
        [121] * position + [value] + [121] * (group - position - 1) for position in range(group) for value in range(256)
    ]
    dice = np.random.default_rng(group)
    rows += dice.integers(0, 256, (3000, group)).tolist()
    rows += dice.integers(0, 243, (1000, group)).tolist()

    async def bench(ctx):
        for row in rows:
            for position, value in enumerate(row):
                ctx.set(unit.dense[position], value)
            run = [trit for value in row for trit in (trits(value) if value < 243 else [0] * 5)]
            for number in range(5):
                place = sum((run[number * group + i] + 1) * 3**i for i in range(group))
                assert ctx.get(unit.codes[number]) == codes[place], (row, number)
            assert ctx.get(unit.invalid) == any(value > 242 for value in row), row

    simulator = Simulator(unit)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_group_code_refuses_another_number_of_codes():
    with pytest.raises(ValueError, match=r"^groups of 3 trits have 27 codes, not 26$"):
        GroupCode(3, tuple(range(26)))


@pytest.mark.parametrize(
    ("fields", "units", "transfers", "width"),
    [
        ({}, 8, 12, 8 * 3 * 8),  # 28 * 16 groups are 90 units
        ({"weight_lanes": 90}, 90, 1, 90 * 3 * 8),
        ({"weight_lanes": 45}, 45, 2, 45 * 3 * 8),
        ({"tables": 4, "fill_units": 2, "rows": 2}, 2, 1, 2 * 3 * 8),
        ({"tables": 4, "fill_units": 2, "rows": 2, "weight_lanes": 1, "group": 5}, 1, 2, 5 * 8),
    ],
)
def test_configuration_of_the_dense_stream(fields, units, transfers, width):
    config = TlmmConfig(weights="dense", **fields)
    assert (config.dense_units, config.block_transfers, config.weight_width) == (units, transfers, width)
    blocks, steps = -(-100 // config.rows), -(-200 // config.step)
    assert config.weight_transfers(200, 100) == blocks * steps * transfers
    weight = torch.zeros(100, 200, dtype=torch.int8)
    packed = pack_weights("tlmm", config, weight)
    assert packed.shape == (blocks * steps * transfers, width // 8)
    assert (packed == 121).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"weight_lanes": 8},
            "TlmmConfig field 'weight_lanes' is 8; allowed: none, unless weights is 'dense'",
        ),
        (
            {"weights": "dense", "weight_lanes": 91},
            "TlmmConfig field 'weight_lanes' is 91; allowed: 1 to 90, as a block of rows * tables = 448 groups has "
            "90 units of five groups",
        ),
        (
            {"weights": "dense", "weight_lanes": 0},
            "TlmmConfig field 'weight_lanes' is 0; allowed: 1 to 16384, or none to derive it",
        ),
        ({"weights": "packed"}, "TlmmConfig field 'weights' is 'packed'; allowed: index, dense"),
    ],
)
def test_refused_configurations(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TlmmConfig(**fields)
