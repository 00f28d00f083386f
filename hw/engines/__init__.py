"""Matmul engines, one file each, behind one contract (`hw.engines.contract`)."""

from hw.engines.contract import EngineSpec
from hw.engines.tlmm import Tlmm, TlmmConfig

__all__ = ["ENGINES"]

ENGINES: dict[str, EngineSpec] = {
    "tlmm": EngineSpec("tlmm", 1, "ternary matmul by table look-up, after TeLLMe v2", TlmmConfig, Tlmm),
}
"""Every engine by name."""
