"""Softmax and INT8 attention against float64."""

import pytest
import torch

from nomul.golden import softmax
from nomul.golden.attention import KVCache, attend
from nomul.golden.scale import constant


def test_exp2_over_its_whole_range() -> None:
    distance = torch.arange(40 << 8)
    real = 2.0 ** (15 - distance.double() / 256)
    assert float((softmax.exp2_negative(distance) - real).abs().max()) < 1.25
    assert softmax.exp2_negative(torch.tensor([0, 256, 1 << 40])).tolist() == [32768, 16384, 0]


def test_softmax_against_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(-4000, 4000, (50, 64), generator=generator)
    weights, total = softmax.softmax_weights(scores)
    real = (scores.double() / 256 * torch.log(torch.tensor(2.0, dtype=torch.float64))).softmax(-1)
    assert float((weights / total[:, None] - real).abs().max()) < 1.25 * 65 / 2**15
    assert bool((weights.amax(-1) == 1 << 15).all())


def test_hidden_positions_weigh_nothing() -> None:
    visible = torch.tensor([[True, False, True]])
    weights, total = softmax.softmax_weights(torch.tensor([[5, 524287, 5]]), visible)
    assert weights.tolist() == [[32768, 0, 32768]] and total.tolist() == [65536]


def random_cache(generator: torch.Generator, length: int, batch: int = 2, kv_heads: int = 2, dim: int = 16) -> KVCache:
    cache = KVCache.empty(batch, kv_heads, length + 3, dim)
    shape = (batch, kv_heads, length)
    cache.append(
        torch.randint(-127, 128, (*shape, dim), generator=generator),
        torch.randint(2000, 40000, shape, generator=generator),
        torch.randint(-127, 128, (*shape, dim), generator=generator),
        torch.randint(0, 65536, shape, generator=generator),
    )
    return cache


@pytest.mark.parametrize("tokens", [1, 9, 40])
@pytest.mark.parametrize("sharpness", [1e-7, 1e-6, 1e-5])
def test_attention_against_float64(tokens: int, sharpness: float) -> None:
    generator = torch.Generator().manual_seed(tokens)
    heads, length, dim = 4, 40, 16
    cache = random_cache(generator, length)
    queries = torch.randint(-127, 128, (2, heads, tokens, dim), generator=generator)
    scale = constant(sharpness * 2**8).unsqueeze(0).unsqueeze(0).unsqueeze(0)
    scale = type(scale)(scale.mantissa.expand(2, heads, tokens), scale.exponent.expand(2, heads, tokens))
    result = attend(queries, scale, constant(8 / (255 * 127)), cache)

    keys, values = cache.keys[:, :, :length].double(), cache.values[:, :, :length].double()
    keys = (keys * cache.key_scales[:, :, :length, None]).repeat_interleave(2, 1)
    units = cache.value_scales[:, :, :length].double().repeat_interleave(2, 1)
    values = values.repeat_interleave(2, 1) * units[..., None] / 127
    scores = (queries.double() @ keys.transpose(2, 3)) * sharpness * 2**8
    exact = scores.clamp(-524287, 524287)
    visible = torch.arange(length) <= torch.arange(length - tokens, length)[:, None]
    assert float((result["scores"] - exact)[visible.expand_as(exact)].abs().max()) <= 0.5 + exact.abs().max() * 2**-15
    # From the same integer scores on, the error is the weights' and the probabilities' rounding.
    logits = (result["scores"].double() / 256 * torch.log(torch.tensor(2.0, dtype=torch.float64))).masked_fill(
        ~visible, -torch.inf
    )
    share = logits.softmax(-1)
    true = share @ values * 8
    largest = (share * units[:, :, None]).amax(-1)
    count = visible.sum(-1)
    # Half a code of 255 for each visible token, 1.25 units of 2^15 for each weight, three scale roundings, one word.
    bound = 8 * (count * 0.5 / 255 * largest + 1.25 * (count + 1) / 2**15 * 65535) + 2**-14 * true.abs().amax(-1) + 1
    assert bool(((result["output"] - true).abs().amax(-1) <= bound).all())


def test_attention_over_equal_tokens_is_their_value() -> None:
    cache = KVCache.empty(1, 1, 256, 4)
    one = torch.ones(1, 1, 256, 4, dtype=torch.int64)
    scales = torch.full((1, 1, 256), 60000)
    cache.append(0 * one, scales, 127 * one, scales)
    scale = constant(1.0).unsqueeze(0).unsqueeze(0).unsqueeze(0)
    result = attend(one[:, :, :1], scale, constant(8 / (255 * 127)), cache)
    assert float((result["output"] / 480000 - 1).abs().max()) < 2**-13


def test_attention_saturates_at_the_largest_scale() -> None:
    cache = KVCache.empty(1, 1, 1, 2)
    one = torch.ones(1, 1, 1, 2, dtype=torch.int64)
    cache.append(one, torch.full((1, 1, 1), 65535), torch.tensor([[[[127, -127]]]]), torch.full((1, 1, 1), 65535))
    scale = constant(2.0**20).unsqueeze(0).unsqueeze(0).unsqueeze(0)
    result = attend(127 * one, scale, constant(8 / (255 * 127)), cache)
    assert result["scores"].tolist() == [[[[524287]]]]
    assert abs(int(result["output"][0, 0, 0, 0]) - 65535 * 8) <= 65535 * 8 * 2**-13
    assert int(result["output"].abs().max()) <= 524287


def test_heads_of_two_elements_that_share_keys() -> None:
    """Queries as a model makes them: those of all heads of a token lie side by side."""
    generator = torch.Generator().manual_seed(2)
    cache = random_cache(generator, 5, batch=1, kv_heads=1, dim=2)
    queries = torch.randint(-127, 128, (1, 3, 2, 2), generator=generator).transpose(1, 2)
    one = constant(1e-6 * 2**8)
    scale = type(one)(one.mantissa.expand(1, 3, 2).transpose(1, 2), one.exponent.expand(1, 3, 2).transpose(1, 2))
    unit = constant(8 / (255 * 127))
    copied = type(one)(scale.mantissa.contiguous(), scale.exponent.contiguous())
    assert attend(queries, scale, unit, cache)["output"].equal(
        attend(queries.contiguous(), copied, unit, cache)["output"]
    )
