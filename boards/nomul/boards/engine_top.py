"""An engine on a small board, whatever the board: a clock, a serial line, a button and lights.

Its weights lie in a memory that the host fills, so that one bitstream serves any matrix that fits.
"""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module
from amaranth.lib.wiring import Component, In, Out, connect

from nomul.boards.activity import ActivityLight
from nomul.boards.machine_top import BLINK_SECONDS, RESET_SECONDS, SILENCE_SECONDS
from nomul.boards.reset import ButtonReset
from nomul.bus.uart import UartReceiver, UartTransmitter, uart_divisor
from nomul.engines.serial_commands import EngineSerial

__all__ = ["EngineTop"]

LIGHTS = 5
"""Lights, from the first: octets come or go, the engine works, it has a fault, a frame was wrong, it is ready."""


class EngineTop(Component):
    """An engine behind a serial line, with a clock of its own: the top of a board's design.

    Parameters
    ----------
    engine : Component
    config : MatmulConfig
        Its configuration.
    clock_hz, baud : float
    number : int
        Of the configuration, 32 bits.
    depth, kind : int, str
        Of the memory of weights, `nomul.memory.single_port.SinglePortMemory`.
    hold_seconds : float
        Replaces the times of `nomul.boards.machine_top` in a simulation.

    Members
    -------
    clock, button, rx, tx, lights
        As of `nomul.boards.machine_top.MachineTop`.

    Raises
    ------
    ValueError
        If the clock does not make the baud, or the engine does not fit a serial line.
    """

    def __init__(
        self,
        engine: Component,
        config: Any,
        clock_hz: float,
        baud: float,
        number: int,
        depth: int,
        kind: str,
        hold_seconds: float | None = None,
    ) -> None:
        self.number, self.depth = number, depth
        self.divisor = uart_divisor(clock_hz, baud)
        times = (SILENCE_SECONDS, BLINK_SECONDS, RESET_SECONDS)
        silence, self.blink, self.reset = (
            max(1, round(clock_hz * (time if hold_seconds is None else hold_seconds))) for time in times
        )
        self._serial = EngineSerial(engine, config, number, silence, depth, kind)
        self._engine = engine
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
        m.submodules.serial = serial = self._serial
        m.submodules.uart_rx = uart_rx = UartReceiver(self.divisor)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self.divisor)
        m.submodules.light = light = ActivityLight(self.blink)
        connect(m, uart_rx.octets, serial.received)
        connect(m, serial.sent, uart_tx.octets)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            self.tx.eq(uart_tx.tx),
            serial.broken.eq(uart_rx.broken),
            light.event.eq(uart_rx.octets.valid | uart_tx.octets.valid),
        ]
        m.d.sync += self.lights.eq(Cat(light.light, serial.busy, self._engine.fault, serial.wrong, ~serial.busy))
        return m
