"""The systolic arrays' configuration, their cost model at full size, and operands that they do not take."""

import pytest
import torch

from hw.systolic.systolic import SystolicConfig
from sw.errors import InputError
from sw.formats.mixpe import Operands
from sw.units import systolic_job


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
    ],
)
def test_a_wrong_field_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SystolicConfig(**fields)


@pytest.mark.parametrize("dataflow", ["output", "weight"])
@pytest.mark.parametrize("tokens", [1, 64])
def test_large_arrays_are_used(dataflow: str, tokens: int) -> None:
    """64 x 64 elements, 4096 x 4096; the benches hold the same model to small arrays."""
    config = SystolicConfig(rows=64, columns=64, dataflow=dataflow)
    assert config.utilisation(n_in=4096, n_out=4096, tokens=tokens) >= 0.99
    least = 4096 * 4096 * tokens / (64 * 64 if tokens == 64 else 64)
    assert config.cycles(n_in=4096, n_out=4096, tokens=tokens) >= least


def operands(**changes: object) -> Operands:
    fields = {"codes": torch.ones(4, 8, dtype=torch.int8), "zeros": torch.zeros(4, 1), "scales": torch.ones(4, 1)}
    return Operands(**(fields | {"group": 8} | changes))


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
    weights: Operands, vectors: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        systolic_job(CONFIG, weights, vectors)
