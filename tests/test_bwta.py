"""BWTA's configuration, its weight stream, its golden model against plain torch, and its forms against each other."""

import pytest
import torch
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from nomul.arith.agree_count import FORMS, AgreeCount
from nomul.arith.bit_count import BitCount
from nomul.arith.target import Target
from nomul.engines.bwta import BwtaConfig
from nomul.errors import InputError
from nomul.formats import bwta
from nomul.golden.bwta import matmul, pack, pack_plane
from tests.test_arith import prove


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes_in": 0}, r"BwtaConfig field 'lanes_in' is 0; allowed: 1 to 2048"),
        ({"rows": 257}, r"field 'rows' is 257; allowed: 1 to 256"),
        ({"lanes_in": 32, "n_in_max": 16}, r"field 'lanes_in' is 32; allowed: at most n_in_max = 16"),
        ({"products": "half"}, r"field 'products' is 'half'; allowed: linear, all"),
        ({"products": "all", "form": "mask"}, r"field 'form' is 'mask'; allowed: planes, or none to derive it"),
        ({"lanes_in": 5, "target": "cells"}, r"field 'lanes_in' is 5; allowed: an even number for target 'cells'"),
        ({"target": "cells", "queue": 32}, r"field 'queue' is 32; allowed: none for target 'cells'"),
        ({"padding": "zero"}, r"field 'padding' is 'zero'; allowed: any, unless target is 'cells'"),
        ({"total_bits": 13}, r"field 'total_bits' is 13; allowed: 14 or more, for sums of n_in_max = 4096"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BwtaConfig(**fields)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 5), st.booleans(), st.integers(0))
def test_the_golden_model_is_the_product(n_in: int, n_out: int, tokens: int, binary: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed % 2**31)
    weight = torch.randint(-1, 2, (n_out, n_in), generator=random)
    if binary:
        weight = weight * 2 + (weight == 0) - weight  # -1, 1, 1
    activations = torch.randint(-1, 2, (2, tokens, n_in), generator=random)
    got = matmul(pack(weight), pack(activations))
    assert torch.equal(got.long(), activations @ weight.T)


def test_a_golden_plane_is_the_bits_that_the_hardware_keeps() -> None:
    values = torch.tensor([1, -1, 0, -1] * 20)
    packed = pack(values[None])
    lanes = values.numpy() & 3  # two's complement
    for plane, bit in ((packed.mask, 0), (packed.sign, 1)):
        words = [
            sum(int(lane >> bit & 1) << place for place, lane in enumerate(part)) for part in (lanes[:64], lanes[64:])
        ]
        assert [word & (1 << 64) - 1 for word in plane[0].tolist()] == words
    assert pack_plane(torch.tensor([[True] + [False] * 63]))[0].tolist() == [1]


def test_codes_are_where_the_documentation_says() -> None:
    weight = torch.tensor([[1, -1, -1], [-1, 1, 1]], dtype=torch.int8)
    steps = bwta.steps(weight, lanes=2, rows=2, binary=True)
    assert steps.tolist() == [[[1, -1], [-1, 1]], [[-1, 1], [1, 1]]]
    assert bwta.pack(steps, binary=True).tolist() == [[0b0110], [0b0001]]
    weight = torch.tensor([[1, -1, 0]], dtype=torch.int8)
    steps = bwta.steps(weight, lanes=2, rows=1, binary=False)
    assert bwta.pack(steps, binary=False).tolist() == [[0b1101], [0]]
    assert bwta.pack(steps, binary=False, lines=True).tolist() == [[0b1001], [0]]


def test_a_zero_is_no_binary_weight() -> None:
    with pytest.raises(InputError, match=r"^the weight at \[0, 1\] is 0, but a binary weight is -1 or 1$"):
        bwta.steps(torch.tensor([[1, 0]], dtype=torch.int8), lanes=2, rows=1, binary=True)


def test_utilisation_on_whole_and_on_ragged_sizes() -> None:
    config = BwtaConfig(lanes_in=128, rows=8)

    def share(tokens: int, n_out: int, n_in: int) -> float:
        return tokens * n_out * n_in / (config.cycles(n_in, n_out, tokens) * config.macs_per_cycle)

    assert min(share(128 * i, 32 * j, 128 * k) for i in (1, 3) for j in (1, 2) for k in (1, 5)) >= 0.97
    assert share(100, 60, 1000) >= 0.85


class Both(Component):
    """The portable form of a count and a target's, on the same operands; `differ` compares them."""

    def __init__(self, lanes: int, form: str, target: Target) -> None:
        self.forms = [AgreeCount(lanes, form, each) for each in (Target.PORTABLE, target)]
        bits = 2 if form == "ternary" else 1
        super().__init__({"weights": In(bits).array(lanes), "activations": In(2).array(lanes), "differ": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, form in zip(("portable", "native"), self.forms, strict=True):
            m.submodules[name] = form
            for mine, its in zip([*self.weights, *self.activations], [*form.weights, *form.activations], strict=True):
                m.d.comb += its.eq(mine)
        m.d.comb += self.differ.eq(self.forms[0].count != self.forms[1].count)
        return m


@pytest.mark.synth
@pytest.mark.parametrize("target", [Target.XCUP, Target.XC7])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lanes", [1, 5, 9])
def test_a_form_equals_the_portable_one(target: Target, form: str, lanes: int) -> None:
    prove(Both(lanes, form, target), target)


class Counts(Component):
    """Two population counts of the same bits."""

    def __init__(self, size: int, target: Target) -> None:
        self.counts = [BitCount(size, each) for each in (Target.PORTABLE, target)]
        super().__init__({"bits": In(size), "differ": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, count in zip(("portable", "native"), self.counts, strict=True):
            m.submodules[name] = count
            m.d.comb += count.bits.eq(self.bits)
        m.d.comb += self.differ.eq(self.counts[0].count != self.counts[1].count)
        return m


@pytest.mark.synth
@pytest.mark.parametrize("target", [Target.XCUP, Target.XC7])
@pytest.mark.parametrize("size", [4, 7, 13, 20])
def test_a_population_count_equals_the_portable_one(target: Target, size: int) -> None:
    prove(Counts(size, target), target)
