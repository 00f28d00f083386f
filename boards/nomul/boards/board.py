"""What every board says of itself."""

import dataclasses
from collections.abc import Callable, Sequence

from amaranth.build import Platform
from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib import io
from amaranth.lib.wiring import Component

__all__ = ["Board", "input_pin", "place"]


def input_pin(m: Module, platform: Platform, name: str) -> Value:
    """Ask a platform for the resource `name`, number 0, of one pin, and return what comes in there."""
    m.submodules[name] = buffer = io.Buffer("i", platform.request(name, 0, dir="-"))
    return buffer.i


def place(
    design: Component, platform: Platform, *, clock: Value, button: str, lights: Sequence[str | tuple[str, int]]
) -> Module:
    """Return a module with a design whose serial line, clock, button and first lights are at a board's pins.

    `button` and `lights` name resources of the platform; a light may have a number.
    """
    m = Module()
    m.submodules.design = design
    uart = platform.request("uart", 0, dir="-")
    m.submodules.rx = rx = io.Buffer("i", uart.rx)
    m.submodules.tx = tx = io.Buffer("o", uart.tx)
    m.d.comb += [
        design.clock.eq(clock),
        design.button.eq(input_pin(m, platform, button)),
        design.rx.eq(rx.i),
        tx.o.eq(design.tx),
    ]
    for number, (light, pin) in enumerate(zip(design.lights, lights, strict=False)):
        port = platform.request(*((pin, 0) if isinstance(pin, str) else pin), dir="-")
        m.submodules[f"light_{number}"] = buffer = io.Buffer("o", port)
        m.d.comb += buffer.o.eq(light)
    return m


@dataclasses.dataclass(frozen=True)
class Board:
    """A board: its chip, its clock, and how a design gets its pins.

    A design is a component with the ports of `nomul.boards.machine_top.MachineTop` or
    `nomul.boards.engine_top.EngineTop`.
    """

    name: str
    title: str
    target: str
    """Family as `nomul.fpga.targets` names it."""
    device: str
    """As `nomul.fpga.nextpnr` names it."""
    options: tuple[str, ...]
    """Of nextpnr."""
    clock_hz: float
    """Of the design's clock."""
    baud: int
    loader: str
    """Command that loads the file {file}."""
    suffix: str
    """Of that file."""
    budget: dict[str, int]
    """What the chip has of lut, ff, bram, dsp and uram."""
    bram_bits: int
    """Of each block RAM."""
    platform: Callable[[], Platform]
    pins: Callable[[Component], Elaboratable]
    """Gives a design the board's pins and its clock."""
    machine: tuple[str, tuple[str, ...], int, int] | None = None
    """Engine, its settings, lanes and tile of a language model's machine; None if the chip is too small for one."""
    engine: tuple[str, tuple[str, ...], int, str] | None = None
    """An engine that fits, its settings, and words and kind of the memory of its weights; None if there is none."""
    lutram_words: int = 0
    """Memories of up to so many words are made of look-up tables, to spare block RAM."""
    anchors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Cells that are placed by hand: a pattern of their names, its group a number, and the site of each number."""
