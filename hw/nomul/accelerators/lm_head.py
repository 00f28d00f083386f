"""The end of the model: logits from the ternary digits of the LM head's weights, and the greedy choice.

    logit[v] = sum_d 3^d * (digit_d[v] . a),    token = the lowest v whose logit is the largest

A weight of the LM head is an INT8 number, which the ternary engine takes as `head_digits` balanced ternary digits:
the highest digits of `lanes` tokens come first, then the next ones, so that one Horner step a transfer makes logits.
Six digits reach all codes; five reach +-121, at 8 bits a weight in the dense code, the same as INT8.

Cycle schedule: sums taken at t are in registers t + 1, tripled and added t + 2; logits enter a tree of comparisons that
takes a cycle a level.
"""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.projection import results_layout
from nomul.arith.pipeline import Delays

__all__ = ["GreedyHead", "logit_bits", "logits_layout"]


def logit_bits(config: AcceleratorConfig) -> int:
    """Return the width of a logit, two's complement: exact for all codes of `head_digits` digits."""
    most = (3**config.shape.head_digits - 1) // 2
    return (config.shape.width * min(most, 127) * 127).bit_length() + 2


def logits_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Return a transfer of logits."""
    return data.ArrayLayout(signed(logit_bits(config)), config.lanes)


class GreedyHead(Component):
    """Chooses a token.

    Members
    -------
    start : In(1)
        Before the first chunk of the projection HEAD.
    results : In(stream)
        Of its chunks.
    done : Out(1)
        When the results of a chunk have come; for the last chunk, when `token` is known.
    token : Out
        It stays until the next start.
    logits_valid : Out(1)
    logits : Out
        `lanes` logits, in order of tokens; those beyond the vocabulary mean nothing.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "results": In(stream.Signature(results_layout(config))),
                "done": Out(1),
                "token": Out(range(config.shape.vocabulary)),
                "logits_valid": Out(1),
                "logits": Out(logits_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the Horner steps and the tree."""
        m = Module()
        config = self.config
        delay = Delays(m)
        digits, vocabulary, lanes = config.shape.head_digits, config.shape.vocabulary, config.lanes
        width = logit_bits(config)
        digit, left = Signal(range(digits)), Signal(range(config.head_blocks + 1))
        taken, complete = Signal(), Signal()
        sums = Signal(self.results.payload["values"].shape(), reset_less=True)
        m.d.comb += [
            self.results.ready.eq(left != 0),
            taken.eq(self.results.valid & self.results.ready),
            complete.eq(digit == digits - 1),
        ]
        m.d.sync += sums.eq(self.results.payload["values"])
        with m.If(taken):
            m.d.sync += digit.eq(digit + 1)
            with m.If(complete):
                m.d.sync += [digit.eq(0), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [left.eq(config.head_blocks), digit.eq(0)]
        came, highest = delay(taken, 1), delay(digit, 1) == 0
        with m.If(came):
            for lane in range(lanes):
                higher = Mux(highest, 0, self.logits[lane] * 3)
                m.d.sync += self.logits[lane].eq(higher + sums[lane])
        ready = delay(taken & complete, 2)
        m.d.comb += self.logits_valid.eq(ready)

        # Lane by lane from the lowest token up: of equal logits the one on the left stays.
        block = Signal(range(config.head_blocks))
        with m.If(ready):
            m.d.sync += block.eq(block + 1)
        with m.If(self.start):
            m.d.sync += block.eq(0)
        least = -(1 << (width - 1))
        whole = vocabulary // lanes  # transfers of tokens that exist
        nodes: list[tuple[Value, Value]] = []
        for lane in range(lanes):
            tokens = whole + (lane < vocabulary % lanes)
            value: Value = self.logits[lane]
            if tokens < config.head_blocks:
                value = Mux(block >= tokens, least, value)
            place = Signal(range(lanes), init=lane, name=f"place{lane}")
            nodes.append((value, place))
        levels = 0
        while len(nodes) > 1:
            above: list[tuple[Value, Value]] = []
            for number in range(0, len(nodes), 2):
                (value, place), (other, its) = nodes[number], nodes[min(number + 1, len(nodes) - 1)]
                larger = Signal(signed(width), name=f"larger{levels}_{number // 2}", reset_less=True)
                which = Signal(range(lanes), name=f"which{levels}_{number // 2}", reset_less=True)
                m.d.sync += [larger.eq(Mux(other > value, other, value)), which.eq(Mux(other > value, its, place))]
                above.append((larger, which))
            nodes = above
            levels += 1
        ((value, place),) = nodes
        best, arrived = Signal(signed(width)), delay(ready, levels)
        number = delay(block, levels)
        first = number == 0
        with m.If(arrived & (first | (value > best))):
            m.d.sync += [best.eq(value), self.token.eq(number * lanes + place)]
        chosen = delay(arrived & (number == config.head_blocks - 1), 1)
        m.d.comb += self.done.eq(chosen | (taken & self.results.payload["last"] & (left != 1)))
        return m
