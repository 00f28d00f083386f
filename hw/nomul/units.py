"""Units that are not matmul engines, behind one contract (`nomul.unit_contract`)."""

from nomul.attention.bwta_attention import BwtaAttention, BwtaAttentionConfig
from nomul.attention.leading_one import LeadingOne, LeadingOneConfig
from nomul.attention.top_k import TopK, TopKConfig
from nomul.systolic.systolic import Systolic, SystolicConfig
from nomul.unit_contract import UnitSpec
from nomul.vector.absmax import Absmax, AbsmaxConfig

__all__ = ["UNITS"]

UNITS: dict[str, UnitSpec] = {
    "leading_one": UnitSpec(
        "leading_one", 257, "attention scores predicted from leading ones, after VitaLLM", LeadingOneConfig, LeadingOne
    ),
    "top_k": UnitSpec("top_k", 258, "the K largest of M scores without comparators, after VitaLLM", TopKConfig, TopK),
    "absmax": UnitSpec(
        "absmax", 259, "largest magnitude and exact quantisation of streaming vectors", AbsmaxConfig, Absmax
    ),
    "systolic": UnitSpec(
        "systolic", 260, "systolic INT4 x INT8 or FP16 arrays by shift and add, after MixPE", SystolicConfig, Systolic
    ),
    "bwta_attention": UnitSpec(
        "bwta_attention",
        261,
        "attention of packed operands from end to end, after BWTA",
        BwtaAttentionConfig,
        BwtaAttention,
    ),
}
"""Every unit by name."""
