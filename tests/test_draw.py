"""Random operands: every width is drawn, up to the ends of 64 bits."""

import pytest
import torch

from nomul.draw import Draw


@pytest.mark.parametrize("bits", range(1, 65))
def test_values_of_every_width_are_in_range_and_reach_its_ends(bits):
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    drawn = torch.stack([Draw(seed).values(bits, 50) for seed in range(60)])
    assert (drawn.min().item(), drawn.max().item()) == (low, high)
    assert len(drawn.unique()) >= min(100, 1 << (bits - 1))


@pytest.mark.parametrize("low", [-(1 << 63), 1 - (1 << 63), 2 - (1 << 63), -1, 0, (1 << 63) - 3])
@pytest.mark.parametrize("high", [(1 << 63) - 1, (1 << 63) - 2])
def test_integers_reach_both_ends_of_64_bits(low, high):
    draw = Draw(1)
    drawn = draw.integers(low, high, 4000)
    assert low <= drawn.min().item() <= drawn.max().item() <= high
    if high - low < 8:
        assert {*drawn.tolist()} == {*range(low, high + 1)}
    else:
        middle = (low + high) // 2
        assert drawn.min().item() < low + (high - low) // 100 and drawn.max().item() > high - (high - low) // 100
        assert 1500 < (drawn > middle).sum().item() < 2500
    assert low <= draw.number(low, high) <= high


def test_the_same_seed_draws_the_same():
    assert torch.equal(Draw(7).values(20, 30), Draw(7).values(20, 30))
    assert Draw(3).integers(-5, 5, 6).tolist() == torch.randint(-5, 6, (6,), generator=torch.manual_seed(3)).tolist()
