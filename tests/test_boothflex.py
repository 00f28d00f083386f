"""Baseline, BoothFlex and BoothFlex-BS: configurations, weight streams, golden models."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.arith import digits
from nomul.engines.baseline import BaselineConfig
from nomul.engines.boothflex import BoothFlexConfig
from nomul.engines.boothflex_bs import BoothFlexBsConfig
from nomul.errors import InputError
from nomul.formats import baseline, boothflex, boothflex_bs
from nomul.golden import baseline as baseline_golden
from nomul.golden import boothflex as boothflex_golden
from nomul.golden import boothflex_bs as boothflex_bs_golden

SIZES = (st.integers(1, 20), st.integers(1, 5), st.integers(1, 90), st.integers(1, 12), st.integers(0, 2**31))


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (BaselineConfig, {"lanes_in": 0}, r"BaselineConfig field 'lanes_in' is 0; allowed: 1 to 512"),
        (BaselineConfig, {"lanes_in": 32, "n_in_max": 16}, r"'lanes_in' is 32; allowed: at most n_in_max = 16"),
        (BaselineConfig, {"lanes_in": 3, "target": "cells"}, r"'lanes_in' is 3; allowed: 4 or more for target 'cells'"),
        (BaselineConfig, {"target": "cells", "queue": 32}, r"'queue' is 32; allowed: none for target 'cells'"),
        (BaselineConfig, {"total_bits": 27}, r"'total_bits' is 27; allowed: 28 or more, for sums of n_in_max = 4096"),
        (BoothFlexConfig, {"rows": 257}, r"BoothFlexConfig field 'rows' is 257; allowed: 1 to 256"),
        (BoothFlexConfig, {"n_in_max": 60}, r"'lanes_in' is 16; allowed: at most a quarter of n_in_max = 60"),
        (BoothFlexConfig, {"lanes_in": 2, "target": "cells"}, r"'lanes_in' is 2; allowed: 4 or more"),
        (BoothFlexConfig, {"target": "gowin"}, r"'target' is 'gowin'; allowed: portable, xcup"),
        (BoothFlexBsConfig, {"queue": 3}, r"BoothFlexBsConfig field 'queue' is 3; allowed: 16 to 4096"),
        (BoothFlexBsConfig, {"total_bits": 20}, r"'total_bits' is 20; allowed: 28 or more"),
        (BoothFlexBsConfig, {"lanes_in": 9, "n_in_max": 8}, r"'lanes_in' is 9; allowed: at most n_in_max = 8"),
    ],
)
def test_a_wrong_field_is_refused(config: Any, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)


def draw(n_in: int, n_out: int, seed: int, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randint(low, high + 1, (n_out, n_in), generator=random).to(torch.int8)
    activations = torch.randint(-128, 128, (2, n_in), generator=random)
    return weight, activations, activations @ weight.long().T


@settings(max_examples=40, deadline=None)
@given(*SIZES)
def test_the_baseline_stream_gives_the_product(lanes: int, rows: int, n_in: int, n_out: int, seed: int) -> None:
    weight, activations, expected = draw(n_in, n_out, seed, -128, 127)
    steps = baseline.steps(weight, lanes=lanes, rows=rows)
    for starts in (None, baseline.starts(steps)):
        assert torch.equal(baseline_golden.matmul(steps, activations, n_out, starts), expected)


@settings(max_examples=40, deadline=None)
@given(*SIZES, st.booleans())
def test_the_boothflex_stream_gives_the_product(
    lanes: int, rows: int, n_in: int, n_out: int, seed: int, ternary: bool
) -> None:
    weight, activations, expected = draw(n_in, n_out, seed, *((-1, 1) if ternary else (-128, 127)))
    steps = boothflex.steps(weight, lanes=lanes, rows=rows, ternary=ternary)
    natural = boothflex.codes(steps, corrected=False)
    assert torch.equal(boothflex_golden.matmul(natural, activations, n_out, ternary=ternary), expected)
    codes = boothflex.codes(steps, corrected=True)
    starts = boothflex.starts(codes, ternary)
    assert torch.equal(boothflex_golden.matmul(codes, activations, n_out, ternary=ternary, starts=starts), expected)


@settings(max_examples=40, deadline=None)
@given(*SIZES, st.integers(0, 4))
def test_the_bit_serial_stream_gives_the_product(
    lanes: int, rows: int, n_in: int, n_out: int, seed: int, mode: int
) -> None:
    count = (1, 1, 2, 3, 4)[mode]
    low, high = (-1, 1) if mode == 0 else (-(4**count) // 2, 4**count // 2 - 1)
    weight, activations, expected = draw(n_in, n_out, seed, low, high)
    steps = boothflex_bs.steps(weight, lanes=lanes, rows=rows, digits=count, low=low, high=high)
    assert steps.shape[1] == count
    assert torch.equal(boothflex_bs_golden.matmul(steps, activations, n_out), expected)


def test_every_number_is_its_digits() -> None:
    numbers = torch.arange(-128, 128)
    found = baseline_golden.digits(numbers)
    assert found.min() == -2 and found.max() == 1
    assert torch.equal((found * torch.tensor([1, 4, 16, 64])).sum(-1) + digits.OFFSET, numbers)
    codes = numbers.to(torch.int8).view(torch.uint8) ^ boothflex.INVERTED
    pairs = codes.long()[:, None] >> torch.tensor([0, 2, 4, 6]) & 3
    assert torch.equal((pairs & 1) - 2 * (pairs >> 1), found)


def test_baseline_bytes_are_where_the_documentation_says() -> None:
    steps = baseline.steps(torch.tensor([[1, -2, 3], [4, 5, -128]], dtype=torch.int8), lanes=2, rows=2)
    assert baseline.pack(steps, corrected=False).tolist() == [[1, 254, 4, 5], [3, 0, 128, 0]]
    wide = baseline.steps(torch.tensor([[1, -2, 3, 4, 5]], dtype=torch.int8), lanes=5, rows=1)
    start = 42 * 11 - 256 * 85 * 5
    assert baseline.pack(wide, corrected=True).tolist()[0] == list(start.to_bytes(5, "little", signed=True))


def test_boothflex_codes_are_where_the_documentation_says() -> None:
    trits = torch.tensor([[1, -1, 0, 1, -1, -1, 0, 0, 1]], dtype=torch.int8)
    steps = boothflex.steps(trits, lanes=2, rows=1, ternary=True)
    # Lane 0 has inputs 0, 2, 4, 6; lane 1 has 1, 3, 5, 7.
    assert boothflex.pack(steps, corrected=False).tolist() == [[0b00_11_00_01, 0b00_11_01_11], [0b01, 0]]
    numbers = torch.arange(1, 10, dtype=torch.int8)[None]
    steps = boothflex.steps(numbers, lanes=2, rows=1, ternary=False)
    assert boothflex.pack(steps, corrected=False).tolist() == [
        [1, 2], [9, 0], [3, 4], [0, 0], [5, 6], [0, 0], [7, 8], [0, 0],
    ]  # fmt: skip
    assert boothflex.codes(steps, corrected=True)[0, 0, 0].tolist() == [1 ^ 0b101010, 2 ^ 0b101010]


def test_bit_serial_digits_are_where_the_documentation_says() -> None:
    weight = torch.tensor([[0b0110, -7]], dtype=torch.int8)
    steps = boothflex_bs.steps(weight, lanes=2, rows=1, digits=2, low=-8, high=7)
    assert steps.flatten().tolist() == [0b01, 0b10, 0b10, 0b01]
    assert boothflex_bs.pack(steps).tolist() == [[0b10_01], [0b01_10]]


def test_a_weight_out_of_the_modes_range_is_refused() -> None:
    wrong = torch.tensor([[0, 1], [0, -9]])
    with pytest.raises(InputError, match=r"^weight \[1, 1\] is -9; allowed: -8 to 7$"):
        boothflex_bs.steps(wrong, lanes=2, rows=1, digits=2, low=-8, high=7)
    with pytest.raises(InputError, match=r"^weight \[1, 1\] is -9; allowed: -1 to 1$"):
        boothflex.steps(wrong, lanes=2, rows=1, ternary=True)
    with pytest.raises(InputError, match=r"^weight \[0, 0\] is 200; allowed: -128 to 127$"):
        baseline.steps(torch.tensor([[200]]), lanes=2, rows=1)


def test_cycles_and_transfers_follow_the_mode() -> None:
    flex = BoothFlexConfig(lanes_in=16, rows=8)
    assert [flex.weight_transfers(640, 64, mode) for mode in (0, 1)] == [8 * 40, 8 * 10]
    cells = BoothFlexConfig(lanes_in=16, rows=8, target="cells")
    assert [cells.weight_transfers(640, 64, mode) for mode in (0, 1)] == [8 * 41, 8 * 11]
    assert [mode.macs_per_cycle for mode in flex.modes] == [128, 512]
