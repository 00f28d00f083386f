"""A machine's way to its DRAM: masters that read for the cache, the parameters and the weights, and write the cache."""

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Member, Out, connect, flipped

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.weights import ADDRESS_BITS
from nomul.bus.axi4 import axi4_members, axi4_read_members, axi4_write_members, pass_pins
from nomul.memory.striped import StripedReader, StripedWriter, command_layout, store_layout

__all__ = ["CACHE", "PARAMETERS", "WEIGHTS", "DramPort", "dram_members", "dram_pins"]

CACHE, PARAMETERS, WEIGHTS = range(3)
"""Who reads, in order of precedence."""

DEPTHS = (512, 64, 512)
"""Words that wait for each of them."""


def dram_pins(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the ports on the side of the memory.

    m_axi0_*, m_axi1_* ... : AXI4 masters
    bases : In(32), one for each port
        Byte address of the stripe of each port, a multiple of 4096.
    bus_reset : In(1)
        `nomul.memory.striped` says when.
    memory_error : Out(1)
        An answer was SLVERR or DECERR.
    """
    return axi4_members("m_axi", config.ports, ADDRESS_BITS, config.port_bits) | {
        "bases": In(ADDRESS_BITS).array(config.ports),
        "bus_reset": In(1),
        "memory_error": Out(1),
    }


def dram_members(config: AcceleratorConfig) -> dict[str, Member]:
    """Return the further ports of a machine whose memory is DRAM: `dram_pins`, and of the image in it.

    After a memory error, or a mismatch, a job has ended without a result.

    mismatch : Out(1)
        The image in memory is not one for this machine.
    """
    return dram_pins(config) | {"mismatch": Out(1)}


class DramPort(Component):
    """The masters.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    Those of `dram_pins`, and

    commands : In(stream of `command_layout`), words : Out(stream), one for each reader
    stores : In(stream of `store_layout`)
    stores_idle : Out(1)
        All that was stored has been written.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        sizes = (config.ports, config.port_bits, ADDRESS_BITS)
        readers = len(DEPTHS)
        super().__init__(
            {
                **dram_pins(config),
                "commands": In(stream.Signature(command_layout(config.port_bits, ADDRESS_BITS))).array(readers),
                "words": Out(stream.Signature(config.ports * config.port_bits)).array(readers),
                "stores": In(stream.Signature(store_layout(*sizes))),
                "stores_idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire readers and writer to the pins."""
        m = Module()
        config = self.config
        sizes = (config.ports, config.port_bits, ADDRESS_BITS)
        m.submodules.reader = reader = StripedReader(*sizes, clients=len(DEPTHS), depth=DEPTHS)
        m.submodules.writer = writer = StripedWriter(*sizes)
        pins = dram_pins(config)
        shared = {name: pins[name] for name in ("bases", "bus_reset")}
        for unit, members in ((reader, axi4_read_members), (writer, axi4_write_members)):
            m.d.comb += pass_pins(self, unit, shared)
            for port in range(config.ports):
                m.d.comb += pass_pins(self, unit, members(f"m_axi{port}", ADDRESS_BITS, config.port_bits))
        for client in range(len(DEPTHS)):
            connect(m, flipped(self.commands[client]), reader.commands[client])
            connect(m, reader.words[client], flipped(self.words[client]))
        connect(m, flipped(self.stores), writer.writes)
        m.d.comb += [
            self.stores_idle.eq(writer.idle),
            self.memory_error.eq(reader.error | writer.error),
        ]
        return m
