"""The cache of keys and values: INT8 codes and 16-bit scales of every token, layer and key-value head.

The ports are those of any such cache, in block memory or in DRAM: rows are written one by one, and read by commands
that each name a run of tokens. A row of keys brings both scales of its token, so that a consumer has all scales of a
head after one pass over its keys, and rows of values need none; in DRAM the pairs of scales of a head lie in one block,
which is read before the rows.

This one is in block memory: a row a cycle, without a gap between commands.
"""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.memory.steps import Steps
from nomul.memory.wide import WideMemory

__all__ = ["SCALE_BITS", "KvCache", "read_layout", "row_layout", "write_layout"]

SCALE_BITS = 16
"""Width of a scale of a key or a value, unsigned."""


def _bits(count: int) -> int:
    """Return the width of a number below `count`, 1 at least."""
    return max(1, (count - 1).bit_length())


def read_layout(layers: int, kv_heads: int, context: int) -> data.StructLayout:
    """Return the payload of a read command: rows of keys, or of `values`, of tokens 0 to length - 1, length >= 1."""
    return data.StructLayout(
        {"values": 1, "layer": _bits(layers), "head": _bits(kv_heads), "length": context.bit_length()}
    )


def row_layout(head_dim: int) -> data.StructLayout:
    """Return the payload of a row: its codes and, with rows of keys only, both scales of the token."""
    codes = data.ArrayLayout(signed(8), head_dim)
    return data.StructLayout({"codes": codes, "key_scale": SCALE_BITS, "value_scale": SCALE_BITS})


def write_layout(layers: int, kv_heads: int, context: int, head_dim: int) -> data.StructLayout:
    """Return the payload of a write: a key, or one of `values`, of a token below the context."""
    return data.StructLayout(
        {
            "values": 1,
            "layer": _bits(layers),
            "head": _bits(kv_heads),
            "token": _bits(context),
            "codes": data.ArrayLayout(signed(8), head_dim),
            "scale": SCALE_BITS,
        }
    )


class KvCache(Component):
    """Keys and values of all layers in block memory.

    Cycle schedule: a write is taken in every cycle. A command taken at t gives its first row at t + 3, and then a row
    whenever one is taken; it sees what was written up to t.

    Parameters
    ----------
    layers, kv_heads : int
    context : int
        Tokens of each head.
    head_dim : int
        Codes of a row.
    target : str
        Technology, one of `nomul.arith.target.TARGETS`.

    Members
    -------
    writes : In(stream of `write_layout`)
    reads : In(stream of `read_layout`)
    rows : Out(stream of `row_layout`)
        Those of the commands, in order.

    Raises
    ------
    ValueError
        If a size is not positive, or there is only one row.
    """

    def __init__(self, layers: int, kv_heads: int, context: int, head_dim: int, target: str = "portable") -> None:
        for name, value in (("layers", layers), ("kv_heads", kv_heads), ("context", context), ("head_dim", head_dim)):
            if value < 1:
                raise ValueError(f"KvCache {name} is {value}; allowed: 1 or more")
        if layers * kv_heads * context < 2:
            raise ValueError("KvCache context is 1 with one layer and one head; allowed: 2 or more")
        self.layers, self.kv_heads, self.context, self.head_dim = layers, kv_heads, context, head_dim
        self.target = target
        super().__init__(
            {
                "writes": In(stream.Signature(write_layout(layers, kv_heads, context, head_dim))),
                "reads": In(stream.Signature(read_layout(layers, kv_heads, context))),
                "rows": Out(stream.Signature(row_layout(head_dim))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memories and both addresses."""
        m = Module()
        depth = self.layers * self.kv_heads * self.context
        m.submodules.codes = codes = WideMemory(8 * self.head_dim, 2 * depth, self.target)
        m.submodules.key_scales = key_scales = WideMemory(SCALE_BITS, depth, self.target)
        m.submodules.value_scales = value_scales = WideMemory(SCALE_BITS, depth, self.target)

        written = Signal(self.writes.payload.shape(), reset_less=True)
        row, write = Signal(range(depth), reset_less=True), Signal()
        m.d.comb += self.writes.ready.eq(1)
        m.d.sync += [
            written.eq(self.writes.payload),
            row.eq(self._base(self.writes.payload) + self.writes.payload.token),
            write.eq(self.writes.valid),
        ]
        m.d.comb += [
            codes.write.eq(write),
            codes.write_address.eq(Cat(written["values"], row)),
            codes.write_data.eq(written.codes),
        ]
        for memory, enable in ((key_scales, ~written["values"]), (value_scales, written["values"])):
            m.d.comb += [
                memory.write.eq(write & enable),
                memory.write_address.eq(row),
                memory.write_data.eq(written.scale),
            ]

        # A command waits in a register while its base is multiplied out and the one before it is read.
        command = data.StructLayout({"values": 1, "base": range(depth), "length": self.context.bit_length()})
        m.submodules.steps = steps = Steps(command)
        held = Signal(command, reset_less=True)
        waiting = Signal()
        m.d.comb += [
            self.reads.ready.eq(~waiting | steps.commands.ready),
            steps.commands.valid.eq(waiting),
            steps.commands.payload.eq(held),
        ]
        with m.If(self.reads.ready):
            m.d.sync += [
                waiting.eq(self.reads.valid),
                held["values"].eq(self.reads.payload["values"]),
                held.base.eq(self._base(self.reads.payload)),
                held.length.eq(self.reads.payload.length),
            ]

        step = steps.steps.payload
        address, following = Signal(range(depth)), Signal(range(depth), reset_less=True)
        advance = Signal()
        m.d.comb += [
            address.eq(following),
            advance.eq(~self.rows.valid | self.rows.ready),
            steps.steps.ready.eq(advance),
            codes.read_address.eq(Cat(step.command["values"], address)),
            key_scales.read_address.eq(address),
            value_scales.read_address.eq(address),
        ]
        with m.If(step.first):
            m.d.comb += address.eq(step.command.base)
        fetched = Signal(self.rows.payload.shape(), reset_less=True)
        m.d.comb += self.rows.payload.eq(fetched)
        with m.If(advance):
            m.d.sync += [
                following.eq(address + 1),
                self.rows.valid.eq(steps.steps.valid),
                fetched.eq(Cat(codes.read_data, key_scales.read_data, value_scales.read_data)),
            ]
        return m

    def _base(self, place: data.View) -> Value:
        """Return the row of token 0."""
        return (place.layer * self.kv_heads + place.head) * self.context
