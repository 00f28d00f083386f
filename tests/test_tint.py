"""TINT's configuration, its weight stream, and its golden model against plain torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.engines.tint import TintConfig
from nomul.engines.tint_array import correction_chunk
from nomul.errors import InputError
from nomul.formats import dense, tint
from nomul.golden.tint import matmul


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes_in": 0}, r"TintConfig field 'lanes_in' is 0; allowed: 1 to 512"),
        ({"rows": 257}, r"field 'rows' is 257; allowed: 1 to 256"),
        ({"lanes_in": 32, "n_in_max": 16}, r"field 'lanes_in' is 32; allowed: at most n_in_max = 16"),
        ({"lanes_in": 2, "target": "cells"}, r"field 'lanes_in' is 2; allowed: 3 or more for target 'cells'"),
        ({"act_bits": 2, "target": "cells"}, r"field 'act_bits' is 2; allowed: 3 or more for target 'cells'"),
        ({"target": "cells", "queue": 32}, r"field 'queue' is 32; allowed: none for target 'cells'"),
        ({"weight_lanes": 4}, r"field 'weight_lanes' is 4; allowed: none, unless weights is 'dense'"),
        (
            {"weights": "dense", "weight_lanes": 99},
            r"field 'weight_lanes' is 99; allowed: 1 to 52, the bytes of a step",
        ),
        ({"total_bits": 20}, r"field 'total_bits' is 20; allowed: 21 or more"),
        ({"weights": "index"}, r"field 'weights' is 'index'; allowed: code, dense"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TintConfig(**fields)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 40), st.integers(1, 5), st.integers(2, 10), st.integers(1, 200), st.integers(1, 12), st.integers(0)
)
def test_the_corrected_stream_gives_the_product(
    lanes: int, rows: int, act_bits: int, n_in: int, n_out: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed % 2**31)
    weight = torch.randint(-1, 2, (n_out, n_in), dtype=torch.int8, generator=random)
    most = 1 << (act_bits - 1)
    activations = torch.randint(-most, most, (2, n_in), generator=random)
    expected = activations @ weight.long().T
    plain = tint.steps(weight, lanes=lanes, rows=rows)
    assert torch.equal(matmul(plain, activations, n_out), expected)
    if tint.correction_chunk(lanes, act_bits):
        corrected = tint.steps(weight, lanes=lanes, rows=rows, corrected=act_bits)
        assert torch.equal(matmul(corrected, activations, n_out, act_bits), expected)


def test_the_packer_and_the_array_correct_after_the_same_steps() -> None:
    for lanes in range(3, 130):
        for act_bits in range(2, 17):
            assert tint.correction_chunk(lanes, act_bits) == correction_chunk(lanes, act_bits)


def test_codes_are_where_the_documentation_says() -> None:
    weight = torch.tensor([[1, -1, 0], [0, 1, -1]], dtype=torch.int8)
    steps = tint.steps(weight, lanes=2, rows=2)
    assert steps.tolist() == [[[1, -1], [0, 1]], [[0, 0], [-1, 0]]]
    assert tint.pack(steps).tolist() == [[0b01_00_11_01], [0b00_11_00_00]]
    assert tint.pack(steps, 8).tolist() == [[0b01_00_10_01], [0b00_10_00_00]]


def test_a_dense_step_takes_whole_transfers() -> None:
    weight = torch.tensor([[1, -1, 0, 1, 1, -1]], dtype=torch.int8)
    transfers = tint.pack_dense(tint.steps(weight, lanes=6, rows=1), units=1)
    assert transfers.tolist() == [[2 + 0 * 3 + 1 * 9 + 2 * 27 + 2 * 81], [0 + 3 + 9 + 27 + 81]]
    assert dense.TRITS_PER_BYTE == 5


def test_a_weight_that_is_not_ternary_is_refused() -> None:
    with pytest.raises(InputError, match="2"):
        tint.steps(torch.tensor([[2]], dtype=torch.int8), lanes=4, rows=1)
