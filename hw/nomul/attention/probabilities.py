"""Brings a job's weighted probabilities to 8 bits, between its second and its third pass.

    p_t = round_half_even(255 * weighted_t / largest),   0 if the largest is 0

They wait in a buffer for the largest; then one a cycle is divided, by the recurrence of `nomul.vector.absmax`, and the
codes wait in a short queue for the rows of values. Room in the buffer is reserved when a job's second pass begins.

Cycle schedule of an entry read at t: in registers t + 2, its code t + 2 + `Quotient.latency`, offered two later.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.arith.target import Target
from nomul.attention.attention_config import AttentionConfig
from nomul.attention.weights import weighed_layout
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.steps import Steps
from nomul.memory.wide import WideMemory
from nomul.vector.absmax import Quotient

__all__ = ["Probabilities"]

CODE_BITS = 9
"""Width of a code with its sign, which is never set."""

WAITING = 32
"""Codes that wait for rows of values: as many as hide the latency of the quotient."""


class Probabilities(Component):
    """Codes 0 to 255 of weighted probabilities.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    length : In(unsigned)
        Entries of a job that may begin.
    room : Out(1)
        There is room for them.
    begin : In(1)
        It begins: the room is its own.
    weighted : In(unsigned)
    write : In(1)
    known : In(`weighed_layout`)
    complete : In(1)
        It is valid: the job's entries are in the buffer.
    codes : Out(stream of unsigned(8))
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "length": In(config.length_bits),
                "room": Out(1),
                "begin": In(1),
                "weighted": In(config.weighted_bits),
                "write": In(1),
                "known": In(weighed_layout(config)),
                "complete": In(1),
                "codes": Out(stream.Signature(CODE_BITS - 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build buffer, quotient and queue."""
        m = Module()
        config = self.config
        delay = Delays(m)
        issue = Signal()
        free = Signal(range(config.ring + 1), init=config.ring)
        m.d.comb += self.room.eq(self.length <= free)
        m.d.sync += free.eq(free - Mux(self.begin, self.length, 0) + issue)

        job = data.StructLayout({"largest": config.weighted_bits, "length": config.length_bits})
        m.submodules.waiting = waiting = Fifo(job, config.jobs)
        m.submodules.steps = steps = Steps(job)
        m.submodules.room = room = Credit(WAITING)
        m.submodules.queue = queue = Fifo(CODE_BITS - 1, WAITING)
        m.d.comb += [
            waiting.payload.largest.eq(self.known.largest),
            waiting.payload.length.eq(self.known.length),
            waiting.write.eq(self.complete),
            steps.commands.payload.eq(waiting.output.payload),
            steps.commands.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(steps.commands.ready),
            steps.steps.ready.eq(room.available),
            issue.eq(steps.steps.valid & room.available),
            room.take.eq(issue),
        ]

        m.submodules.buffer = buffer = WideMemory(config.weighted_bits, config.ring, config.target)
        writing, reading = Signal(range(config.ring)), Signal(range(config.ring))
        read_out, fetched = (Signal(config.weighted_bits, name=name, reset_less=True) for name in ("read", "fetched"))
        m.d.sync += [
            writing.eq(writing + self.write),
            reading.eq(reading + issue),
            read_out.eq(buffer.read_data),
            fetched.eq(read_out),
        ]
        m.d.comb += [
            buffer.write.eq(self.write),
            buffer.write_address.eq(writing),
            buffer.write_data.eq(self.weighted),
            buffer.read_address.eq(reading),
        ]

        # The quotient wants a sign bit. All entries are zero where the largest is; 1 divides them as well.
        width = config.weighted_bits + 1
        m.submodules.quotient = quotient = Quotient(width, CODE_BITS, Target(config.target))
        largest = steps.steps.payload.command.largest
        divisor = Signal(width, reset_less=True)
        m.d.sync += divisor.eq(Cat(largest[0] | (largest == 0), largest[1:], Const(0, 1)))
        m.d.comb += [quotient.magnitude.eq(fetched), quotient.negative.eq(0)]
        late: Signal = divisor
        for number, element in enumerate(quotient.largest):
            register = Signal(width, name=f"divisor{number}", reset_less=True)
            m.d.sync += register.eq(late)
            m.d.comb += element.eq(register)
            late = register
        m.d.comb += [
            queue.payload.eq(quotient.code),
            queue.write.eq(delay(issue, 2 + Quotient.latency(CODE_BITS))),
            room.give.eq(queue.taken),
            self.codes.payload.eq(queue.output.payload),
            self.codes.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.codes.ready),
        ]
        return m
