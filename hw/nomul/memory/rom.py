"""A read-only memory filled from a file, so that one Verilog text serves every model of a shape."""

from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, Shape, ShapeLike, Signal, Value
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Rom", "rom_model"]


def rom_model(text: str) -> str:
    """Return the Verilog model of the memory if `text` uses it, else nothing."""
    return Path(__file__).with_name("rom.v").read_text() if "NOMUL_ROM" in text else ""


class Rom(Component):
    """A memory with a registered read port and a second register: data come two enabled cycles after their address.

    Parameters
    ----------
    shape : ShapeLike
        A word.
    depth : int
        Words.
    file : str
        File of the words, one a line, hexadecimal; read by `$readmemh` when a simulation or a synthesis begins.

    Members
    -------
    enable : In(1)
        Both registers advance.
    address : In(unsigned)
    data : Out(shape)
    """

    LATENCY = 2

    def __init__(self, shape: ShapeLike, depth: int, file: str) -> None:
        self.shape, self.depth, self.file = shape, depth, file
        super().__init__({"enable": In(1), "address": In(range(max(depth, 2))), "data": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        """Instantiate the memory."""
        m = Module()
        width = Shape.cast(self.shape).width
        first, second = Signal(width), Signal(width, reset_less=True)
        m.submodules.memory = Instance(
            "NOMUL_ROM",
            p_WIDTH=width,
            p_DEPTH=max(self.depth, 2),
            p_ADDRESS=len(self.address),
            p_FILE=self.file,
            i_clk=ClockSignal(),
            i_en=self.enable,
            i_address=self.address,
            o_data=first,
        )
        with m.If(self.enable):
            m.d.sync += second.eq(first)
        m.d.comb += Value.cast(self.data).eq(second)
        return m
