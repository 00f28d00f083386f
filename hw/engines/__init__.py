"""Matmul engines, one file each, behind one contract (`hw.engines.contract`)."""

from hw.engines.contract import EngineSpec
from hw.engines.mixpe import Mixpe, MixpeConfig
from hw.engines.tint import Tint, TintConfig
from hw.engines.tlmm import Tlmm, TlmmConfig

__all__ = ["ENGINES"]

ENGINES: dict[str, EngineSpec] = {
    "tlmm": EngineSpec("tlmm", 1, "ternary matmul by table look-up, after TeLLMe v2", TlmmConfig, Tlmm),
    "tint": EngineSpec("tint", 2, "ternary dot-product array without multipliers, after VitaLLM", TintConfig, Tint),
    "mixpe": EngineSpec("mixpe", 4, "INT4 dot products by shift and add, scaled once a group, after MixPE", MixpeConfig, Mixpe),
}
"""Every engine by name."""
