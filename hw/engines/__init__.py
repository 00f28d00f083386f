"""Matmul engines, one file each, behind one contract (`hw.engines.contract`)."""

from hw.engines.bwta import Bwta, BwtaConfig
from hw.engines.contract import EngineSpec
from hw.engines.tint import Tint, TintConfig
from hw.engines.tlmm import Tlmm, TlmmConfig

__all__ = ["ENGINES"]

ENGINES: dict[str, EngineSpec] = {
    "tlmm": EngineSpec("tlmm", 1, "ternary matmul by table look-up, after TeLLMe v2", TlmmConfig, Tlmm),
    "tint": EngineSpec("tint", 2, "ternary dot-product array without multipliers, after VitaLLM", TintConfig, Tint),
    "bwta": EngineSpec("bwta", 6, "binary and ternary weights x ternary activations, after BWTA", BwtaConfig, Bwta),
}
"""Every engine by name."""
