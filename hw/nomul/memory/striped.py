"""One wide memory behind several AXI4 ports, each of which holds a stripe of every word.

A memory of P ports of B bits has words of W = P * B bits. Bits p * B to p * B + B - 1 of word w lie at byte address
base_p + w * B / 8 of port p, base_p being a multiple of 4096. A word is read or written on all ports; each port goes on
alone in between, and the stripes meet again in buffers.

Reset in mid-flight: an AXI master must not take back an address that it has offered, and answers to bursts on the bus
come in any case. So what is on the bus outlives a reset of the domain: reader and writer finish it, throw the answers
away, and begin nothing new before (`drained`). If the bus itself is reset with its slaves, nothing will come any more:
`bus_reset` says so, and forgets it: connect it to the reset of the bus, which must reset the domain too; the domain may
have other resets besides. After power-on it must be up once, except on FPGAs, whose registers begin at zero.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out

from nomul.bus.axi4 import BOUNDARY, CACHE, INCR, axi4_read_members, axi4_write_members, beat_size
from nomul.memory.fifo import Fifo

__all__ = ["StripedReader", "StripedWriter", "command_layout", "store_layout", "word_bits"]

BOUNDARY_BITS = BOUNDARY.bit_length() - 1


def word_bits(port_bits: int, address_bits: int) -> int:
    """Return the width of the address of a word, of a memory that fills the byte addresses of a port."""
    return address_bits - beat_size(port_bits)


def command_layout(port_bits: int, address_bits: int, count_bits: int = 24) -> data.StructLayout:
    """Return the payload of a command to read: `count` words from word `address` on, count >= 1."""
    return data.StructLayout({"address": word_bits(port_bits, address_bits), "count": count_bits})


def store_layout(ports: int, port_bits: int, address_bits: int) -> data.StructLayout:
    """Return the payload of a write: a word, and which of its bytes are written."""
    bits = ports * port_bits
    return data.StructLayout({"address": word_bits(port_bits, address_bits), "data": bits, "strobe": bits // 8})


def _check(name: str, ports: int, port_bits: int, address_bits: int) -> None:
    """Refuse what is no striped memory."""
    if ports < 1:
        raise ValueError(f"{name} ports is {ports}; allowed: 1 or more")
    if port_bits not in (32, 64, 128, 256, 512):
        raise ValueError(f"{name} port_bits is {port_bits}; allowed: 32, 64, 128, 256, 512")
    if not BOUNDARY_BITS < address_bits <= 64:
        raise ValueError(f"{name} address_bits is {address_bits}; allowed: {BOUNDARY_BITS + 1} to 64")


def _byte_address(base: Value, word: Value, port_bits: int) -> Value:
    """Return the byte address of a word on a port; a base's low bits are zero."""
    local = Cat(Const(0, beat_size(port_bits)), word)
    return Cat(local[:BOUNDARY_BITS], (local[BOUNDARY_BITS:] + base[BOUNDARY_BITS:])[: len(base) - BOUNDARY_BITS])


class StripedReader(Component):
    """Reads runs of words for several clients, in bursts.

    The words of a client come in the order of its commands. A run is cut at multiples of `burst` words, and a burst
    begins only when its client's buffer has room for all of it: R channels never wait, and no client waits for another
    that does not take its words. Of several bursts that could begin, that of the lowest client does.

    Cycles: a command taken at t puts its first address on the buses at t + 4, and a burst every second cycle after
    that; a beat that comes at t is offered at t + 2. So long runs take a cycle a word, if a client's buffer holds the
    words of a round trip.

    Parameters
    ----------
    ports, port_bits, address_bits : int
        The memory: its ports, the data and the byte address of each.
    clients : int
    burst : int
        Most beats of a burst; a power of two, 256 at most, of 4096 bytes at most.
    depth : int or tuple of int
        Words of a client's buffer, or of each; in block RAM; `burst` at least. For full rate: bandwidth in words a
        cycle times latency in cycles, and two bursts.
    outstanding : int
        Most bursts on a port's bus.
    count_bits : int
        Width of a command's count.

    Members
    -------
    commands : In(stream of `command_layout`), one for each client
    words : Out(stream of W bits), one for each client
    bases : In(address_bits), one for each port
        Byte addresses, multiples of 4096 (lower bits are taken as zero); constant while there are commands.
    m_axi0_*, m_axi1_* ... : AXI4 masters that read
    bus_reset : In(1)
        Nothing is on the bus any more; see the module.
    drained : Out(1)
        What was on the bus when the domain was reset has come.
    idle : Out(1)
        Nothing is on the bus.
    error : Out(1)
        Since reset, an answer was SLVERR or DECERR. Words come as if it had not been.

    Raises
    ------
    ValueError
        If a size is not as above.
    """

    def __init__(
        self,
        ports: int,
        port_bits: int,
        address_bits: int,
        clients: int,
        burst: int = 16,
        depth: int | tuple[int, ...] = 512,
        outstanding: int = 32,
        count_bits: int = 24,
    ) -> None:
        _check("StripedReader", ports, port_bits, address_bits)
        if clients < 1:
            raise ValueError(f"StripedReader clients is {clients}; allowed: 1 or more")
        longest = min(256, BOUNDARY * 8 // port_bits)
        if burst < 1 or burst & (burst - 1) or burst > longest:
            raise ValueError(f"StripedReader burst is {burst}; allowed: powers of two up to {longest}")
        self.depths = depth if isinstance(depth, tuple) else (depth,) * clients
        if len(self.depths) != clients or min(self.depths) < burst:
            raise ValueError(f"StripedReader depth is {depth}; allowed: {burst} or more for each of {clients} clients")
        if outstanding < 2:
            raise ValueError(f"StripedReader outstanding is {outstanding}; allowed: 2 or more")
        self.ports, self.port_bits, self.address_bits, self.clients = ports, port_bits, address_bits, clients
        self.burst, self.outstanding = burst, outstanding
        self.command = command_layout(port_bits, address_bits, count_bits)
        pins: dict[str, Member] = {}
        for port in range(ports):
            pins |= axi4_read_members(f"m_axi{port}", address_bits, port_bits)
        super().__init__(
            {
                "commands": In(stream.Signature(self.command)).array(clients),
                "words": Out(stream.Signature(ports * port_bits)).array(clients),
                "bases": In(address_bits).array(ports),
                "bus_reset": In(1),
                "drained": Out(1),
                "idle": Out(1),
                "error": Out(1),
            }
            | pins
        )

    def elaborate(self, platform: object) -> Module:
        """Choose bursts, offer them on all ports, and gather the words."""
        m = Module()
        clients = range(self.clients)
        request = data.StructLayout({"address": self.command["address"].shape, "beats": range(self.burst + 1)})
        requests = [Signal(request, name=f"request{client}", reset_less=True) for client in clients]
        able, begin = Signal(self.clients), Signal(self.clients)
        possible = Signal()
        chosen = Signal(request)
        m.d.comb += begin.eq(Mux(possible, able & -able, 0)[: self.clients])
        for client in reversed(clients):
            with m.If(able[client]):
                m.d.comb += chosen.eq(requests[client])

        free, more, idle = [], [], []
        beats: list[list[Value]] = [[] for _ in clients]
        for port in range(self.ports):
            port_free, port_more, port_idle, port_beats = self._port(m, port, begin, chosen)
            free.append(port_free)
            more.append(port_more)
            idle.append(port_idle)
            for client in clients:
                beats[client].append(port_beats[client])
        draining = Signal(init=1)
        m.d.comb += [
            self.idle.eq(Cat(idle).all()),
            self.drained.eq(~draining),
            possible.eq(Cat(free).all() & Cat(more).all() & ~draining),
        ]
        with m.If(self.idle):
            m.d.sync += draining.eq(0)
        for client in clients:
            room = self._gather(m, client, beats[client])
            self._request(m, client, room, requests[client], able[client], begin[client])
        return m

    def _port(self, m: Module, port: int, begin: Signal, chosen: data.View) -> tuple[Value, Value, Value, list[Value]]:
        """Build a port: return whether its AR is free, another burst may begin, none is left, and whose beat comes."""
        axi = {name: getattr(self, f"m_axi{port}_{name}") for name in
               ("arid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot", "arvalid", "arready",
                "rresp", "rlast", "rvalid", "rready")}  # fmt: skip
        # These outlive a reset.
        valid = Signal(name=f"valid{port}", reset_less=True)
        address = Signal(self.address_bits, name=f"address{port}", reset_less=True)
        length = Signal(8, name=f"length{port}", reset_less=True)
        bursts = Signal(range(self.outstanding + 1), name=f"bursts{port}", reset_less=True)
        free, ends = Signal(name=f"free{port}"), Signal(name=f"ends{port}")
        m.d.comb += [
            axi["arid"].eq(0),
            axi["araddr"].eq(address),
            axi["arlen"].eq(length),
            axi["arsize"].eq(beat_size(self.port_bits)),
            axi["arburst"].eq(INCR),
            axi["arcache"].eq(CACHE),
            axi["arprot"].eq(0),
            axi["arvalid"].eq(valid),
            axi["rready"].eq(1),
            free.eq(~valid | axi["arready"]),
            ends.eq(axi["rvalid"] & axi["rlast"]),
        ]
        with m.If(free):
            m.d.sync += valid.eq(begin.any())
        with m.If(begin.any()):
            m.d.sync += [
                address.eq(_byte_address(self.bases[port], chosen.address, self.port_bits)),
                length.eq(chosen.beats - 1),
            ]
        m.d.sync += bursts.eq(bursts + begin.any() - ends)
        with m.If(self.bus_reset):
            m.d.sync += [valid.eq(0), bursts.eq(0)]
        with m.If(axi["rvalid"] & axi["rresp"][1] & self.drained):
            m.d.sync += self.error.eq(1)

        # Whose bursts they are. The queue has room while `bursts` is below its depth.
        m.submodules[f"owners{port}"] = owners = Fifo(self.clients, self.outstanding)
        m.d.comb += [owners.write.eq(begin.any()), owners.payload.eq(begin), owners.output.ready.eq(ends)]
        mine = [axi["rvalid"] & self.drained & owners.output.payload[client] for client in range(self.clients)]
        return free, bursts < self.outstanding, bursts == 0, mine

    def _gather(self, m: Module, client: int, beats: list[Value]) -> Value:
        """Build a client's buffer; return the count of words for which it has room."""
        words = self.words[client]
        queues = []
        for port, beat in enumerate(beats):
            queue = Fifo(self.port_bits, self.depths[client], "block")
            m.submodules[f"buffer{client}_{port}"] = queue
            m.d.comb += [
                queue.write.eq(beat),
                queue.payload.eq(getattr(self, f"m_axi{port}_rdata")),
                queue.output.ready.eq(words.valid & words.ready),
            ]
            queues.append(queue)
        m.d.comb += [
            words.valid.eq(Cat(queue.output.valid for queue in queues).all()),
            words.payload.eq(Cat(queue.output.payload for queue in queues)),
        ]
        return words.valid & words.ready

    def _request(self, m: Module, client: int, gives: Value, request: data.View, able: Value, begins: Value) -> None:
        """Cut a client's commands into bursts for which there is room."""
        command = self.commands[client]
        low = self.burst.bit_length() - 1
        place = Signal(self.command["address"].shape, name=f"place{client}", reset_less=True)
        left = Signal(self.command["count"].shape, name=f"left{client}")
        waiting, enough = Signal(name=f"waiting{client}"), Signal(name=f"enough{client}")
        room = Signal(range(self.depths[client] + 1), init=self.depths[client], name=f"room{client}")
        # Words up to the next multiple of `burst`, and those left after them; negative if they are too many.
        most = Signal(range(self.burst + 1), name=f"most{client}", reset_less=True)
        rest = Signal(signed(len(left) + 1), name=f"rest{client}")
        short, follows = Signal(name=f"short{client}"), Signal(name=f"follows{client}")
        m.d.comb += [
            command.ready.eq(left == 0),
            rest.eq(left - most),
            short.eq(rest[-1]),
            able.eq(waiting & enough),
            follows.eq(~waiting | begins),
        ]
        with m.If(command.ready):
            m.d.sync += [
                place.eq(command.payload.address),
                most.eq(self.burst - (command.payload.address[:low] if low else 0)),
            ]
            with m.If(command.valid):
                m.d.sync += left.eq(command.payload.count)
        with m.Elif(follows):
            m.d.sync += [
                place.eq(Cat(Const(0, low), place[low:] + 1)),
                most.eq(self.burst),
                left.eq(Mux(short, 0, rest)),
            ]
        with m.If(follows):
            m.d.sync += [
                waiting.eq(left != 0),
                request.address.eq(place),
                request.beats.eq(Mux(short, left, most)),
            ]
        # Room only grows until this burst begins, so that a late answer is a safe one.
        m.d.sync += [
            room.eq(room + gives - Mux(begins, request.beats, 0)),
            enough.eq(waiting & ~begins & (room >= request.beats)),
        ]


class StripedWriter(Component):
    """Writes single words: a beat on each port, several on their way.

    Cycles: a write taken at t is on the buses at t + 1; one is taken in every cycle in which all ports have taken the
    last.

    Parameters
    ----------
    ports, port_bits, address_bits : int
        As of `StripedReader`.
    outstanding : int
        Most writes on a port's bus.

    Members
    -------
    writes : In(stream of `store_layout`)
    bases : In(address_bits), one for each port
        As of `StripedReader`.
    m_axi0_*, m_axi1_* ... : AXI4 masters that write
    bus_reset, drained
        As of `StripedReader`.
    idle : Out(1)
        All answers have come: what was written is read from now on.
    error : Out(1)
        Since reset, an answer was SLVERR or DECERR.

    Raises
    ------
    ValueError
        If a size is not as above.
    """

    def __init__(self, ports: int, port_bits: int, address_bits: int, outstanding: int = 32) -> None:
        _check("StripedWriter", ports, port_bits, address_bits)
        if outstanding < 1:
            raise ValueError(f"StripedWriter outstanding is {outstanding}; allowed: 1 or more")
        self.ports, self.port_bits, self.address_bits, self.outstanding = ports, port_bits, address_bits, outstanding
        pins: dict[str, Member] = {}
        for port in range(ports):
            pins |= axi4_write_members(f"m_axi{port}", address_bits, port_bits)
        super().__init__(
            {
                "writes": In(stream.Signature(store_layout(ports, port_bits, address_bits))),
                "bases": In(address_bits).array(ports),
                "bus_reset": In(1),
                "drained": Out(1),
                "idle": Out(1),
                "error": Out(1),
            }
            | pins
        )

    def elaborate(self, platform: object) -> Module:
        """Build the ports."""
        m = Module()
        free, more, idle = zip(*(self._port(m, port) for port in range(self.ports)), strict=True)
        draining = Signal(init=1)
        m.d.comb += [
            self.idle.eq(Cat(idle).all()),
            self.drained.eq(~draining),
            self.writes.ready.eq(Cat(free).all() & Cat(more).all() & ~draining),
        ]
        with m.If(self.idle):
            m.d.sync += draining.eq(0)
        return m

    def _port(self, m: Module, port: int) -> tuple[Value, Value, Value]:
        """Build a port: return whether its AW and W are free, it may send another beat, and awaits no answer."""
        names = ("awid", "awaddr", "awlen", "awsize", "awburst", "awcache", "awprot", "awvalid", "awready",
                 "wdata", "wstrb", "wlast", "wvalid", "wready", "bresp", "bvalid", "bready")  # fmt: skip
        axi = {name: getattr(self, f"m_axi{port}_{name}") for name in names}
        word, bits = self.writes.payload, self.port_bits
        # These outlive a reset.
        address = Signal(self.address_bits, name=f"address{port}", reset_less=True)
        beat = Signal(bits, name=f"beat{port}", reset_less=True)
        strobe = Signal(bits // 8, name=f"strobe{port}", reset_less=True)
        offered = Signal(2, name=f"offered{port}", reset_less=True)  # address and beat
        sent = Signal(range(self.outstanding + 1), name=f"sent{port}", reset_less=True)
        begin, taken = Signal(name=f"begin{port}"), Cat(axi["awready"], axi["wready"])
        m.d.comb += [
            axi["awid"].eq(0),
            axi["awaddr"].eq(address),
            axi["awlen"].eq(0),
            axi["awsize"].eq(beat_size(bits)),
            axi["awburst"].eq(INCR),
            axi["awcache"].eq(CACHE),
            axi["awprot"].eq(0),
            Cat(axi["awvalid"], axi["wvalid"]).eq(offered),
            axi["wdata"].eq(beat),
            axi["wstrb"].eq(strobe),
            axi["wlast"].eq(1),
            axi["bready"].eq(1),
            begin.eq(self.writes.valid & self.writes.ready),
        ]
        m.d.sync += [offered.eq(offered & ~taken), sent.eq(sent + begin - axi["bvalid"])]
        with m.If(begin):
            m.d.sync += [
                offered.eq(0b11),
                address.eq(_byte_address(self.bases[port], word.address, bits)),
                beat.eq(word.data.word_select(port, bits)),
                strobe.eq(word.strobe.word_select(port, bits // 8)),
            ]
        with m.If(self.bus_reset):
            m.d.sync += [offered.eq(0), sent.eq(0)]
        with m.If(axi["bvalid"] & axi["bresp"][1] & self.drained):
            m.d.sync += self.error.eq(1)
        return ~(offered & ~taken).any(), sent < self.outstanding, sent == 0
