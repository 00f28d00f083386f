"""Operands as streams: from tensors and from arrays alike, of every integer type that holds them."""

import numpy as np
import pytest
import torch

from nomul.catalog import configure, pack_activations, pack_weights
from nomul.cores.discover import cores
from nomul.errors import InputError


@pytest.mark.parametrize("engine", [name for name, core in cores().items() if core.streams_products])
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64])
def test_weights_may_be_an_array_or_a_tensor(engine, kind):
    config = configure(engine)
    weight = np.random.default_rng(3).choice([-1, 1], (7, 13))
    expected = pack_weights(engine, config, torch.from_numpy(weight))
    typed = weight.astype(kind)
    for given in (typed, np.asfortranarray(typed), typed[::-1].copy()[::-1], torch.from_numpy(typed)):
        assert np.array_equal(pack_weights(engine, config, given), expected)


@pytest.mark.parametrize("kind", [np.int8, np.int64])
@pytest.mark.parametrize("act_bits", [8, 12])
def test_activations_may_be_an_array_or_a_tensor(kind, act_bits):
    config = configure("tint", [f"act_bits={act_bits}"])
    vectors = np.random.default_rng(4).integers(-128, 128, (3, 50))
    expected = pack_activations(config, torch.from_numpy(vectors))
    for given in (vectors.astype(kind), torch.from_numpy(vectors.astype(kind))):
        assert np.array_equal(pack_activations(config, given), expected)


@pytest.mark.parametrize("given", [np.ones((2, 3)), torch.ones(2, 3)])
def test_numbers_that_are_no_integers_are_refused(given):
    with pytest.raises(InputError, match=r"^the weights are torch\.float(32|64); integers are needed$"):
        pack_weights("tint", configure("tint"), given)
    with pytest.raises(InputError, match=r"^the activations are torch\.float(32|64); integers are needed$"):
        pack_activations(configure("tint"), given)
