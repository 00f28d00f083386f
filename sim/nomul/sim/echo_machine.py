"""A stand-in for a machine in benches of its serial side: answers at once, by arithmetic that Python repeats."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.serial_commands import MachineSerial

__all__ = ["EchoTop", "echo"]


def echo(prompt: Sequence[int], count: int, vocabulary: int) -> list[int]:
    """Return the tokens with which `EchoTop` answers."""
    total = sum((place + 1) * token for place, token in enumerate(prompt)) & 0xFFFF
    tokens = []
    for _ in range(count):
        tokens.append(total % 64 % vocabulary)
        total = (total * 5 + 3) & 0xFFFF
    return tokens


class EchoTop(Component):
    """`nomul.accelerators.serial_commands.MachineSerial` with the stand-in behind it.

    Members
    -------
    received : In(stream of 8 bits)
    broken : In(1)
    sent : Out(stream of 8 bits)
    """

    def __init__(self, config: AcceleratorConfig, number: int, timeout: int) -> None:
        self.config = config
        self.serial = MachineSerial(config, number, timeout)
        octets = stream.Signature(8)
        super().__init__({"received": In(octets), "broken": In(1), "sent": Out(octets)})

    def elaborate(self, platform: object) -> Module:
        """Sum a prompt up, then count from it."""
        m = Module()
        m.submodules.serial = serial = self.serial
        connect(m, flipped(self.received), serial.received)
        connect(m, serial.sent, flipped(self.sent))
        m.d.comb += serial.broken.eq(self.broken)
        rest, wanted, place = Signal(16), Signal(16), Signal(16)
        total = Signal(16)
        vocabulary = self.config.shape.vocabulary
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += serial.jobs.ready.eq(1)
                m.d.sync += [
                    rest.eq(serial.jobs.payload.prompt),
                    wanted.eq(serial.jobs.payload.tokens),
                    place.eq(1),
                    total.eq(0),
                ]
                with m.If(serial.jobs.valid):
                    m.next = "PROMPT"
            with m.State("PROMPT"):
                m.d.comb += [serial.prompt.ready.eq(1), serial.busy.eq(1)]
                with m.If(serial.prompt.valid):
                    m.d.sync += [
                        total.eq(total + place * serial.prompt.payload),
                        place.eq(place + 1),
                        rest.eq(rest - 1),
                    ]
                    with m.If(rest == 1):
                        m.next = "RESULTS"
            with m.State("RESULTS"):
                token = total[:6] if vocabulary >= 64 else total[:6] % vocabulary
                m.d.comb += [
                    serial.busy.eq(1),
                    serial.results.valid.eq(1),
                    serial.results.payload.token.eq(token),
                    serial.results.payload.last.eq(wanted == 1),
                ]
                with m.If(serial.results.ready):
                    m.d.sync += [total.eq(total * 5 + 3), wanted.eq(wanted - 1)]
                    with m.If(wanted == 1):
                        m.next = "IDLE"
        return m
