"""The products of attention: query times key, summed over the head, and probabilities times values, over the tokens.

One multiplier an element serves both, since a cycle brings one row, of a key or of a value. Its other operand is the
query's code or the probability, and its product is added to the element's sum, or begins it; that is the addition of a
DSP48 behind its multiplication, so the sums of values cost no logic. A key's products, each the whole of its element's
sum, go on to a tree.

Cycle schedule of a row taken at t: its codes, the query and the probability in registers t + 1, operands t + 2,
products t + 3, sums t + 4, the dot product t + 4 + levels.
"""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.attention_config import AttentionConfig

__all__ = ["TAKE", "Products"]

TAKE = data.StructLayout({"valid": 1, "values": 1, "first": 1, "last": 1})
"""A row that is taken in this cycle: is there one, is it of values, and is it the first or last of its job's."""


class Products(Component):
    """Multiplies a row a cycle.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    take : In(TAKE)
    query : In(signed(8) x head_dim)
        Taken with the first key of a job.
    probability : In(8)
        Of the value that is taken.
    codes : In(signed(8) x head_dim)
        The row that was taken in the last cycle.
    dot : Out(signed(dot_bits))
    scored : Out(TAKE)
        The key whose dot product this is, `latency` cycles after its row was taken.
    sums : Out(signed(sum_bits) x head_dim)
    summed : Out(1)
        The sums of a job are complete; in the next cycle they may be others.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        codes = data.ArrayLayout(signed(8), config.head_dim)
        super().__init__(
            {
                "take": In(TAKE),
                "query": In(codes),
                "probability": In(8),
                "codes": In(codes),
                "dot": Out(signed(config.dot_bits)),
                "scored": Out(TAKE),
                "sums": Out(data.ArrayLayout(signed(config.sum_bits), config.head_dim)),
                "summed": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a key's row to its dot product."""
        return 4 + self.config.levels

    def elaborate(self, platform: object) -> Module:
        """Build the multipliers and the tree."""
        m = Module()
        config = self.config
        delay = Delays(m)
        taken = [Signal(TAKE, name=f"taken{stage}") for stage in range(self.latency - 1)]
        for early, late in zip([self.take, *taken], [*taken, self.scored], strict=True):
            m.d.comb += late.eq(delay(early.as_value(), 1))
        query = Signal(self.query.shape(), reset_less=True)
        probability = Signal(8, reset_less=True)
        m.d.sync += probability.eq(self.probability)
        with m.If(self.take.valid & ~self.take["values"] & self.take.first):
            m.d.sync += query.eq(self.query)

        nodes: list[Value] = []
        for i in range(config.head_dim):
            factor = Signal(signed(9), name=f"factor{i}", reset_less=True)
            code = Signal(signed(8), name=f"code{i}", reset_less=True)
            product = Signal(signed(config.product_bits), name=f"product{i}", reset_less=True)
            total = Signal(signed(config.sum_bits), name=f"sum{i}", reset_less=True)
            m.d.sync += [
                factor.eq(Mux(taken[0]["values"], probability, query[i])),
                code.eq(self.codes[i]),
                product.eq(factor * code),
            ]
            with m.If(taken[2].valid):
                m.d.sync += total.eq(Mux(taken[2]["values"] & ~taken[2].first, total, 0) + product)
            m.d.comb += self.sums[i].eq(total)
            nodes.append(total[: config.product_bits].as_signed())
        m.d.comb += self.summed.eq(taken[3].valid & taken[3]["values"] & taken[3].last)

        for level in range(config.levels):
            above: list[Value] = []
            for number in range(0, len(nodes) - 1, 2):
                node = Signal(signed(len(nodes[number]) + 1), name=f"node{level}_{number // 2}", reset_less=True)
                m.d.sync += node.eq(nodes[number] + nodes[number + 1])
                above.append(node)
            if len(nodes) % 2:
                node = Signal(signed(len(nodes[-1])), name=f"node{level}_last", reset_less=True)
                m.d.sync += node.eq(nodes[-1])
                above.append(node)
            nodes = above
        m.d.comb += self.dot.eq(nodes[0])
        return m
