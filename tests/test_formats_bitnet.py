"""The Hugging Face BitNet layout: codes, scales and their direction."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nomul.errors import InputError
from nomul.formats import bitnet
from nomul.formats.bitnet import ScaleDirection

trits = hnp.arrays(np.int8, hnp.array_shapes(min_dims=1, max_dims=2, max_side=13), elements=st.integers(-1, 1))


@given(trits)
def test_pack_follows_the_published_layout_and_unpack_inverts_it(values):
    n_out = values.shape[0]
    rows = -(-n_out // 4)
    expected = np.zeros((rows, *values.shape[1:]), np.uint8)
    for index, value in np.ndenumerate(values):
        expected[(index[0] % rows, *index[1:])] |= (int(value) + 1) << 2 * (index[0] // rows)
    packed = bitnet.pack(torch.from_numpy(values))
    assert packed.numpy().tolist() == expected.tolist()
    assert torch.equal(bitnet.unpack(packed, n_out), torch.from_numpy(values))


def test_the_example_in_the_source_of_transformers():
    packed = torch.tensor([[0b10100001, 0b00011000], [0b10010000, 0b00001010]], dtype=torch.uint8)
    expected = [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
    assert bitnet.unpack(packed).tolist() == expected


@pytest.mark.parametrize("digit", range(4))
def test_code_3_is_refused(digit):
    packed = torch.zeros((2, 5), dtype=torch.uint8)
    packed[1, 4] = 3 << 2 * digit
    pattern = rf"^byte 0x{3 << 2 * digit:02x} at \[1, 4\] has the 2-bit code 3 in bits {2 * digit + 1}:{2 * digit}; "
    with pytest.raises(InputError, match=pattern + r"allowed are 0 \(-1\), 1 \(0\) and 2 \(\+1\)$"):
        bitnet.unpack(packed)


def test_bytes_that_are_refused_are_those_with_code_3():
    for byte in range(256):
        codes = [byte >> shift & 3 for shift in (0, 2, 4, 6)]
        packed = torch.tensor([byte], dtype=torch.uint8)
        if 3 in codes:
            with pytest.raises(InputError):
                bitnet.unpack(packed)
        else:
            assert bitnet.unpack(packed).tolist() == [code - 1 for code in codes]


def test_wrong_arguments():
    with pytest.raises(InputError, match=r"^weight 2 at \[1\] is not a trit; allowed are -1, 0 and 1$"):
        bitnet.pack(torch.tensor([0, 2], dtype=torch.int8))
    with pytest.raises(InputError, match=r"^trits are a torch.int8 tensor \[n_out, ...\], not torch.int64 \[1\]$"):
        bitnet.pack(torch.tensor([0]))
    with pytest.raises(InputError, match=r"^packed weights are a torch.uint8 tensor \[R, ...\], not torch.int8 \[1\]$"):
        bitnet.unpack(torch.tensor([0], dtype=torch.int8))
    with pytest.raises(InputError, match=r"^9 outputs take 3 rows of packed weights, but there are 2$"):
        bitnet.unpack(torch.zeros((2, 1), dtype=torch.uint8), 9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -0.5])
def test_scales_that_are_no_scales(value):
    with pytest.raises(InputError, match=rf"^layer a.b: weight_scale is {value}, but it must be finite and greater"):
        bitnet.read_scale("a.b", torch.tensor([value], dtype=torch.bfloat16))


def test_a_scale_is_one_float():
    assert bitnet.read_scale("a", torch.tensor([1.5], dtype=torch.bfloat16)) == 1.5
    assert bitnet.read_scale("a", torch.tensor(0.25)) == 0.25
    with pytest.raises(InputError, match=r"^layer a: weight_scale is torch.float32 \[4\]; one floating-point value"):
        bitnet.read_scale("a", torch.ones(4))
    with pytest.raises(InputError, match=r"^layer a: weight_scale is torch.uint8 \[1\]; one floating-point value"):
        bitnet.read_scale("a", torch.ones(1, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("config", "scales", "direction", "why"),
    [
        ({"linear_class": "autobitlinear"}, [50.0], ScaleDirection.MULTIPLY, "linear_class autobitlinear"),
        ({"linear_class": "bitlinear"}, [0.1], ScaleDirection.DIVIDE, "linear_class bitlinear"),
        ({"quant_method": "bitnet"}, [0.1], ScaleDirection.DIVIDE, "no linear_class, whose default is bitlinear"),
        (None, [0.1, 90.0, 0.2], ScaleDirection.MULTIPLY, "the scale multiplies: nothing says which, and the median"),
        (None, [40.0, 0.1, 60.0], ScaleDirection.DIVIDE, "the scale divides: nothing says which, and the median"),
    ],
)
def test_direction_of_the_scale(config, scales, direction, why):
    decided, note = bitnet.scale_direction({"quantization_config": config} if config else {}, scales)
    assert decided is direction
    assert why in note


def test_unknown_linear_class():
    pattern = r"^quantization_config.linear_class is 'x'; allowed are 'autobitlinear' and 'bitlinear'$"
    with pytest.raises(InputError, match=pattern):
        bitnet.scale_direction({"quantization_config": {"linear_class": "x"}}, [1.0])


def test_factor():
    assert ScaleDirection.MULTIPLY.factor(0.1) == float(np.float32(0.1))
    assert ScaleDirection.DIVIDE.factor(3.0) == float(np.float32(1 / 3))


def test_ternarise_follows_the_definition_of_absmean():
    generator = torch.Generator().manual_seed(3)
    master = (torch.randn((12, 20), generator=generator) * 0.03).to(torch.bfloat16)
    layer = bitnet.ternarise("x", master)
    values = master.double().numpy()
    mean = np.abs(values).mean()
    # None of these seeded weights lies on a rounding boundary, so float64 decides as float32 does.
    assert np.abs(np.abs(values / mean) - 0.5).min() > 1e-5
    assert layer.weight.tolist() == np.clip(np.rint(values / mean), -1, 1).astype(int).tolist()
    assert layer.scale == pytest.approx(mean, rel=1e-6)


def test_ternarise_floors_the_mean_and_refuses_nan():
    layer = bitnet.ternarise("x", torch.zeros((2, 2)))
    assert layer.weight.tolist() == [[0, 0], [0, 0]]
    assert layer.scale == pytest.approx(1e-5)
    with pytest.raises(InputError, match=r"^layer x: the master weight at \[1, 0\] is nan$"):
        bitnet.ternarise("x", torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]))
