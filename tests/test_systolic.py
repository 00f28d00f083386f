"""The systolic arrays' configuration, their cost model at full size, and operands that they do not take."""

import dataclasses
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.errors import InputError
from nomul.formats.mixpe import GroupQuantized
from nomul.formats.systolic import systolic_job
from nomul.systolic.systolic import SystolicConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 0}, r"^SystolicConfig field 'rows' is 0; allowed: 1 to 256$"),
        ({"dataflow": "input"}, r"field 'dataflow' is 'input'; allowed: output, weight$"),
        ({"group": 31}, r"field 'group' is 31; allowed: 32 or more, twice the rows, for dataflow 'output'$"),
        (
            {"group": 40, "dataflow": "weight"},
            r"field 'group' is 40; allowed: a multiple of rows = 16, for dataflow 'weight'$",
        ),
        ({"activation": "fp32"}, r"field 'activation' is 'fp32'; allowed: int8, fp16$"),
        ({"significand": 25}, r"field 'significand' is 25; allowed: 11 to 24$"),
        ({"fraction_bits": 9}, r"field 'fraction_bits' is 9; allowed: none for activation 'int8'$"),
        (
            {"fraction_bits": 23, "activation": "fp16"},
            r"field 'fraction_bits' is 23; allowed: -2 to 22, 27 being exact, for results of 64 bits or fewer$",
        ),
        (
            {"significand": 24, "scale_bits": 16, "n_in_max": 1 << 19, "activation": "fp16"},
            r"field 'n_in_max' is 524288; allowed: 1 to 279624, for results of 64 bits or fewer$",
        ),
    ],
)
def test_a_wrong_field_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SystolicConfig(**fields)


@pytest.mark.parametrize("activation", ["int8", "fp16"])
@pytest.mark.parametrize("dataflow", ["output", "weight"])
@pytest.mark.parametrize("tokens", [1, 64])
def test_large_arrays_are_used(dataflow: str, tokens: int, activation: str) -> None:
    """64 x 64 elements, 4096 x 4096; the benches hold the same model to small arrays."""
    config = SystolicConfig(rows=64, columns=64, dataflow=dataflow, activation=activation)
    assert config.utilisation(n_in=4096, n_out=4096, tokens=tokens) >= 0.99
    least = 4096 * 4096 * tokens / (64 * 64 if tokens == 64 else 64)
    assert config.cycles(n_in=4096, n_out=4096, tokens=tokens) >= least


@pytest.mark.parametrize(
    ("fields", "width", "fraction"),
    [
        ({}, 64, 22),
        ({"n_in_max": 50, "scale_bits": 5}, 60, 27),
        ({"fraction_bits": -2}, 40, -2),
        ({"significand": 24, "scale_bits": 16, "n_in_max": 279624}, 64, 8),
    ],
)
def test_a_result_is_as_fine_as_64_bits_allow(fields: dict, width: int, fraction: int) -> None:
    config = SystolicConfig(**(fields | {"activation": "fp16"}))
    assert (config.total_width, config.fraction) == (width, fraction)
    finest = SystolicConfig(n_in_max=1, scale_bits=1, activation="fp16", significand=config.significand)
    assert finest.fraction == finest.fraction_exact == 13 + config.significand


def operands(**changes: object) -> GroupQuantized:
    fields = {"codes": torch.ones(4, 8, dtype=torch.int8), "zeros": torch.zeros(4, 1), "scales": torch.ones(4, 1)}
    return GroupQuantized(**(fields | {"group": 8} | changes))


CONFIG = SystolicConfig(rows=2, columns=2, group=8, n_in_max=16, n_out_max=8, tokens_max=4)


@pytest.mark.parametrize(
    ("weights", "vectors", "message"),
    [
        (operands(), torch.zeros(5, 8), r"^tokens is 5; this unit takes 1 to 4; set tokens_max to 5 or more$"),
        (operands(), torch.zeros(1, 7), r"^activations have shape \[1, 7\]; these weights want \[tokens, 8\]$"),
        (operands(), torch.full((1, 8), 128), r"^activation 0 of vector 0 is 128; allowed: -128 to 127 "),
        (operands(scales=torch.full((4, 1), 256)), torch.zeros(1, 8), r"^a scale is 256; this unit takes 0 to 255 "),
        (
            operands(zeros=torch.zeros(4, 2), scales=torch.ones(4, 2), group=4),
            torch.zeros(1, 8),
            r"^the weights have groups of 4; this unit's group is 8$",
        ),
    ],
)
def test_operands_that_the_unit_does_not_take_are_refused(
    weights: GroupQuantized, vectors: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        systolic_job(CONFIG, weights, vectors)


def test_an_activation_that_is_no_word_is_refused() -> None:
    config = dataclasses.replace(CONFIG, activation="fp16")
    with pytest.raises(InputError, match=r"^activation 3 of vector 0 is 40000; allowed: -32768 to 32767 \(binary16\)$"):
        systolic_job(config, operands(), torch.tensor([[0, 0, 0, 40000, 0, 0, 0, 0]]))


def number(word: int) -> Fraction:
    """A finite binary16 word as a fraction, by its definition."""
    sign, field, fraction = -1 if word & 0x8000 else 1, word >> 10 & 31, word & 1023
    if field == 0:
        return sign * Fraction(fraction, 1 << 24)
    return sign * (1 + Fraction(fraction, 1024)) * Fraction(2) ** (field - 15)


@st.composite
def words(draw: st.DrawFn, count: int) -> list[int]:
    """Zeros of both signs, subnormals, the largest numbers, and exponents near each other or anywhere."""
    base, span = draw(st.integers(0, 30)), draw(st.sampled_from([1, 4, 31]))
    fields = st.integers(0, span - 1).map(lambda more: min(30, base + more))
    near = st.builds(lambda sign, field, low: sign << 15 | field << 10 | low, st.integers(0, 1), fields, ten_bits)
    return draw(
        st.lists(near | st.sampled_from([0, 0x8000, 1, 0x83FF, 0x7BFF, 0xFBFF]), min_size=count, max_size=count)
    )


ten_bits = st.sampled_from([0, 1, 0x200, 0x3FF]) | st.integers(0, 1023)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["output", "weight"]), st.integers(1, 13), st.integers(11, 24))
def test_the_error_bound_holds(data: st.DataObject, dataflow: str, n_in: int, significand: int) -> None:
    """The equation of hw/nomul/systolic/systolic.py, number by number, and its distance from exact arithmetic."""
    exact_fraction = 13 + significand
    config = SystolicConfig(
        rows=2, columns=2, group=4, dataflow=dataflow, activation="fp16", significand=significand, n_in_max=16,
        fraction_bits=data.draw(st.integers(exact_fraction - 29, min(exact_fraction, 22)) | st.none()), scale_bits=4,
        n_out_max=8, tokens_max=4,
    )  # fmt: skip
    parts = -(-n_in // 4)
    some = st.lists(st.integers(0, 15), min_size=n_in, max_size=n_in)
    codes, vector = data.draw(some), data.draw(words(n_in))
    zeros, scales = (data.draw(st.lists(st.integers(0, 15), min_size=parts, max_size=parts)) for _ in range(2))
    weights = GroupQuantized(torch.tensor([codes], dtype=torch.int8), torch.tensor([zeros]), torch.tensor([scales]), 4)
    signed_words = torch.tensor([[(word ^ 0x8000) - 0x8000 for word in vector]])
    said = int(systolic_job(config, weights, signed_words).outputs["results"][0][0, 0])

    fraction, result, exact, bound = config.fraction, 0, Fraction(0), Fraction(0)
    summed = 2 if dataflow == "weight" else 4
    for start in range(0, n_in, summed):
        part = range(start, min(start + summed, n_in))
        largest = max([1, *(vector[k] >> 10 & 31 for k in part)])
        unit, scale, zero = Fraction(2) ** (largest - 14 - significand), scales[start // 4], zeros[start // 4]
        total = sum((codes[k] - zero) * round(number(vector[k]) / unit) for k in part)
        result += round(total * scale * unit * Fraction(2) ** fraction)
        exact += sum(scale * (codes[k] - zero) * number(vector[k]) for k in part)
        bound += scale * unit / 2 * sum(abs(codes[k] - zero) for k in part)
        bound += Fraction(2) ** (-fraction - 1) if largest < 14 + significand - fraction else 0
    assert said == result
    assert abs(said * Fraction(2) ** -fraction - exact) <= bound
    fits = all((word >> 10 & 31) >= 30 - (significand - 11) for word in vector)
    assert not fits or fraction < exact_fraction or said * Fraction(2) ** -fraction == exact


@pytest.mark.parametrize("special", [0x7C00, -0x400, 0x7E00, 0x7C01])
@pytest.mark.parametrize("dataflow", ["output", "weight"])
def test_special_values_count_as_zero_and_mark_their_token(dataflow: str, special: int) -> None:
    """Whatever the scale of the group is that they are in, 0 included."""
    config = SystolicConfig(
        rows=2, columns=2, group=4, dataflow=dataflow, activation="fp16", n_in_max=8, n_out_max=4, tokens_max=4
    )
    codes, parts = torch.arange(12, dtype=torch.int8).view(2, 6), (2, 2)
    weights = GroupQuantized(codes, torch.full(parts, 7), torch.tensor([[3, 0], [1, 200]]), 4)
    vectors = torch.full((2, 6), 0x3C01)
    vectors[1, 5] = 0
    (clean, _), width = systolic_job(config, weights, vectors).outputs["results"], config.total_width
    vectors[1, 5] = special
    (marked, _) = systolic_job(config, weights, vectors).outputs["results"]
    for good, bad in zip(clean.tolist(), marked.tolist(), strict=True):
        changed = [a ^ b for a, b in zip(good, bad, strict=True)]
        whole = [number & ((1 << width) - 1) for number in changed]
        assert whole in ([0, 1 << (width - 1)], [1 << (width - 1)] * 2, [0, 0])
    differ = (clean != marked).sum()
    assert differ == 2


def test_the_largest_result_leaves_the_mark_alone() -> None:
    """Sums that fill their bits, in each number of them."""
    for fraction in (None, -2, 9):
        config = SystolicConfig(
            rows=2,
            columns=2,
            group=4,
            activation="fp16",
            n_in_max=64,
            n_out_max=4,
            tokens_max=4,
            fraction_bits=fraction,
        )
        codes, parts = torch.zeros(1, 64, dtype=torch.int8), (1, 16)
        weights = GroupQuantized(codes, torch.full(parts, 15), torch.full(parts, 255), 4)
        said, _ = systolic_job(config, weights, torch.full((1, 64), -0x401)).outputs["results"]
        exact = 64 * 255 * 15 * 65504 * Fraction(2) ** config.fraction
        assert said[0, 0] == exact
        assert exact < 1 << (config.total_width - 2)


@pytest.mark.parametrize("dataflow", ["output", "weight"])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (40, 9), (77, 20)])
def test_the_bits_of_weights_are_those_of_the_streams(dataflow: str, n_in: int, n_out: int) -> None:
    """What searches count is what the packer makes for one tile of tokens."""
    config = SystolicConfig(rows=4, columns=3, group=8, dataflow=dataflow, tokens_tile=6)
    codes = torch.zeros(n_out, n_in, dtype=torch.int8)
    groups = torch.ones(n_out, -(-n_in // 8), dtype=torch.int64)
    job = systolic_job(config, GroupQuantized(codes, groups, groups, 8), torch.ones(1, n_in, dtype=torch.int64))
    ports = {port.name: port for port in config.inputs}
    assert config.weight_stream_bits(n_in, n_out) == sum(
        len(job.inputs[name]) * ports[name].width for name in ("codes", "scales")
    )
