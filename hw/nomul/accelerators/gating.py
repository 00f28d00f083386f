"""The gated block's products: transfers of the gate and of the up projection, in turn, become products.

    p[i] = max(g[i], 0)^2 * u[i]           or, for SwiGLU, silu(requantise(g[i], scale)) * u[i]

They are written to the memory of hidden vectors, whose words a norm then brings to 20 bits (`nomul.vector.activation`).
"""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import WORD_BITS, AcceleratorConfig, Projection
from nomul.accelerators.projection import results_layout
from nomul.arith.pipeline import Delays
from nomul.vector.activation import Relu2Gate, SiluGate
from nomul.vector.requantise import Requantise
from nomul.vector.scale import SCALE

__all__ = ["Gating"]


class Gating(Component):
    """Makes the products of a token.

    Members
    -------
    start : In(1)
        Begin a token, or its part of a chunk; when `idle`.
    scale : In(SCALE)
        From sums of the gate projection to words with 7 fractional bits (SwiGLU); until `idle`.
    idle : Out(1)
    results : In(stream)
        Of the projection GATE_UP.
    valid : Out(1)
    products : Out
        In order.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "scale": In(SCALE),
                "idle": Out(1),
                "results": In(stream.Signature(results_layout(config))),
                "valid": Out(1),
                "products": Out(data.ArrayLayout(signed(config.product_bits), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep gates until their partners come."""
        m = Module()
        config = self.config
        delay = Delays(m)
        transfers = 2 * config.words(config.shape.ffn) // config.chunks(Projection.GATE_UP)
        left = Signal(range(transfers + 1))
        taken, up = Signal(), Signal()
        values = self.results.payload["values"]
        bits = config.gate_bits
        operands = data.ArrayLayout(signed(bits), config.lanes)
        gates, pair_gates, pair_ups = (
            Signal(operands, name=name, reset_less=True) for name in ("gates", "pair_gates", "pair_ups")
        )
        m.d.comb += [
            self.results.ready.eq(left != 0),
            taken.eq(self.results.valid & self.results.ready),
            up.eq(left[0]),
        ]
        m.d.sync += pair_gates.eq(gates)
        m.d.sync += [pair_ups[lane].eq(values[lane]) for lane in range(config.lanes)]
        with m.If(taken):
            m.d.sync += left.eq(left - 1)
            with m.If(~up):
                m.d.sync += [gates[lane].eq(values[lane]) for lane in range(config.lanes)]
        with m.If(self.start):
            m.d.sync += left.eq(transfers)
        latency = 1
        if config.shape.activation == "relu2":
            m.submodules.gate = gate = Relu2Gate(config.lanes, bits)
            m.d.comb += [gate.gate.eq(pair_gates), gate.up.eq(pair_ups)]
        else:
            m.submodules.requantise = requantise = Requantise(config.lanes, bits, WORD_BITS)
            m.submodules.gate = gate = SiluGate(config.lanes, bits)
            m.d.comb += [
                requantise.values.eq(pair_gates),
                requantise.mantissa.eq(self.scale.mantissa),
                requantise.exponent.eq(self.scale.exponent),
                gate.gate.eq(requantise.words),
                gate.up.eq(delay(pair_ups, requantise.latency)),
            ]
            latency += requantise.latency
        latency += gate.latency
        issue = taken & up
        for lane in range(config.lanes):
            m.d.comb += self.products[lane].eq(gate.products[lane])
        m.d.comb += [
            self.valid.eq(delay(issue, latency)),
            self.idle.eq((left == 0) & ~Cat(delay(issue, stage) for stage in range(1, latency + 1)).any()),
        ]
        return m
