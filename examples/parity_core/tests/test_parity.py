"""The benches of the core: all that Nomul's conformance kit asks, and the one thing that only this core does."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Value
from parity_core import gateware
from parity_core.core import CORE, pack
from parity_core.gateware import ParityConfig

from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import random_product

SMALL = {"n_in_max": 48, "n_out_max": 12}
CONFIGS = {
    "plain": ParityConfig(lanes_in=4, rows=2, **SMALL),
    "ragged": ParityConfig(lanes_in=5, rows=3, act_bits=5, **SMALL),
}


def sums_lose_a_term(patch: pytest.MonkeyPatch) -> None:
    """A sum of an odd number of terms leaves out the last."""

    def short(terms: list[Value]) -> Value:
        while len(terms) > 1:
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        return terms[0]

    patch.setattr(gateware, "_balanced", short)


class TestParity(CoreConformance):
    core = "parity"
    configs = CONFIGS
    behind_axi = ("plain",)
    mutations = {"sums lose a term": ("ragged", sums_lose_a_term)}


@pytest.mark.bench
def test_a_flipped_bit_raises_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["plain"]
    product = random_product(16, 4, 1, config, seed=1)
    transfers = pack(config, product.weight, 0)
    assert not np.any(np.unpackbits(transfers, axis=1).sum(axis=1) % 2), "an odd number of ones"
    built = build_core("parity", config)
    for bit, fault in ((0, 0), (1, 1), (128, 1)):
        sent = transfers.copy()
        sent[0, 0] ^= bit
        broken = dataclasses.replace(CORE, pack=lambda *_, sent=sent: sent)
        monkeypatch.setattr("nomul.catalog.find_core", lambda name, broken=broken: broken)
        (said,) = bench_core(built, "parity", config, [Run([product])])
        assert said["fault"] == fault
