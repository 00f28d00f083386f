"""Vector operators against float64 and exact rationals, each with the bound that its docstring states."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.formats.rotary import Rotary
from nomul.golden import activation, linear, lm_head, residual, rope
from nomul.golden.absmax import absmax
from nomul.golden.requantise import WORD_BITS
from nomul.golden.rmsnorm import rmsnorm_absmax
from nomul.golden.scale import Scale, constant

WORD_MAX = (1 << (WORD_BITS - 1)) - 1


def random_words(seed: int, *shape: int, limit: int = WORD_MAX) -> torch.Tensor:
    return torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("code_max", [127, 255])
@given(st.lists(st.integers(-(2**54) + 1, 2**54 - 1), min_size=1, max_size=8))
def test_absmax_is_exact(code_max: int, values: list[int]) -> None:
    codes, largest = absmax(torch.tensor(values), code_max)
    top = max(abs(v) for v in values)
    assert int(largest) == top
    assert codes.tolist() == [round(Fraction(code_max * v, top)) if top else 0 for v in values]


def test_absmax_exhaustively_for_small_maxima() -> None:
    for top in range(1, 260):
        values = torch.cat((torch.arange(-top, top + 1), torch.tensor([top])))
        assert absmax(values)[0].tolist() == [round(Fraction(127 * int(v), top)) for v in values]


@pytest.mark.parametrize("limit", [1, 40, 3000, WORD_MAX])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e3])
def test_rmsnorm_absmax_against_float64(limit: int, eps: float) -> None:
    x = random_words(1, 200, 160, limit=limit)
    gain = torch.randint(-127, 128, (160,), generator=torch.Generator().manual_seed(2))
    codes, scale = rmsnorm_absmax(x, gain, constant(0.013 / 127), constant(1 / 160), constant(eps))
    real = x.double() * gain * 0.013 / (x.double().square().mean(-1, keepdim=True) + eps).sqrt()
    true = real.abs().amax(-1) / 127
    assert float((scale.to_float() / true - 1).abs().max()) < 2**-13
    # Half a step of the code, and the scale's own error on a code of 127.
    error = (codes * scale.to_float()[:, None] - real).abs() / true[:, None]
    assert float(error.max()) <= 0.5 + 127 * 2**-13


def test_rmsnorm_of_zero_and_of_extremes() -> None:
    x = torch.stack((torch.zeros(160, dtype=torch.int64), torch.full((160,), -WORD_MAX)))
    gain = torch.full((160,), 127)
    codes, scale = rmsnorm_absmax(x, gain, constant(1 / 127**2), constant(1 / 160), constant(1e-5))
    assert codes.tolist() == [[0] * 160, [-127] * 160]
    assert scale.to_float()[0] == 0
    assert abs(float(scale.to_float()[1]) * 127 - 1) < 2**-13


def test_rope_table_and_angles_against_float64() -> None:
    steps = rope.phase_steps(Rotary(10000.0).frequencies(64))
    positions = torch.arange(4096)
    cosine, sine = rope.cos_sin(positions, steps)
    angles = positions[:, None].double() * 10000.0 ** (-torch.arange(32).double() / 32)
    assert float((cosine / 2**14 - angles.cos()).abs().max()) < 2**-10
    assert float((sine / 2**14 - angles.sin()).abs().max()) < 2**-10
    length = (cosine.square() + sine.square()).double().sqrt() / 2**14
    assert float((length - 1).abs().max()) < 2**-14


def test_every_angle_of_the_rope_table() -> None:
    positions = torch.arange(4096)
    cosine, sine = rope.cos_sin(positions, torch.tensor([1 << 20]))
    middle = (positions.double() + 0.5) * math.tau / 4096
    assert float((cosine[:, 0] - middle.cos() * 2**14).abs().max()) <= 0.5 + 1e-9
    assert float((sine[:, 0] - middle.sin() * 2**14).abs().max()) <= 0.5 + 1e-9


def test_rotate_rounds_once() -> None:
    values = random_words(3, 50, 32, limit=20320)
    cosine, sine = rope.cos_sin(torch.arange(50), rope.phase_steps(Rotary(10000.0).frequencies(32)))
    result = rope.rotate(values, cosine, sine)
    for t in range(50):
        for i in range(16):
            low, high, c, s = (int(v) for v in (values[t, i], values[t, i + 16], cosine[t, i], sine[t, i]))
            assert int(result[t, i]) == round(Fraction(low * c - high * s, 1 << 10))
            assert int(result[t, i + 16]) == round(Fraction(high * c + low * s, 1 << 10))


def test_relu2_gate_is_exact_at_the_extremes() -> None:
    limit = 127 * 8192
    gate, up = torch.tensor([limit, limit, -limit, 3, 0]), torch.tensor([limit, -limit, limit, -5, 7])
    assert activation.relu2_gate(gate, up).tolist() == [limit**3, -(limit**3), 0, -45, 0]


def test_silu_over_the_whole_input_range() -> None:
    x = torch.arange(-WORD_MAX, WORD_MAX + 1)
    real = torch.nn.functional.silu(x.double() / 2**7)
    error = (activation.silu(x) / 2**14 - real).abs()
    assert float(error.max()) < 0.0028
    assert float(error[x.abs() < 8 * 2**7].max()) <= 2**-15 + 1e-12


@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=6))
def test_block_normalise(values: list[int]) -> None:
    words, shift = activation.block_normalise(torch.tensor(values))
    k = max(0, max(abs(v) for v in values).bit_length() - 19)
    assert int(shift) == k
    assert words.tolist() == [max(-WORD_MAX, min(WORD_MAX, round(Fraction(v, 2**k)))) for v in values]


def test_linears_equal_plain_integer_matmul() -> None:
    generator = torch.Generator().manual_seed(4)
    codes = torch.randint(-127, 128, (2, 7, 130), generator=generator)
    trits = torch.randint(-1, 2, (33, 130), generator=generator, dtype=torch.int8)
    assert torch.equal(linear.ternary_linear(trits, codes), codes @ trits.long().t())
    weight = torch.randint(-127, 128, (33, 130), generator=generator, dtype=torch.int8)
    assert torch.equal(linear.int8_linear(weight, codes), codes @ weight.long().t())
    nibbles = torch.randint(-8, 8, (33, 130), generator=generator, dtype=torch.int8)
    scales = torch.randint(1, 256, (33, 4), generator=generator)
    dense = nibbles.long() * scales[:, torch.arange(130) // 40]
    assert torch.equal(linear.grouped_linear(nibbles, scales, 40, codes), codes @ dense.t())


@pytest.mark.parametrize("n", [1, 5, 160, 400, 13824])
def test_linears_at_the_extremes(n: int) -> None:
    codes = torch.full((1, n), -127)
    ones = torch.ones(3, n, dtype=torch.int8)
    assert linear.ternary_linear(ones, codes).tolist() == [[-127 * n] * 3]
    assert linear.ternary_linear(-ones, codes).tolist() == [[127 * n] * 3]
    assert linear.int8_linear(-127 * ones, codes).tolist() == [[127 * 127 * n] * 3]
    scales = torch.full((3, -(-n // 80)), 255)
    assert linear.grouped_linear(-8 * ones, scales, 80, codes).tolist() == [[8 * 255 * 127 * n] * 3]


def test_residual_saturates() -> None:
    stream = torch.tensor([WORD_MAX - 5, -WORD_MAX + 5, 10])
    unit = Scale(torch.tensor(1 << 15), torch.tensor(-15))
    assert residual.add_residual(stream, torch.tensor([9, -9, 9]), unit).tolist() == [WORD_MAX, -WORD_MAX, 19]


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert lm_head.greedy(torch.tensor([[3, 9, 9, -1], [-5, -5, -5, -5], [0, 1, 2, 3]])).tolist() == [1, 0, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_sample_follows_softmax(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-40000, 40000, (6,), generator=generator)
    real = logits.double() / 20000
    unit = constant(2**8 * math.log2(math.e) / 20000).unsqueeze(-1)
    # Evenly spread numbers in place of random ones: the counts are the probabilities.
    random = (torch.arange(1 << 14) << 18) + (1 << 17)
    tokens = lm_head.sample(logits.expand(1 << 14, 6), unit, random)
    shares = torch.bincount(tokens, minlength=6).double() / (1 << 14)
    assert float((shares - real.softmax(0)).abs().max()) < 0.002


def test_sample_takes_the_first_and_the_last_token() -> None:
    logits = torch.zeros(2, 4, dtype=torch.int64)
    unit = constant(1.0).unsqueeze(-1)
    assert lm_head.sample(logits, unit, torch.tensor([0, (1 << 32) - 1])).tolist() == [0, 3]
