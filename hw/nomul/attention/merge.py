"""What surrounds the query elements of a group: queries come one by one, and results go on in the same order."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.attention.attention_config import AttentionConfig
from nomul.attention.outputs import result_layout
from nomul.memory.fifo import Fifo

__all__ = ["Assembly", "Merge"]


class Assembly(Component):
    """Gathers the queries of a job. A single one is passed on as it comes.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    queries : In(stream of signed(8) x head_dim)
    group : Out(signed(8) x head_dim x queries)
    complete : Out(1)
        The group is there.
    take : In(1)
        It is taken.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        query = data.ArrayLayout(signed(8), config.head_dim)
        super().__init__(
            {
                "queries": In(stream.Signature(query)),
                "group": Out(data.ArrayLayout(query, config.queries)),
                "complete": Out(1),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Fill the registers in turn."""
        m = Module()
        config = self.config
        if config.queries == 1:
            m.d.comb += [
                self.group[0].eq(self.queries.payload),
                self.complete.eq(self.queries.valid),
                self.queries.ready.eq(self.take),
            ]
            return m
        place = Signal(range(config.queries))
        group = Signal(self.group.shape(), reset_less=True)
        m.d.comb += [self.group.eq(group), self.queries.ready.eq(~self.complete)]
        with m.If(self.take):
            m.d.sync += self.complete.eq(0)
        with m.Elif(self.queries.valid & self.queries.ready):
            last = place == config.queries - 1
            m.d.sync += [place.eq(Mux(last, 0, place + 1)), self.complete.eq(last)]
            for number in range(config.queries):
                with m.If(place == number):
                    m.d.sync += group[number].eq(self.queries.payload)
        return m


class Merge(Component):
    """Passes results on, job by job, in each the elements that take part, in order.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    begin : In(1)
        A job begins.
    part : In(queries)
        The elements that take part in it.
    parts : In(stream of `result_layout`).array(queries)
    results : Out(stream of `result_layout`)
    done : Out(1)
        The last transfer of a job leaves.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        results = stream.Signature(result_layout(config))
        super().__init__(
            {
                "begin": In(1),
                "part": In(config.queries),
                "parts": In(results).array(config.queries),
                "results": Out(results),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Point at one element after the other."""
        m = Module()
        config = self.config
        m.submodules.order = order = Fifo(config.queries, config.jobs)
        place = Signal(range(config.queries))
        part = order.output.payload
        m.d.comb += [order.write.eq(self.begin), order.payload.eq(self.part)]
        final = Signal()  # no element after this one takes part
        m.d.comb += [
            final.eq(Array((part >> number + 1) == 0 for number in range(config.queries))[place]),
            order.output.ready.eq(self.done),
        ]
        leave = Signal()
        with m.Switch(place):
            for number, source in enumerate(self.parts):
                with m.Case(number):
                    own = order.output.valid & part[number]
                    m.d.comb += [
                        self.results.payload.eq(source.payload),
                        self.results.valid.eq(source.valid & own),
                        source.ready.eq(self.results.ready & own),
                        leave.eq(Mux(own, self.results.ready & source.valid & source.payload.last, order.output.valid)),
                    ]
        m.d.comb += self.done.eq(leave & final)
        with m.If(leave):
            m.d.sync += place.eq(Mux(final, 0, place + 1))
        return m
