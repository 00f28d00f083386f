"""Stream rules, proven by SAT: an offer stays until it is taken, and what goes into a queue comes out, in order.

The rule of offers is proven for all time by induction; the order of a queue for every run of a number of cycles. The
solver is Yosys' own.
"""

from collections.abc import Callable

import pytest
from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.arith.cells import cell_models
from nomul.engines.block_schedule import BlockSchedule
from nomul.engines.tint import Tint, TintConfig
from nomul.engines.tlmm import Tlmm, TlmmConfig
from nomul.errors import ToolError
from nomul.export.rtlil import convert
from nomul.jobs.yosys_run import run_yosys
from nomul.memory.fifo import Fifo
from nomul.memory.trit_decoder import GroupCode, TritDecoder

pytestmark = pytest.mark.synth


class Offers(Component):
    """A design with its ports, and `bad`: an offer of one of its output streams changed before it was taken.

    With `polite`, the streams into it keep the same rule; otherwise anything may happen there.
    """

    def __init__(self, design: Component) -> None:
        self.design = design
        super().__init__(dict(design.signature.members) | {"bad": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.design = self.design
        broken = []
        for name, member in self.design.signature.members.items():
            outer, inner = getattr(self, name), getattr(self.design, name)
            if member.is_port:
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
                continue
            if member.flow is Out:
                connect(m, inner, flipped(outer))
                payload = Value.cast(outer.payload)
                waiting, kept = Signal(name=f"{name}_waiting"), Signal.like(payload, name=f"{name}_kept")
                m.d.sync += [waiting.eq(outer.valid & ~outer.ready), kept.eq(payload)]
                broken.append(waiting & (~outer.valid | (payload != kept)))
            else:
                connect(m, flipped(outer), inner)
        any_broken: Value = broken[0]
        for one in broken[1:]:
            any_broken |= one
        m.d.comb += self.bad.eq(any_broken)
        return m


class Ordered(Component):
    """A queue whose writer never overfills it; `bad`: the payload numbered `which` comes out changed."""

    def __init__(self, queue: Callable[[], Fifo], depth: int) -> None:
        self.queue, self.depth = queue(), depth
        super().__init__({"put": In(1), "payload": In(2), "take": In(1), "which": In(4), "bad": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = self.queue
        written, read, kept, which = Signal(4), Signal(4), Signal(2), Signal(4)
        started = Signal()
        m.d.sync += started.eq(1)
        with m.If(~started):
            m.d.sync += which.eq(self.which)
        write = self.put & started & ((written - read)[:4] < self.depth)
        m.d.comb += [
            queue.write.eq(write),
            queue.payload.eq(self.payload),
            queue.output.ready.eq(self.take),
            self.bad.eq(queue.output.valid & (read == which) & (written != read) & (queue.output.payload != kept)),
        ]
        with m.If(write):
            m.d.sync += written.eq(written + 1)
            with m.If(written == which):
                m.d.sync += kept.eq(self.payload)
        with m.If(queue.output.valid & self.take):
            m.d.sync += read.eq(read + 1)
        return m


class Words(Component):
    """A schedule that offers a step's activations with its marks."""

    def __init__(self, schedule: BlockSchedule) -> None:
        self.schedule = schedule
        members, steps = schedule.signature.members, schedule.steps.payload.shape()
        whole = data.StructLayout({"word": members["word"].shape, "marks": steps})
        kept = {name: members[name] for name in ("jobs", "activations")}
        super().__init__({**kept, "steps": Out(stream.Signature(whole))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.schedule = schedule = self.schedule
        connect(m, flipped(self.jobs), schedule.jobs)
        connect(m, flipped(self.activations), schedule.activations)
        m.d.comb += [
            self.steps.payload.word.eq(schedule.word),
            self.steps.payload.marks.eq(schedule.steps.payload),
            self.steps.valid.eq(schedule.steps.valid),
            schedule.steps.ready.eq(self.steps.ready),
        ]
        return m


def prove(design: Component, how: str) -> None:
    """Fail unless `bad` can never be set, from reset, without another reset."""
    script = f"""
        read_rtlil design.il
        read_verilog -overwrite cells.v
        hierarchy -top top
        proc
        flatten
        memory
        opt_clean
        dffunmap
        sat {how} -set rst 0 -prove bad 0 -verify -timeout 240
        write_json done.json
    """
    text = convert(design, "top")
    run_yosys(script, {"design.il": text, "cells.v": cell_models(text) or "// none\n"}, ["done.json"])


TINY = {"n_in_max": 3, "n_out_max": 3, "act_bits": 2, "lanes_in": 2, "rows": 1}
DESIGNS: dict[str, Callable[[], Component]] = {
    "queue": lambda: Fifo(2, 4),
    "decoder": lambda: TritDecoder(GroupCode(1, (2, 0, 1)), 7, 1),
    "steps": lambda: Words(BlockSchedule(TintConfig(**TINY))),
    "steps ahead of their words": lambda: BlockSchedule(TintConfig(**TINY), ahead=True),
    "tint": lambda: Tint(TintConfig(**TINY)),
    "tint in cells": lambda: Tint(
        TintConfig(**TINY | {"n_in_max": 4, "act_bits": 3, "lanes_in": 3, "target": "cells"})
    ),
    "tlmm": lambda: Tlmm(
        TlmmConfig(group=2, tables=2, rows=1, fill_units=2, act_bits=4, n_in_max=4, n_out_max=3, queue=16)
    ),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_an_offer_stays_until_it_is_taken(name: str) -> None:
    prove(Offers(DESIGNS[name]()), "-tempinduct -maxsteps 6")


def test_a_queue_keeps_order_and_payloads() -> None:
    prove(Ordered(lambda: Fifo(2, 3), depth=3), "-tempinduct-baseonly -maxsteps 14")


class Fickle(Component):
    """A stream that takes its offer back."""

    output: Out(stream.Signature(data.StructLayout({"x": 1})))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.output.valid.eq(~self.output.valid)
        return m


def test_an_offer_that_is_taken_back_is_found() -> None:
    with pytest.raises(ToolError, match="proof did fail"):
        prove(Offers(Fickle()), "-tempinduct -maxsteps 6")


class Swapping(Fifo):
    """A queue that writes to the wrong places."""

    def _pointer(self, m: Module, advance: Signal, name: str) -> Signal:
        return super()._pointer(m, advance, name) ^ (name == "writing")


def test_a_queue_that_mixes_payloads_up_is_found() -> None:
    with pytest.raises(ToolError, match="proof did fail"):
        prove(Ordered(lambda: Swapping(2, 3), depth=3), "-tempinduct-baseonly -maxsteps 14")
