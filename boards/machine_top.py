"""A language model on a board, whatever the board: a clock, a serial line, a button and lights.

    rx -> UartReceiver -> MachineSerial <-> Machine
    tx <- UartTransmitter <----'
"""

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect

from boards.activity import ActivityLight
from boards.reset import ButtonReset
from hw.accelerators.config import AcceleratorConfig
from hw.accelerators.machine import Machine
from hw.accelerators.serial_commands import MachineSerial
from hw.bus.uart import UartReceiver, UartTransmitter, uart_divisor

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
    hold_seconds : float
        Replaces the times above in a simulation.

    Members
    -------
    clock : In(1)
    button : In(1)
        Resets all while it is high.
    rx : In(1)
    tx : Out(1)
    lights : Out(LIGHTS)

    Raises
    ------
    ValueError
        If the clock does not make the baud.
    """

    def __init__(
        self, config: AcceleratorConfig, clock_hz: float, baud: float, number: int, hold_seconds: float | None = None
    ) -> None:
        self.config, self.number = config, number
        self.divisor = uart_divisor(clock_hz, baud)
        times = (SILENCE_SECONDS, BLINK_SECONDS, RESET_SECONDS)
        self.silence, self.blink, self.reset = (
            max(1, round(clock_hz * (time if hold_seconds is None else hold_seconds))) for time in times
        )
        self.beat = round(clock_hz / 2)
        super().__init__(
            {"clock": In(1), "button": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "lights": Out(LIGHTS)}
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
        m.submodules.uart_rx = uart_rx = UartReceiver(self.divisor)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self.divisor)
        connect(m, uart_rx.octets, serial.received)
        connect(m, serial.sent, uart_tx.octets)
        connect(m, serial.jobs, machine.jobs)
        connect(m, serial.prompt, machine.prompt)
        connect(m, machine.results, serial.results)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            self.tx.eq(uart_tx.tx),
            serial.broken.eq(uart_rx.broken),
            serial.busy.eq(machine.busy),
            serial.fault.eq(machine.fault),
        ]

        beat, beating = Signal(range(max(self.beat, 2))), Signal()
        m.d.sync += beat.eq(beat - 1)
        with m.If(beat == 0):
            m.d.sync += [beat.eq(self.beat - 1), beating.eq(~beating)]
        events = {"come": serial.received.valid, "go": serial.sent.valid, "wrong": serial.wrong}
        shown = []
        for name, event in events.items():
            m.submodules[f"light_{name}"] = light = ActivityLight(self.blink)
            m.d.comb += light.event.eq(event)
            shown.append(light.light)
        m.d.sync += self.lights.eq(Cat(beating, machine.busy, *shown, machine.fault))
        return m
