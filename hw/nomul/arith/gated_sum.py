"""The sum of many terms, each counted, negated or left out: what a row of a ternary array adds up.

    total = addend + sum_i gates[i] * (-1)^signs[i] * words[i]

It is `nomul.arith.signed_sum` with a gate before each term. On AMD parts the gate is an input of the adders' look-up
tables and costs nothing; elsewhere it is a gate and a register.
"""

import functools

from amaranth.hdl import Module, Mux, Signal, signed

from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.sum_terms import SumTiming, sum_members
from nomul.arith.target import Target
from nomul.arith.ternary_sum import TernarySum
from nomul.shared_module import SharedModule

__all__ = ["GatedSum", "gated_sum", "gated_timing"]

_AMD = (Target.XCUP, Target.XC7)


@functools.cache
def gated_timing(terms: int, target: Target) -> SumTiming:
    """Return the timing of the form that `gated_sum` returns for the same arguments."""
    if target in _AMD:
        return TernarySum.timing(terms, True, gated=True)
    timing = sum_timing(terms, target)
    return SumTiming(timing.latency + 1, timing.delays)


def gated_sum(terms: int, magnitude: int, total_width: int, target: Target) -> "GatedSum | TernarySum":
    """Return the best form for a target; `GatedSum` documents the parameters and the ports."""
    if target in _AMD:
        return TernarySum(terms, magnitude, total_width, target, gated=True)
    return GatedSum(terms, magnitude, total_width, target)


class GatedSum(SharedModule):
    """Portable form: gates, registers, and the target's signed sum.

    Parameters
    ----------
    terms, magnitude, total_width : int
        As for `nomul.arith.signed_sum.RelativeSignSum`.
    target : Target
        Technology of the signed sum.

    Members
    -------
    words : In(signed).array(terms)
    signs, gates : In(1).array(terms)
        A term whose gate is not set does not count; its sign must not be set either.
    addend, update, total
        As there.
    """

    def __init__(self, terms: int, magnitude: int, total_width: int, target: Target) -> None:
        self.terms, self.magnitude, self.total_width, self.target = terms, magnitude, total_width, target
        super().__init__(sum_members(terms, magnitude, total_width, True, gated=True))

    def build(self, platform: object) -> Module:
        """Gate the terms and add them."""
        m = Module()
        m.submodules.sum = sum_ = signed_sum(self.terms, self.magnitude, self.total_width, self.target)
        for term in range(self.terms):
            word, sign = Signal(signed(len(self.words[term])), name=f"word{term}"), Signal(name=f"sign{term}")
            m.d.sync += [word.eq(Mux(self.gates[term], self.words[term], 0)), sign.eq(self.signs[term])]
            m.d.comb += [sum_.words[term].eq(word), sum_.signs[term].eq(sign)]
        m.d.comb += [sum_.addend.eq(self.addend), sum_.update.eq(self.update), self.total.eq(sum_.total)]
        return m
