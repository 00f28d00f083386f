"""A language model on a board, whatever the board: a clock, a serial line, a button and lights.

rx -> UartReceiver ---> MachineSerial, for a program, or    <-> Machine
tx <- UartTransmitter <- MachineTerminal, for a person
"""

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Signal
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.machine import Machine
from nomul.accelerators.serial_commands import MachineSerial
from nomul.accelerators.serial_terminal import MachineTerminal
from nomul.boards.activity import ActivityLight
from nomul.boards.reset import ButtonReset
from nomul.bus.uart import UartReceiver, UartTransmitter, uart_divisor

__all__ = ["BLINK_SECONDS", "LIGHTS", "SILENCE_SECONDS", "MachineTop"]

SILENCE_SECONDS = 0.1
"""Silence within a frame after which it is given up."""

BLINK_SECONDS = 0.05
"""How long a light shows an event."""

RESET_SECONDS = 0.01
"""How long the reset lasts after the button."""

LIGHTS = 8
"""Lights, from the first: a heartbeat, the machine works, octets come, octets go, a frame was wrong, the machine has a
fault; two are off."""


class MachineTop(Component):
    """A machine behind a serial line, with a clock of its own: the top of a board's design.

    Parameters
    ----------
    config : AcceleratorConfig
    clock_hz : float
        Frequency of `clock`.
    baud : float
    number : int
        Of the model, 32 bits, as the board tells the host.
    characters : str
        Of the model, in order of tokens.
    hold_seconds : float
        Replaces the times above in a simulation.

    Members
    -------
    clock : In(1)
    button : In(1)
        Resets all while it is high.
    terminal : In(1)
        A person is at the line, and not a program; a reset follows a change.
    rx : In(1)
    tx : Out(1)
    lights : Out(LIGHTS)

    Raises
    ------
    ValueError
        If the clock does not make the baud.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        clock_hz: float,
        baud: float,
        number: int,
        characters: str,
        hold_seconds: float | None = None,
    ) -> None:
        self.config, self.number, self.characters = config, number, characters
        self.divisor = uart_divisor(clock_hz, baud)
        times = (SILENCE_SECONDS, BLINK_SECONDS, RESET_SECONDS)
        self.silence, self.blink, self.reset = (
            max(1, round(clock_hz * (time if hold_seconds is None else hold_seconds))) for time in times
        )
        self.beat = round(clock_hz / 2)
        super().__init__(
            {
                "clock": In(1),
                "button": In(1),
                "terminal": In(1),
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "lights": Out(LIGHTS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Chain the parts."""
        m = Module()
        m.domains.power = power = ClockDomain(local=True, reset_less=True)
        m.domains.sync = sync = ClockDomain(local=True)
        reset = ButtonReset(self.reset)
        m.submodules.reset = DomainRenamer("power")(reset)
        m.d.comb += [power.clk.eq(self.clock), sync.clk.eq(self.clock), sync.rst.eq(reset.reset)]
        m.d.comb += reset.button.eq(self.button)

        m.submodules.machine = machine = Machine(self.config)
        m.submodules.serial = serial = MachineSerial(self.config, self.number, self.silence)
        m.submodules.person = person = MachineTerminal(self.config, self.characters)
        m.submodules.uart_rx = uart_rx = UartReceiver(self.divisor)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self.divisor)
        m.submodules.synchroniser = FFSynchronizer(self.terminal, chosen := Signal())
        m.d.comb += [
            serial.received.payload.eq(uart_rx.octets.payload),
            person.received.payload.eq(uart_rx.octets.payload),
        ]
        for user in (serial, person):
            m.d.comb += [user.results.payload.eq(machine.results.payload), user.busy.eq(machine.busy)]
        with m.If(chosen):
            _join(m, person, machine, uart_rx, uart_tx)
        with m.Else():
            _join(m, serial, machine, uart_rx, uart_tx)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            self.tx.eq(uart_tx.tx),
            serial.broken.eq(uart_rx.broken),
            serial.fault.eq(machine.fault),
        ]

        beat, beating = Signal(range(max(self.beat, 2))), Signal()
        m.d.sync += beat.eq(beat - 1)
        with m.If(beat == 0):
            m.d.sync += [beat.eq(self.beat - 1), beating.eq(~beating)]
        events = {"come": uart_rx.octets.valid, "go": uart_tx.octets.valid, "wrong": serial.wrong}
        shown = []
        for name, event in events.items():
            m.submodules[f"light_{name}"] = light = ActivityLight(self.blink)
            m.d.comb += light.event.eq(event)
            shown.append(light.light)
        m.d.sync += self.lights.eq(Cat(beating, machine.busy, *shown, machine.fault))
        return m


def _join(
    m: Module, user: MachineSerial | MachineTerminal, machine: Machine, rx: UartReceiver, tx: UartTransmitter
) -> None:
    """Give the line and the machine to one of those who can use them; the others wait."""
    for source, sink in (
        (rx.octets, user.received),
        (user.sent, tx.octets),
        (user.jobs, machine.jobs),
        (user.prompt, machine.prompt),
        (machine.results, user.results),
    ):
        m.d.comb += [sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
    m.d.comb += [
        tx.octets.payload.eq(user.sent.payload),
        machine.jobs.payload.eq(user.jobs.payload),
        machine.prompt.payload.eq(user.prompt.payload),
    ]
