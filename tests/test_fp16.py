"""The FP16 engines' configurations, weight streams and golden models, against numpy and exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.catalog import configure, pack_weights
from nomul.draw import Draw
from nomul.engines.fp16_fma import Fp16FmaConfig
from nomul.engines.mixpe_fp16 import MixpeFp16Config
from nomul.errors import InputError
from nomul.formats import fp16
from nomul.golden import fp16_fma, mixpe_fp16
from nomul.sim.check import check_core
from nomul.sim.product import Product


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes_in": 0}, r"MixpeFp16Config field 'lanes_in' is 0; allowed: 1 to 256"),
        ({"rows": 257}, r"field 'rows' is 257; allowed: 1 to 256"),
        ({"lanes_in": 32, "n_in_max": 16}, r"field 'lanes_in' is 32; allowed: at most n_in_max = 16"),
        ({"group": 24}, r"field 'group' is 24; allowed: multiples of lanes_in = 16"),
        ({"group": 0}, r"field 'group' is 0; allowed: 1 to 16384"),
        ({"significand": 10}, r"field 'significand' is 10; allowed: 11 to 24"),
        (
            {"significand": 20, "n_in_max": 1024},
            r"field 'n_in_max' is 1024; allowed: 1 to 1023, for results of 64 bits with significand = 20",
        ),
        ({"target": "tpu"}, r"field 'target' is 'tpu'; allowed: portable, xcup, xc7, ecp5, cells"),
    ],
)
def test_a_wrong_mixpe_configuration_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"{message}$"):
        MixpeFp16Config(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 0}, r"Fp16FmaConfig field 'rows' is 0; allowed: 1 to 256"),
        ({"n_in_max": (1 << 20) + 1}, r"field 'n_in_max' is 1048577; allowed: 1 to 1048576"),
    ],
)
def test_a_wrong_fp16_configuration_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"{message}$"):
        Fp16FmaConfig(**fields)


def test_a_weight_of_five_bits_is_refused():
    weight = torch.zeros(2, 3, dtype=torch.int8)
    weight[1, 2] = 8
    with pytest.raises(InputError, match=r"^weight \[1, 2\] is 8; allowed: -8 to 7$"):
        pack_weights("mixpe_fp16", MixpeFp16Config(), weight)


def test_a_weight_that_is_no_word_is_refused():
    with pytest.raises(InputError, match=r"^weight \[0, 1\] is 65535; allowed: -32768 to 32767$"):
        pack_weights("fp16", Fp16FmaConfig(), torch.tensor([[0, 65535]]))


def test_an_activation_that_is_no_word_is_refused():
    product = Product(torch.ones(1, 2, dtype=torch.int8), torch.tensor([[0, 65535]]))
    with pytest.raises(InputError, match=r"^activation 1 of token 0 is 65535; allowed: -32768 to 32767"):
        check_core("mixpe_fp16", configure("mixpe_fp16", ["lanes_in=2", "group=2", "rows=1"]), [product])


def test_the_order_of_weights():
    weight = torch.tensor([[1, 2, 3], [-1, -2, -8], [7, 0, 5]])
    packed = fp16.pack(weight, lanes=2, rows=2, bits=4)
    assert packed.tolist() == [[0x21, 0xEF], [0x03, 0x08], [0x07, 0x00], [0x05, 0x00]]
    assert fp16.pack(weight[:2], lanes=1, rows=2, bits=16).tolist()[1] == [2, 0, 0xFE, 0xFF]


def test_words_and_numbers():
    numbers = torch.tensor([0.0, 1.0, -2.5, 2.0**-24, 65504.0, 65520.0, 1 + 2.0**-11])
    assert fp16.to_words(numbers).tolist() == [0, 0x3C00, 0xC100 - 65536, 1, 0x7BFF, 0x7C00, 0x3C00]
    every = torch.arange(-32768, 32768)
    finite = (every & 0x7C00) != 0x7C00
    assert torch.equal(fp16.to_words(fp16.from_words(every))[finite], every[finite])


def words_of(shape, seed):
    return Draw(seed).words(*shape)


def as_float32(words):
    return words.numpy().astype(np.int16).view(np.float16).astype(np.float32)


@pytest.mark.parametrize("n_in", [1, 2, 9, 40])
def test_fused_sums_are_those_of_float32(n_in):
    """A product of two float16 is exact in float32, so numpy's sum of it is the fused result."""
    weight, activations = words_of((40, n_in), n_in), words_of((60, n_in), n_in + 100)
    total = np.zeros((60, 40), np.float32)
    with np.errstate(all="ignore"):
        for a, w in zip(as_float32(activations).T, as_float32(weight).T, strict=True):
            total = total + a[:, None] * w[None]
    wanted = total.view(np.int32).astype(np.int64)
    wanted[np.isnan(total)] = fp16_fma.NAN
    assert np.isfinite(total).mean() > 0.2
    assert np.array_equal(fp16_fma.matmul(weight, activations).numpy(), wanted)


def number(word):
    """A finite binary16 word as a fraction, by its definition."""
    sign, field, fraction = -1 if word & 0x8000 else 1, word >> 10 & 31, word & 1023
    if field == 0:
        return sign * Fraction(fraction, 1 << 24)
    return sign * (1 + Fraction(fraction, 1024)) * Fraction(2) ** (field - 15)


finite_words = st.integers(0, 65535).filter(lambda word: word >> 10 & 31 != 31)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.integers(11, 24))
def test_the_error_bound_holds(data, n_in, group, significand):
    words = data.draw(st.lists(finite_words, min_size=n_in, max_size=n_in))
    if data.draw(st.booleans()):
        base = data.draw(st.integers(0, 24))  # exponents near each other, or sums are one term
        words = [word & 0x83FF | min(30, base + (word >> 10) % 7) << 10 for word in words]
    weights = data.draw(st.lists(st.integers(-8, 7), min_size=n_in, max_size=n_in))
    n_in_max = 64
    said = mixpe_fp16.matmul(
        torch.tensor([weights]), torch.tensor([words]), group=group, significand=significand, n_in_max=n_in_max
    )
    unit = Fraction(2) ** (-13 - significand)
    exact, bound = Fraction(0), Fraction(0)
    for start in range(0, n_in, group):
        part = list(zip(words, weights, strict=True))[start : start + group]
        largest = max(1, *(word >> 10 & 31 for word, _ in part)) if part else 1
        exact += sum(weight * number(word) for word, weight in part)
        bound += sum(abs(weight) for _, weight in part) * Fraction(2) ** (largest - 15 - significand)
    error = abs(int(said) * unit - exact)
    assert error <= bound
    narrow = all((word >> 10 & 31) >= 30 - (significand - 11) for word in words)
    if narrow:
        assert error == 0


def test_the_bound_is_reached():
    """E is 15 and the unit 2^-10; two activations are half a unit each, half-way to an even number below."""
    words, half = [0x3C00, 0x1000, 0x1000], Fraction(1, 1 << 11)
    assert [number(word) for word in words] == [1, half, half]
    said = mixpe_fp16.matmul(
        torch.tensor([[0, 7, 7]]), torch.tensor([words]), group=3, significand=11, n_in_max=8
    ).item()
    assert abs(said * Fraction(1, 1 << 24) - 14 * half) == 14 * half


def test_every_word_alone_is_exact():
    """All 16 weights times all finite words, a group each: nothing is lost."""
    words = torch.arange(65536)
    words = words[(words >> 10 & 31) != 31]
    said = mixpe_fp16.matmul(torch.arange(-8, 8)[:, None], words[:, None], group=1, significand=11, n_in_max=1)
    units = torch.tensor([fp16_fma.units(word) for word in words.tolist()])
    assert torch.equal(said, units[:, None] * torch.arange(-8, 8))  # 2^-24 is the unit of significand 11


@pytest.mark.parametrize("special", [0x7C00, 0xFC00, 0x7E00, 0x7C01])
def test_infinities_and_nan_mark_every_result(special):
    weight = torch.tensor([[0, 3], [0, -3], [1, 0]])
    sizes = {"group": 2, "significand": 11, "n_in_max": 2}
    clean = mixpe_fp16.matmul(weight, torch.tensor([[0, 0x3C00]]), **sizes)[0]
    marked = mixpe_fp16.matmul(weight, torch.tensor([[special, 0x3C00]]), **sizes)[0]
    width = MixpeFp16Config(lanes_in=2, group=2, significand=11, n_in_max=2).total_width
    assert width == mixpe_fp16.result_width(2, 11)
    top = 1 << (width - 1)
    for good, bad in zip(clean.tolist(), marked.tolist(), strict=True):
        assert bad & (2 * top - 1) == (good & (2 * top - 1)) ^ top
        assert (bad >> (width - 1) & 1) != (bad >> (width - 2) & 1)
        assert (good >> (width - 1) & 1) == (good >> (width - 2) & 1)


def test_the_largest_sum_leaves_the_flag_alone():
    config = MixpeFp16Config(lanes_in=1, group=1, significand=14, n_in_max=64)
    words = torch.full((1, 64), 0xFBFF)
    said = mixpe_fp16.matmul(torch.full((1, 64), -8), words, group=1, significand=14, n_in_max=64)
    assert said.item() == 64 * 8 * 65504 << 27
    assert said.item() < 1 << (config.total_width - 2)
