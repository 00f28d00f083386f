"""A serial line of 8 data bits, no parity and one stop bit, as octets.

Both directions count cycles of the clock: a bit takes `divisor` of them. With the sender's baud off by a fraction e of
a bit a bit, the receiver's sample of the stop bit, 9.5 bits after the edge of the start bit, is off by 9.5 e bits and
a cycle; it still falls into the bit for e up to 4 %.
"""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Component, In, Out

__all__ = ["BITS", "UartReceiver", "UartTransmitter", "uart_divisor"]

BITS = 10
"""Bits that an octet takes on the line: start, eight of data, stop."""

TOLERANCE = 0.02
"""Largest error of the baud that a divisor may make."""


def uart_divisor(clock_hz: float, baud: float) -> int:
    """Return the cycles of a bit.

    Raises
    ------
    ValueError
        If a bit is shorter than 4 cycles, or no whole number of cycles is within 2 % of it.
    """
    if baud <= 0 or clock_hz / baud < 4:
        raise ValueError(f"baud is {baud:g}; allowed at a clock of {clock_hz:g} Hz: above 0, to {clock_hz / 4:g}")
    divisor = round(clock_hz / baud)
    error = abs(clock_hz / divisor / baud - 1)
    if error > TOLERANCE:
        raise ValueError(f"baud is {baud:g}; a clock of {clock_hz:g} Hz makes it only with an error of {error:.1%}")
    return divisor


def check_divisor(divisor: int) -> None:
    """Raise ValueError for a bit shorter than 4 cycles."""
    if divisor < 4:
        raise ValueError(f"divisor is {divisor}; allowed: 4 or more")


class UartReceiver(Component):
    """Octets from a line; one that nobody takes before the next has come is lost.

    Parameters
    ----------
    divisor : int
        Cycles of a bit.

    Members
    -------
    rx : In(1)
        The line, asynchronous.
    octets : Out(stream of 8 bits)
    broken : Out(1)
        For a cycle: an octet without a stop bit has come, and is dropped.
    """

    def __init__(self, divisor: int) -> None:
        check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "octets": Out(stream.Signature(8)), "broken": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Sample each bit in its middle."""
        m = Module()
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)
        wait, left, bits = Signal(range(self.divisor + self.divisor // 2)), Signal(range(BITS)), Signal(8)
        with m.If(self.octets.ready):
            m.d.sync += self.octets.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [wait.eq(self.divisor + self.divisor // 2 - 2), left.eq(8)]
                with m.If(~line):
                    m.next = "BITS"
            with m.State("BITS"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [wait.eq(self.divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], line))]
                    with m.If(left == 0):
                        m.d.sync += bits.eq(bits)
                        m.next = "LOW"
                        with m.If(line):
                            m.d.sync += [self.octets.payload.eq(bits), self.octets.valid.eq(1)]
                            m.next = "IDLE"
                        with m.Else():
                            m.d.comb += self.broken.eq(1)
            with m.State("LOW"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(Component):
    """Octets to a line.

    Parameters
    ----------
    divisor : int
        Cycles of a bit.

    Members
    -------
    octets : In(stream of 8 bits)
    tx : Out(1)
        The line, from a register; high in reset.
    """

    def __init__(self, divisor: int) -> None:
        check_divisor(divisor)
        self.divisor = divisor
        super().__init__({"octets": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        """Shift a frame out."""
        m = Module()
        wait, left = Signal(range(self.divisor)), Signal(range(BITS + 1))
        bits = Signal(BITS - 1, init=-1)
        m.d.comb += self.octets.ready.eq(left == 0)
        with m.If(left != 0):
            m.d.sync += wait.eq(wait - 1)
            with m.If(wait == 0):
                m.d.sync += [wait.eq(self.divisor - 1), left.eq(left - 1), Cat(self.tx, bits).eq(Cat(bits, Const(1)))]
        with m.Elif(self.octets.valid):
            m.d.sync += [
                self.tx.eq(0),
                bits.eq(Cat(self.octets.payload, Const(1))),
                left.eq(BITS),
                wait.eq(self.divisor - 1),
            ]
        return m
