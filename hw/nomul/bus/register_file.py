"""What stands behind the registers of `nomul.bus.axi_lite`: values that are kept, shown, or set by events."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike

from nomul.bus.axi_lite import AxiLiteRegisters

__all__ = ["RegisterFile"]


class RegisterFile:
    """Gives registers their meaning, by name, inside the module that has them.

    Parameters
    ----------
    m : Module
        Where statements are added; its domain `sync` is that of the registers.
    bus : AxiLiteRegisters

    Attributes
    ----------
    given : Value
        What is written, with zeros in the bytes that are not.
    """

    def __init__(self, m: Module, bus: AxiLiteRegisters) -> None:
        self._m, self._bus = m, bus
        self._places = {register.name: place for place, register in enumerate(bus.registers)}
        self.given: Value = bus.data & bus.mask

    def written(self, name: str) -> Value:
        """Return whether a register is written in this cycle."""
        return self._bus.written[self._places[name]]

    def show(self, name: str, value: ValueLike) -> None:
        """Let a register read as a value."""
        self._m.d.comb += self._bus.values[self._places[name]].eq(value)

    def keep(
        self, name: str, bits: int = 32, *, init: int = 0, writable: int = 0xFFFFFFFF, enable: ValueLike = 1
    ) -> Signal:
        """Return what was last written to a register while `enable` was set; bits not in `writable` stay."""
        kept = Signal(bits, name=name.lower(), init=init)
        mask = self._bus.mask & writable
        with self._m.If(self.written(name) & enable):
            self._m.d.sync += kept.eq((kept & ~mask) | (self._bus.data & mask))
        self.show(name, kept)
        return kept

    def flags(self, name: str, events: Mapping[str, ValueLike], levels: Mapping[str, ValueLike]) -> dict[str, Value]:
        """Build a register of single bits; return them by name.

        A bit of `events` is set by its event, and cleared by writing 1 to it; an event in that cycle prevails. One of
        `levels` is what it is. The two have all bits of the register between them.
        """
        names = self._bus.registers[self._places[name]].bit_names
        bits = {level: Value.cast(value) for level, value in levels.items()}
        for flag, event in events.items():
            bits[flag] = kept = Signal(name=flag)
            with self._m.If(event):
                self._m.d.sync += kept.eq(1)
            with self._m.Elif(self.written(name) & self.given[names.index(flag)]):
                self._m.d.sync += kept.eq(0)
        self.show(name, Cat(bits[each] for each in names))
        return bits
