"""Bit planes in 32-bit words, most significant bit first."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nomul.errors import InputError
from nomul.formats import plane_words

shapes = hnp.array_shapes(min_dims=1, max_dims=2, max_side=70)
trits = hnp.arrays(np.int8, shapes, elements=st.integers(-1, 1))


def by_definition(bits):
    """Words of one row: element e is bit 31 - e % 32 of word e // 32."""
    row = [0] * -(-len(bits) // 32)
    for e, bit in enumerate(bits):
        row[e // 32] |= bool(bit) << 31 - e % 32
    return row


@given(hnp.arrays(np.bool_, shapes))
def test_planes_follow_the_definition(bits):
    packed = plane_words.pack_plane(torch.from_numpy(bits))
    assert packed.dtype == torch.uint32
    rows = bits.reshape(-1, bits.shape[-1])
    assert packed.reshape(len(rows), -1).tolist() == [by_definition(row) for row in rows]
    assert torch.equal(plane_words.unpack_plane(packed, bits.shape[-1]), torch.from_numpy(bits))


@given(trits)
def test_ternary_round_trip(values):
    plus, minus = plane_words.pack_ternary(torch.from_numpy(values))
    rows = values.reshape(-1, values.shape[-1])
    assert plus.reshape(len(rows), -1).tolist() == [by_definition(row == 1) for row in rows]
    assert minus.reshape(len(rows), -1).tolist() == [by_definition(row == -1) for row in rows]
    assert torch.equal(plane_words.unpack_ternary(plus, minus, values.shape[-1]), torch.from_numpy(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_binary_is_the_sign_bit(dtype):
    values = torch.tensor([3, -1, 0, -7, 5], dtype=dtype)
    packed = plane_words.pack_binary(values)
    assert packed.tolist() == [0b01010 << 27]
    assert plane_words.unpack_binary(packed, 5).tolist() == [1, -1, 1, -1, 1]


def test_minus_zero_is_minus_one():
    assert plane_words.pack_binary(torch.tensor([0.0, -0.0])).tolist() == [0b01 << 30]


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_a_tie_at_one_half_is_zero(scale):
    steps = torch.tensor([-2.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 2.0])
    above = torch.nextafter(torch.tensor(0.5 * scale), torch.tensor(9.0))
    values = torch.cat([steps * scale, above[None], -above[None]])
    expected = [-1, -1, 0, 0, 0, 0, 0, 1, 1]
    assert plane_words.quantise_ternary(values, scale).tolist()[:9] == expected
    assert plane_words.quantise_ternary(values, scale).tolist()[9:] == [1, -1]


def test_popcount_identities_of_the_kernels():
    """The products of facts 2.2 on packed words equal plain integer dot products."""
    generator = np.random.default_rng(5)
    for n in (1, 31, 32, 33, 96, 100):
        w = np.where(generator.random(n) < 0.5, -1, 1).astype(np.int8)
        a, b = generator.integers(-1, 2, (2, n)).astype(np.int8)
        sign = plane_words.pack_binary(torch.from_numpy(w)).tolist()
        (ap, an), (bp, bn) = (
            [plane.tolist() for plane in plane_words.pack_ternary(torch.from_numpy(x))] for x in (a, b)
        )

        def ones(first, second, operation):
            return sum(operation(x, y).bit_count() for x, y in zip(first, second, strict=True))

        xor, both = int.__xor__, int.__and__
        assert ones(sign, ap, xor) - ones(sign, an, xor) == int(w.astype(int) @ a)
        expected = ones(ap, bp, both) + ones(an, bn, both) - ones(ap, bn, both) - ones(an, bp, both)
        assert expected == int(a.astype(int) @ b)


def test_wrong_arguments():
    word = torch.zeros(1, dtype=torch.uint32)
    with pytest.raises(InputError, match=r"^a plane is a torch.bool tensor \[..., n\], not torch.int8 \[3\]$"):
        plane_words.pack_plane(torch.zeros(3, dtype=torch.int8))
    with pytest.raises(
        InputError, match=r"^a plane of 33 elements is a torch.uint32 tensor \[..., 2\], not torch.uint32"
    ):
        plane_words.unpack_plane(word, 33)
    with pytest.raises(
        InputError, match=r"^a plane of 3 elements is a torch.uint32 tensor \[..., 1\], not torch.int64"
    ):
        plane_words.unpack_plane(torch.zeros(1, dtype=torch.int64), 3)
    with pytest.raises(InputError, match=r"^the plane has a bit 1 after its 5 elements, where padding must be 0$"):
        plane_words.unpack_plane(torch.tensor([1], dtype=torch.uint32), 5)
    with pytest.raises(InputError, match=r"^weight 2 at \[1\] is not a trit; allowed are -1, 0 and 1$"):
        plane_words.pack_ternary(torch.tensor([0, 2], dtype=torch.int8))
    ones = plane_words.pack_plane(torch.ones(4, dtype=torch.bool))
    with pytest.raises(InputError, match=r"^the element at \[0\] is 1 in both planes; P or N may be 1, not both$"):
        plane_words.unpack_ternary(ones, ones, 4)
    with pytest.raises(InputError, match=r"^the planes have the shapes \[1\] and \[2, 1\], which must be equal$"):
        plane_words.unpack_ternary(word, torch.zeros((2, 1), dtype=torch.uint32), 4)
    with pytest.raises(InputError, match=r"^the value at \[1\] is nan$"):
        plane_words.pack_binary(torch.tensor([0.0, float("nan")]))
    with pytest.raises(InputError, match=r"^the value at \[0\] is nan$"):
        plane_words.quantise_ternary(torch.tensor([float("nan")]), 1.0)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=rf"^the scale is {scale}, but it must be finite and greater than 0$"):
            plane_words.quantise_ternary(torch.zeros(1), scale)
