"""The benches of the FP16 engines can fail: gateware that is broken on purpose must be noticed."""

from collections.abc import Callable

import pytest
from amaranth.hdl import Cat, Const, Module, Value

from nomul.arith import fp16, fused_mac
from nomul.engines import mixpe_fp16_array
from nomul.engines.fp16_fma import Fp16FmaConfig
from nomul.engines.mixpe_fp16 import MixpeFp16Config
from nomul.sim.check import Run, bench_core, build_core
from nomul.sim.product import random_product

CONFIGS = {
    "fp16": Fp16FmaConfig(rows=1, n_in_max=16, n_out_max=8),
    "mixpe_fp16": MixpeFp16Config(lanes_in=3, rows=1, group=6, significand=11, n_in_max=24, n_out_max=8),
}


def floored(m: Module, name: str, value: Value, distance: Value) -> Value:
    """A shift that forgets what it shifts out."""
    return value >> distance


def activations_are_floored(patch: pytest.MonkeyPatch) -> None:
    """Alignment of a group looks at one bit below the last."""
    patch.setattr(fp16, "shift_right", floored)


def sums_lose_sticky_bits(patch: pytest.MonkeyPatch) -> None:
    """A sum is rounded by three bits below the last."""
    patch.setattr(fused_mac, "shift_right", floored)


def the_flag_is_lost(patch: pytest.MonkeyPatch) -> None:
    """Infinities and NaN leave no mark."""
    honest = mixpe_fp16_array.MixpeFp16Array._follow

    def follow(self: object, *rest: object) -> tuple[Value, Value, Value]:
        side, first, done = honest(self, *rest)
        return Cat(side[:5], Const(0, 1)), first, done

    patch.setattr(mixpe_fp16_array.MixpeFp16Array, "_follow", follow)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("engine", "mutation"),
    [
        ("mixpe_fp16", None),
        ("mixpe_fp16", activations_are_floored),
        ("mixpe_fp16", the_flag_is_lost),
        ("fp16", None),
        ("fp16", sums_lose_sticky_bits),
    ],
)
def test_a_mutation_is_noticed(
    engine: str, mutation: Callable[[pytest.MonkeyPatch], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS[engine]
    if mutation is not None:
        mutation(monkeypatch)
    products = [random_product(n_in, 8, 16, config, seed=n_in) for n_in in (2, 3, 7, 16)]
    (said,) = bench_core(build_core(engine, config), engine, config, [Run(products, 0.2, seed=1)])
    assert (said["mismatches"] > 0) == (mutation is not None)
