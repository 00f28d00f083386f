"""The golden functions of the units against independent oracles: a stable sort, and plain products of Python."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.golden.bwta_attention import attend
from nomul.golden.leading_one import PREDICTORS, decode, leading_one, predict
from nomul.golden.top_k import choose, top_k


def sorted_choice(scores: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The first k of a stable sort by falling score: of equal scores the oldest."""
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    first = (torch.arange(scores.shape[-1]) < k.unsqueeze(-1)).expand_as(scores)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, first)


@pytest.mark.parametrize(
    ("m", "bits", "count"), [(5, 2, 600_000), (13, 5, 380_000), (64, 22, 16_000), (300, 12, 4_000)]
)
def test_a_million_random_vectors(m: int, bits: int, count: int) -> None:
    random = torch.Generator().manual_seed(m)
    for part in range(0, count, 20_000):
        size = min(20_000, count - part)
        spread = (1 << (bits - 1)) >> int(torch.randint(0, bits, (), generator=random))
        scores = torch.randint(-spread, max(spread, 1), (size, m), generator=random)
        k = torch.randint(1, m + 2, (size,), generator=random)
        chosen = choose(scores, k, bits)
        assert torch.equal(chosen, sorted_choice(scores, k))
        assert torch.equal(chosen.sum(-1), k.clamp(max=m))


def test_the_chosen_scores_are_those_of_torch() -> None:
    random = torch.Generator().manual_seed(0)
    for k in (1, 7, 50):
        scores = torch.randint(-40, 40, (2000, 50), generator=random)
        chosen = scores[choose(scores, k, 7)].view(2000, k).sort(-1, descending=True).values
        assert torch.equal(chosen, torch.topk(scores, k).values)


@pytest.mark.parametrize("bits", [1, 2, 8, 22])
def test_adversarial_scores(bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ramp = torch.arange(40).clamp(max=high)
    rows = [
        torch.full((40,), low), torch.full((40,), high), torch.zeros(40, dtype=torch.int64).clamp(max=high), ramp,
        ramp.flip(0), -ramp.clamp(max=-low), torch.tensor([low, high]).repeat(20),
        torch.tensor([high] * 39 + [low]), torch.tensor([low] * 39 + [high]),
    ]  # fmt: skip
    scores = torch.stack(rows)
    for k in range(1, 42):
        wanted = torch.tensor(k).expand(len(rows))
        assert torch.equal(choose(scores, k, bits), sorted_choice(scores, wanted)), k


def test_hidden_scores_are_never_chosen() -> None:
    scores = torch.tensor([[9, 8, 7, 6], [1, 2, 3, 4]])
    valid = torch.tensor([[False, True, True, True], [True, True, False, False]])
    assert choose(scores, torch.tensor([2, 3]), 5, valid).tolist() == [
        [False, True, True, False],
        [True, True, False, False],
    ]


def test_positions_come_in_order_of_age() -> None:
    assert top_k(torch.tensor([3, 9, 3, -1, 9]), 3, 5).tolist() == [0, 1, 4]


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_every_code(bits: int) -> None:
    for value in range(-(1 << (bits - 1)), 1 << (bits - 1)):
        code = leading_one(torch.tensor(value), bits)
        magnitude = min(abs(value), (1 << (bits - 1)) - 1)
        expected = math.copysign(2 ** math.floor(math.log2(magnitude)), value) if magnitude else 0
        assert int(decode(code, bits)) == expected
        assert int(code) < 1 << (1 + (bits - 1).bit_length())


@pytest.mark.parametrize("predictor", PREDICTORS)
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 1 << 30))
def test_predicted_scores(predictor: str, length: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    query, keys = (torch.randint(-128, 128, shape, generator=random) for shape in ((1, length), (3, length)))

    def power(value: int) -> int:
        value = max(value, -127)
        return 0 if value == 0 else (-1 if value < 0 else 1) << (abs(value).bit_length() - 1)

    expected = [
        sum(
            (power(q) if predictor == "symmetric" else q) * power(k)
            for q, k in zip(query[0].tolist(), key, strict=True)
        )
        for key in keys.tolist()
    ]
    assert predict(query, leading_one(keys), predictor)[0].tolist() == expected


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_fast_product_equals_the_exact_one(predictor: str) -> None:
    """2048 is the longest INT8 query whose scores float32 holds; 2049 takes the integer product."""
    for length in (2048, 2049):
        query, keys = torch.full((1, length), -128), torch.full((2, length), -128)
        codes = leading_one(keys)
        left = -64 if predictor == "symmetric" else -128
        assert predict(query, codes, predictor)[0].tolist() == [left * -64 * length] * 2


def test_the_attention_of_bwta_is_that_of_plain_products() -> None:
    """Every query and score below, at and above both thresholds, among them exactly half a scale."""
    random = torch.Generator().manual_seed(0)
    some = 0
    for size, keys in ((1, 1), (5, 9), (64, 70), (65, 129)):
        queries = torch.randint(-9, 10, (40, size), generator=random)
        cached, values = torch.randint(-1, 2, (2, keys, size), generator=random).to(torch.int8)
        for query_scale, score_scale in ((1, 1), (6, 2), (7, 3), (8, 4), (18, 5)):
            packed = (2 * queries > query_scale).long() - (2 * queries < -query_scale).long()
            expected = (2 * (packed @ cached.long().T) > score_scale).long() @ values.long()
            assert torch.equal(attend(queries, cached, values, query_scale, score_scale).long(), expected)
            some += int(expected.count_nonzero())
    assert some > 10_000
