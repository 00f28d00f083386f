"""Five trits in a byte."""

import re

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nomul.errors import InputError
from nomul.formats import dense

trits = hnp.arrays(np.int8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=13), elements=st.integers(-1, 1))


def by_definition(row):
    """Bytes of one row, straight from the definition."""
    digits = [w + 1 for w in row] + [1] * (-len(row) % 5)
    return [sum(digit * 3**i for i, digit in enumerate(digits[k : k + 5])) for k in range(0, len(digits), 5)]


@given(trits)
def test_pack_follows_the_definition_and_unpack_inverts_it(values):
    packed = dense.pack(torch.from_numpy(values))
    assert packed.dtype == torch.uint8
    rows = values.reshape(-1, values.shape[-1])
    assert packed.reshape(len(rows), -1).tolist() == [by_definition(row.tolist()) for row in rows]
    assert torch.equal(dense.unpack(packed, values.shape[-1]), torch.from_numpy(values))


def test_every_byte_has_one_meaning():
    packed = torch.arange(243, dtype=torch.uint8).reshape(243, 1)
    values = dense.unpack(packed, 5)
    assert len({tuple(row) for row in values.tolist()}) == 243
    assert torch.equal(dense.pack(values), packed)


def test_empty_axis():
    assert dense.pack(torch.zeros((3, 0), dtype=torch.int8)).shape == (3, 0)
    assert dense.unpack(torch.zeros((3, 0), dtype=torch.uint8), 0).shape == (3, 0)


def test_pack_does_not_change_its_argument():
    values = torch.tensor([[1, -1, 0]], dtype=torch.int8)
    dense.pack(values)
    assert values.tolist() == [[1, -1, 0]]


@pytest.mark.parametrize("value", [-128, -2, 2, 127])
def test_pack_refuses_other_values(value):
    values = torch.zeros((2, 7), dtype=torch.int8)
    values[1, 6] = value
    with pytest.raises(InputError, match=rf"^weight {value} at \[1, 6\] is not a trit; allowed are -1, 0 and 1$"):
        dense.pack(values)


@pytest.mark.parametrize("byte", range(243, 256))
def test_unpack_refuses_bytes_that_no_writer_produces(byte):
    packed = torch.full((4, 3), 121, dtype=torch.uint8)
    packed[2, 1] = byte
    pattern = rf"^byte {byte} at \[2, 1\] is not a code of five trits; allowed are 0 to 242$"
    with pytest.raises(InputError, match=pattern):
        dense.unpack(packed, 15)


def test_unpack_refuses_padding_that_is_not_zero():
    packed = torch.full((2, 2), 121, dtype=torch.uint8)
    packed[1, 1] = 121 + 81  # the fifth trit of the last byte, where only two are weights
    pattern = r"^byte 202 at \[1, 1\] has padding that is not zero; only its first 2 of 5 trits are weights$"
    with pytest.raises(InputError, match=pattern):
        dense.unpack(packed, 7)


@pytest.mark.parametrize(
    ("packed", "n", "message"),
    [
        (torch.zeros((2, 3), dtype=torch.uint8), 16, "16 packed trits are a torch.uint8 tensor [..., 4], not "),
        (torch.zeros((2, 3), dtype=torch.int8), 15, "not torch.int8 [2, 3]"),
        (torch.tensor(0, dtype=torch.uint8), 5, "not torch.uint8 []"),
    ],
)
def test_unpack_refuses_another_type_or_length(packed, n, message):
    with pytest.raises(InputError, match=re.escape(message)):
        dense.unpack(packed, n)


def test_pack_refuses_another_type():
    with pytest.raises(InputError, match=r"^trits are a torch.int8 tensor \[..., n\], not torch.float32 \[2\]$"):
        dense.pack(torch.zeros(2))
