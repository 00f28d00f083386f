"""Matmul engines, one file each, behind one contract (`nomul.engines.contract`)."""

from nomul.engines.baseline import Baseline, BaselineConfig
from nomul.engines.boothflex import BoothFlex, BoothFlexConfig
from nomul.engines.boothflex_bs import BoothFlexBs, BoothFlexBsConfig
from nomul.engines.bwta import Bwta, BwtaConfig
from nomul.engines.contract import EngineSpec
from nomul.engines.fp16_fma import Fp16Fma, Fp16FmaConfig
from nomul.engines.mixpe import Mixpe, MixpeConfig
from nomul.engines.mixpe_fp16 import MixpeFp16, MixpeFp16Config
from nomul.engines.tint import Tint, TintConfig
from nomul.engines.tlmm import Tlmm, TlmmConfig

__all__ = ["ENGINES"]

ENGINES: dict[str, EngineSpec] = {
    "tlmm": EngineSpec("tlmm", 1, "ternary matmul by table look-up, after TeLLMe v2", TlmmConfig, Tlmm),
    "tint": EngineSpec("tint", 2, "ternary dot-product array without multipliers, after VitaLLM", TintConfig, Tint),
    "baseline": EngineSpec("baseline", 3, "plain INT8 array, the reference of area ratios", BaselineConfig, Baseline),
    "boothflex": EngineSpec(
        "boothflex",
        4,
        "INT8 or four ternary products a lane in one radix-4 datapath, after VitaLLM",
        BoothFlexConfig,
        BoothFlex,
    ),
    "boothflex_bs": EngineSpec(
        "boothflex_bs",
        5,
        "weights of 2 to 8 bits, one radix-4 digit a cycle, after VitaLLM",
        BoothFlexBsConfig,
        BoothFlexBs,
    ),
    "bwta": EngineSpec("bwta", 6, "binary and ternary weights x ternary activations, after BWTA", BwtaConfig, Bwta),
    "mixpe": EngineSpec(
        "mixpe", 7, "INT4 dot products by shift and add, scaled once a group, after MixPE", MixpeConfig, Mixpe
    ),
    "fp16": EngineSpec("fp16", 8, "FP16 multiply-add array, the reference of W4A16", Fp16FmaConfig, Fp16Fma),
    "mixpe_fp16": EngineSpec(
        "mixpe_fp16", 9, "INT4 x FP16 dot-product array without multipliers, after MixPE", MixpeFp16Config, MixpeFp16
    ),
}
"""Every engine by name."""
