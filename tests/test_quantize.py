"""The quantisers of training: BitNet, BWTA and MixPE."""

import math

import pytest
import torch

from nomul.errors import InputError
from nomul.golden.absmax import absmax
from nomul.golden.linear import grouped_linear
from nomul.quantize import bitnet, bwta, mixpe


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ternary_codes_follow_the_definition() -> None:
    weight = torch.tensor([[3.0, -1.0, 0.2], [-0.9, 0.5, 0.4]])
    codes, scale = bitnet.ternary_codes(weight)
    assert float(scale) == pytest.approx(1.0)
    # 0.5 is a tie, and goes to the even 0.
    assert codes.tolist() == [[1.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]


def test_absmax_codes_equal_the_golden_quantiser() -> None:
    values = torch.randint(-5000, 5000, (64, 160), generator=torch.Generator().manual_seed(2))
    values[0] = 0
    codes, scale = bitnet.absmax_codes(values.double())
    expected, largest = absmax(values)
    assert torch.equal(codes.long(), expected)
    assert torch.allclose(scale[1:, 0], largest[1:].double() / 127)


@pytest.mark.parametrize("quantise", [bitnet.fake_absmax, bitnet.fake_absmax_tensor])
def test_gradients_pass_straight_through(quantise: object) -> None:
    values = normal(4, 8).requires_grad_()
    weights = normal(4, 8, seed=3)
    (quantise(values) * weights).sum().backward()  # type: ignore[operator]
    assert values.grad is not None and torch.allclose(values.grad, weights)


def test_binary_codes_are_signs() -> None:
    codes, scale = bwta.binary_codes(torch.tensor([[2.0, -1.0, 0.0]]))
    assert codes.tolist() == [[1.0, -1.0, 1.0]]
    assert float(scale) == pytest.approx(1.0)


@pytest.mark.parametrize("levels", bwta.LEVELS)
def test_level_codes_round_and_clamp(levels: int) -> None:
    half = levels // 2
    values = torch.linspace(-6, 6, 241, dtype=torch.float64)
    codes = bwta.level_codes(values, torch.tensor(0.5, dtype=torch.float64), half)
    assert codes.tolist() == [max(-half, min(half, round(v / 0.5))) for v in values.tolist()]
    assert len(set(codes.tolist())) == levels


def test_level_step_learns_from_what_is_clipped() -> None:
    step = torch.tensor(0.1, requires_grad=True)
    values = torch.full((10,), 5.0)
    # All values are clipped, so a larger step brings the quantised ones nearer: the loss falls with the step.
    ((bwta.level_codes(values, step, 1) * step - values) ** 2).mean().backward()
    assert step.grad is not None and float(step.grad) < 0


def test_alignment_factor_keeps_the_magnitude() -> None:
    values = normal(10000)
    factor = bwta.alignment_factor(values, 0.4, 3, 2)
    quantised = [values.div(0.4).round().clamp(-h, h).abs().sum().item() for h in (3, 2)]
    assert factor == pytest.approx(quantised[0] / quantised[1]) and factor > 1
    assert bwta.initial_step(values, 17) == pytest.approx(2 * values.abs().mean().item() / math.sqrt(8))


@pytest.mark.parametrize("n_in,group", [(160, 80), (100, 32), (7, 16)])
def test_mixpe_error_and_storage(n_in: int, group: int) -> None:
    weight = normal(24, n_in)
    layer = mixpe.quantise(weight, group)
    restored = mixpe.GroupedLayer.restored(layer.stored(), n_in)
    assert torch.equal(restored.codes, layer.codes) and torch.equal(restored.dequantise(), layer.dequantise())
    columns = torch.arange(n_in) // group
    largest = torch.zeros(24, int(columns[-1]) + 1)
    for g in range(largest.shape[1]):
        largest[:, g] = weight[:, columns == g].abs().amax(1)
    # A seventh of the largest is a step; half of one is rounding, and a smaller scale may clip if that is better.
    step = largest[:, columns] / 7
    rounded = (weight / step).round() * step
    assert float((layer.dequantise() - weight).square().mean()) <= 1.05 * float((rounded - weight).square().mean())


def test_mixpe_group_sums_are_the_dequantised_product() -> None:
    layer = mixpe.quantise(normal(16, 100).double().float(), 32)
    codes = torch.randint(-127, 128, (5, 100), generator=torch.Generator().manual_seed(4))
    sums = grouped_linear(layer.codes, layer.group_scales, layer.group, codes)
    real = codes.double() @ layer.dequantise().double().t()
    assert torch.allclose(sums.double() * layer.channel_scale.double(), real, rtol=1e-5, atol=1e-4)


def test_mixpe_refuses_what_does_not_fit() -> None:
    layer = mixpe.quantise(normal(4, 32), 16)
    with pytest.raises(InputError, match=r"^\[4, 32\] codes and \[4, 2\] group scales do not make groups of 8$"):
        mixpe.GroupedLayer(layer.codes, layer.group_scales, layer.channel_scale, 8)
    with pytest.raises(InputError, match=r"^the codes must be from -8 to 7$"):
        mixpe.GroupedLayer(layer.codes * 3, layer.group_scales, layer.channel_scale, 16)
    with pytest.raises(InputError, match=r"^the group scales must be from 1 to 255$"):
        mixpe.GroupedLayer(layer.codes, 0 * layer.group_scales, layer.channel_scale, 16)
    with pytest.raises(InputError, match=r"codes do not hold 40 nibbles in a row$"):
        mixpe.GroupedLayer.restored(layer.stored(), 40)
