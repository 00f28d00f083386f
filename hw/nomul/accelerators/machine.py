"""A language model as a machine: tokens of a prompt in, tokens out, every operator in gateware.

It computes docs/numerics.md bit by bit. All vectors stay on the chip:

    residual    words of the residual stream, a tile of tokens          `nomul.accelerators.residual`
    codes       operands of the projections                             `nomul.accelerators.projection`
    hidden      gated products, or the output of attention              `nomul.accelerators.hidden`
    queries     rows of codes with their scales                         `nomul.accelerators.attending`
    keys, values, by layer, head and token                              `nomul.memory.kv_cache`

A step of `nomul.accelerators.sequencer` runs at a time; within it, reading, computing and writing overlap, and a tile's
tokens follow each other. One quantiser (`nomul.vector.absmax`) serves norms and heads, one scale processor all scales.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from nomul.accelerators.attending import QueryBuffer
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.dram_port import CACHE, PARAMETERS, WEIGHTS, DramPort, dram_members, dram_pins
from nomul.accelerators.gating import Gating
from nomul.accelerators.heads import HeadRotation, Heads, vectors_of_chunk
from nomul.accelerators.hidden import HiddenVectors
from nomul.accelerators.lm_head import GreedyHead, logits_layout
from nomul.accelerators.memory_map import MemoryMap
from nomul.accelerators.norm_control import NORM_STEPS, NormControl
from nomul.accelerators.normalise import PRODUCT_BITS, NormFeed, squares_bits
from nomul.accelerators.parameters import BlockParameters
from nomul.accelerators.parameters_dram import DramParameters
from nomul.accelerators.projection import Projections
from nomul.accelerators.residual import ResidualStream
from nomul.accelerators.scale_processor import ScaleProcessor
from nomul.accelerators.scale_programs import Program
from nomul.accelerators.sequencer import PROJECTIONS, Sequencer, Step, job_layout
from nomul.accelerators.token_control import TOKEN_STEPS, TokenControl
from nomul.accelerators.trace import add_tap
from nomul.accelerators.weights import ADDRESS_BITS, BlockWeights, DramWeights
from nomul.attention.attention import Attention
from nomul.attention.attention_config import AttentionConfig
from nomul.bus.axi4 import pass_pins
from nomul.memory.kv_cache import KvCache
from nomul.memory.kv_dram import KvDram
from nomul.vector.absmax import Absmax, AbsmaxConfig

__all__ = ["FILES", "Machine"]

FILES = ("weights", "embedding", "gains", "constants")
"""What the files `NAME.hex` hold that a machine reads when it begins."""

OUTPUT_EXPONENT = -27
OUTPUT_MANTISSA = round(8 * 2**-OUTPUT_EXPONENT / (255 * 127))
"""8 / (255 * 127) as a scale: the unit of attention's output (docs/numerics.md)."""


class Machine(Component):
    """The machine.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    jobs : In(stream of {prompt, tokens, position})
    prompt : In(stream of tokens)
    results : Out(stream of {token, last})
    logits_valid : Out(1)
    logits : Out
        `lanes` logits, in order of tokens.
    busy : Out(1)
        A job is in work.
    step, layer : Out
        Where it is, for counters.
    fault : Out(1)
        The last job was illegal or had a token outside the vocabulary, or the weight stream could not be decoded.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        shape = config.shape
        token = range(shape.vocabulary)
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config))),
                "prompt": In(stream.Signature(token)),
                "results": Out(stream.Signature(data.StructLayout({"token": token, "last": 1}))),
                "logits_valid": Out(1),
                "logits": Out(logits_layout(config)),
                "busy": Out(1),
                "step": Out(Step),
                "layer": Out(range(max(shape.layers, 2))),
                "fault": Out(1),
            }
            | ({} if config.memory == "block" else dram_members(config))
        )
        self._sequencer = Sequencer(config)
        self._scales = ScaleProcessor(shape.layers, config.tile, shape.activation, PRODUCT_BITS, squares_bits(config))
        self._projections = Projections(config)
        self._residual = ResidualStream(config)
        self._feed = NormFeed(config)
        self._norms = NormControl(config)
        block = config.memory == "block"
        self._parameters: Any = BlockParameters(config) if block else DramParameters(config)
        self._weights: Any = BlockWeights(config) if block else DramWeights(config)
        self._dram = None if block else DramPort(config)
        self._tokens = TokenControl(config)
        self._rotation = HeadRotation(config, PRODUCT_BITS)
        self._heads = Heads(config, PRODUCT_BITS)
        self._gating = Gating(config)
        self._hidden = HiddenVectors(config)
        self._head = GreedyHead(config)
        self._absmax = Absmax(
            AbsmaxConfig(
                lanes=config.lanes,
                word_bits=PRODUCT_BITS,
                length_max=shape.longest,
                target=config.engine_config.target,
            )
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the units to each other and to the sequencer."""
        m = Module()
        for name in ("sequencer", "scales", "projections", "residual", "feed", "norms", "tokens", "rotation", "heads"):
            m.submodules[name] = getattr(self, f"_{name}")
        m.submodules.parameters, m.submodules.weights = self._parameters, self._weights
        m.submodules.gating, m.submodules.hidden = self._gating, self._hidden
        m.submodules.head, m.submodules.absmax = self._head, self._absmax
        sequencer = self._sequencer
        connect(m, flipped(self.jobs), sequencer.jobs)
        connect(m, flipped(self.prompt), sequencer.prompt)
        connect(m, sequencer.results, flipped(self.results))
        m.d.comb += [
            self.busy.eq(~sequencer.jobs.ready & sequencer.ready & ~sequencer.stopped),
            self.step.eq(sequencer.step),
            self.layer.eq(sequencer.layer),
            self.fault.eq(sequencer.fault | self._projections.fault | self._weights.fault),
            self.logits.eq(self._head.logits),
            self.logits_valid.eq(self._head.logits_valid),
            sequencer.chosen.eq(self._head.token),
        ]
        if self._dram is None:
            m.d.comb += sequencer.ready.eq(1)
        else:
            self._reach_memory(m, self._dram)
        self._attend(m)
        self._project(m)
        self._norm(m)
        self._token_steps(m)
        self._share_scales(m)
        self._share_quantiser(m)
        ended = {
            TOKEN_STEPS: self._tokens.done & self._rotation.prepared,
            NORM_STEPS: self._norms.done,
            (Step.PROJECT_QKV,): self._heads.done,
            (Step.ATTEND,): self._hidden.attended_all,
            (Step.PROJECT_HEAD,): self._head.done,
        }
        with m.Switch(sequencer.step):
            for steps, done in ended.items():
                with m.Case(*steps):
                    m.d.comb += sequencer.ended.eq(done)
        return m

    def _at(self, *steps: Step) -> Value:
        """Return whether the machine is at one of these steps."""
        return Cat(self._sequencer.step == step for step in steps).any()

    def _tap(self, m: Module, name: str, valid: Value, value: Value) -> None:
        """Trace a value, if the configuration wants it."""
        if self.config.trace:
            add_tap(m, name, valid, value)

    def _reach_memory(self, m: Module, dram: DramPort) -> None:
        """Let parameters and weights read DRAM."""
        parameters, weights = self._parameters, self._weights
        m.submodules.dram = dram
        m.d.comb += pass_pins(self, dram, dram_pins(self.config))
        for client, user in ((PARAMETERS, parameters), (WEIGHTS, weights)):
            connect(m, user.commands, dram.commands[client])
            connect(m, dram.words[client], user.words)
        m.d.comb += [
            self.mismatch.eq(parameters.mismatch),
            self._sequencer.ready.eq(parameters.ready),
            self._sequencer.stop.eq(dram.memory_error | parameters.mismatch),
        ]

    def _attend(self, m: Module) -> None:
        """Build the cache and the attention."""
        config, shape = self.config, self.config.shape
        sequencer, heads, hidden = self._sequencer, self._heads, self._hidden
        sizes: dict[str, Any] = {"layers": shape.layers, "kv_heads": shape.kv_heads, "context": shape.context}
        settings = AttentionConfig(head_dim=shape.head_dim, lanes=config.lanes, queries=config.queries, **sizes)
        m.submodules.attention = attention = Attention(settings)
        cache: Any
        dram = self._dram
        if dram is None:
            cache = KvCache(head_dim=shape.head_dim, target=config.engine_config.target, **sizes)
        else:
            memory = {"ports": config.ports, "port_bits": config.port_bits, "address_bits": ADDRESS_BITS}
            cache = KvDram(head_dim=shape.head_dim, **sizes, **memory)
            connect(m, cache.commands, dram.commands[CACHE])
            connect(m, dram.words[CACHE], cache.words)
            connect(m, cache.stores, dram.stores)
            m.d.comb += [cache.stores_idle.eq(dram.stores_idle), cache.base.eq(MemoryMap(config).cache)]
        m.submodules.cache = cache
        m.submodules.queries = queries = QueryBuffer(config, settings.job_layout)
        connect(m, attention.reads, cache.reads)
        connect(m, cache.rows, attention.rows)
        connect(m, queries.jobs, attention.jobs)
        connect(m, queries.queries, attention.queries)
        write = cache.writes.payload
        m.d.comb += [
            cache.writes.valid.eq(heads.cached),
            heads.accepted.eq(cache.writes.ready),
            write["values"].eq(heads.values),
            write.layer.eq(sequencer.layer),
            write.head.eq(heads.head),
            write.token.eq(sequencer.position + heads.token),
            write.codes.eq(heads.row),
            write.scale.eq(self._scales.word),
            queries.write.eq(heads.queries),
            queries.write_token.eq(heads.token),
            queries.write_head.eq(heads.head),
            queries.row.eq(heads.row),
            queries.scale.eq(self._scales.result),
            queries.start.eq(sequencer.begin & self._at(Step.ATTEND)),
            queries.layer.eq(sequencer.layer),
            queries.position.eq(sequencer.position),
            queries.tokens.eq(sequencer.tokens),
            attention.output_unit.mantissa.eq(OUTPUT_MANTISSA),
            attention.output_unit.exponent.eq(OUTPUT_EXPONENT),
            attention.results.ready.eq(1),
        ]
        row = Cat(heads.row, self._scales.result, self._scales.word)
        self._tap(m, "rows", (heads.cached & heads.accepted) | heads.queries, row)
        m.d.comb += [
            hidden.begin.eq(sequencer.begin),
            hidden.tokens.eq(sequencer.tokens),
            hidden.attended_valid.eq(attention.results.valid),
            hidden.attended.eq(attention.results.payload["values"]),
        ]

    def _project(self, m: Module) -> None:
        """Start the projections, and pass their results to those who want them."""
        sequencer, projections, weights = self._sequencer, self._projections, self._weights
        connect(m, sequencer.passes, weights.passes)
        connect(m, weights.output, projections.weights)
        begins = sequencer.begin & self._at(*PROJECTIONS)
        m.d.comb += [
            weights.rewind.eq(sequencer.begin_pass),
            weights.start.eq(begins),
            weights.projection.eq(projections.projection),
            weights.tokens.eq(projections.tokens),
            projections.start.eq(begins),
            projections.tokens.eq(Mux(self._at(Step.PROJECT_HEAD), 1, sequencer.tokens)),
        ]
        takers: dict[Step, Any] = {
            Step.PROJECT_QKV: self._rotation,
            Step.PROJECT_O: self._residual,
            Step.PROJECT_GATE_UP: self._gating,
            Step.PROJECT_DOWN: self._residual,
            Step.PROJECT_HEAD: self._head,
        }
        for taker in (self._rotation, self._residual, self._gating, self._head):
            m.d.comb += taker.results.payload.eq(projections.results.payload)
        with m.Switch(sequencer.step):
            for step, projection in PROJECTIONS.items():
                taker = takers[step]
                with m.Case(step):
                    m.d.comb += [
                        projections.projection.eq(projection),
                        taker.results.valid.eq(projections.results.valid),
                        projections.results.ready.eq(taker.results.ready),
                    ]
        m.d.comb += [
            self._rotation.prepare.eq(sequencer.begin_pass),
            self._rotation.start.eq(begins & self._at(Step.PROJECT_QKV)),
            self._rotation.position.eq(sequencer.position),
            self._rotation.tokens.eq(sequencer.tokens),
            self._rotation.chunk.eq(sequencer.chunk),
            self._heads.chunk.eq(sequencer.chunk),
            self._heads.start.eq(begins & self._at(Step.PROJECT_QKV)),
            self._heads.tokens.eq(sequencer.tokens),
            self._head.start.eq(begins & self._at(Step.PROJECT_HEAD) & (sequencer.chunk == 0)),
        ]
        self._tap(m, "logits", self._head.logits_valid, self._head.logits)
        results = projections.results
        self._tap(m, "sums", results.valid & results.ready, results.payload["values"])

    def _norm(self, m: Module) -> None:
        """Connect the norms' control to their feed."""
        sequencer, norms, feed, parameters = self._sequencer, self._norms, self._feed, self._parameters
        waiting = Signal()
        m.d.sync += waiting.eq(norms.start | (waiting & ~parameters.loaded))
        m.d.comb += [
            norms.start.eq(sequencer.begin & self._at(*NORM_STEPS)),
            norms.step.eq(sequencer.step),
            norms.tile.eq(sequencer.tokens),
            feed.start.eq(waiting & parameters.loaded),
            feed.source.eq(norms.source),
            feed.first.eq(norms.first),
            parameters.load.eq(norms.start),
            parameters.norm.eq(norms.norm),
            parameters.layer.eq(sequencer.layer),
            parameters.gain_address.eq(feed.gain_address),
            feed.gains.eq(parameters.gains),
            feed.words.eq(norms.words),
            feed.tokens.eq(norms.tokens),
            feed.residual.eq(self._residual.read_words),
            self._residual.read_address.eq(feed.address),
            feed.hidden.eq(self._hidden.words),
            self._hidden.address.eq(feed.address),
        ]

    def _token_steps(self, m: Module) -> None:
        """Connect the control of tokens to the residual stream, the gating and its products' memory."""
        sequencer, tokens, residual, gating = self._sequencer, self._tokens, self._residual, self._gating
        parameters, hidden = self._parameters, self._hidden
        connect(m, parameters.codes, residual.codes)
        # A row of the embedding is asked for when its token begins.
        asking = Signal()
        with m.If(tokens.embed):
            m.d.sync += asking.eq(1)
        with m.Elif(parameters.rows.ready):
            m.d.sync += asking.eq(0)
        m.d.comb += [
            parameters.rows.valid.eq(asking),
            parameters.rows.payload.eq(sequencer.identity),
            residual.down.eq(self._at(Step.PROJECT_DOWN)),
            residual.chunk.eq(sequencer.chunk),
            tokens.start.eq(sequencer.begin & self._at(*TOKEN_STEPS)),
            tokens.step.eq(sequencer.step),
            tokens.tokens.eq(sequencer.tokens),
            tokens.idle.eq(residual.idle & gating.idle),
            residual.embed.eq(tokens.embed),
            residual.add.eq(tokens.add),
            gating.start.eq(tokens.gate),
            hidden.gate.eq(tokens.gate),
            hidden.token.eq(tokens.token),
            hidden.chunk.eq(sequencer.chunk),
            hidden.gated_valid.eq(gating.valid),
            hidden.gated.eq(gating.products),
            residual.token.eq(tokens.token),
            residual.scale.eq(self._scales.slot),
            gating.scale.eq(self._scales.slot),
            sequencer.place.eq(tokens.token),
            self._scales.slot_token.eq(tokens.token),
        ]
        self._tap(m, "residual", residual.written, residual.words)
        self._tap(m, "hidden", hidden.written, hidden.write_words)

    def _share_scales(self, m: Module) -> None:
        """Let norms, heads and embeddings start programs of the scale processor; only one of them is at work."""
        sequencer, scales, norms, heads, tokens = (
            self._sequencer, self._scales, self._norms, self._heads, self._tokens,
        )  # fmt: skip
        m.d.comb += [
            scales.layer.eq(sequencer.layer),
            self._parameters.constant_address.eq(scales.constant_address),
            scales.constant.eq(self._parameters.constant),
            scales.maximum.eq(self._absmax.maxima.payload["values"][0]),
            scales.squares.eq(self._feed.sums.payload.squares),
            scales.shift.eq(self._feed.sums.payload.shift),
            norms.summed.eq(self._feed.sums.valid & self._absmax.maxima.valid),
            self._feed.sums.ready.eq(norms.taken),
            scales.start.eq(norms.scale_start | heads.scale_start | tokens.scale_start),
            norms.scale_done.eq(scales.done),
            heads.scale_done.eq(scales.done),
            tokens.scale_done.eq(scales.done),
        ]
        with m.If(norms.active):
            m.d.comb += [scales.program.eq(norms.program), scales.token.eq(norms.token)]
        with m.Elif(self._at(Step.PROJECT_QKV)):
            m.d.comb += [scales.program.eq(heads.program), scales.token.eq(heads.token)]
        with m.Else():
            m.d.comb += [scales.program.eq(Program.EMBED), scales.token.eq(tokens.token)]
        stored = Cat(scales.stored, scales.result)
        self._tap(m, "scales", scales.stored_valid, stored)

    def _share_quantiser(self, m: Module) -> None:
        """Let norms and heads use the quantiser; only one of them is at work."""
        shape = self.config.shape
        sequencer, absmax, norms, heads, feed, rotation = (
            self._sequencer, self._absmax, self._norms, self._heads, self._feed, self._rotation,
        )  # fmt: skip
        at_heads = self._at(Step.PROJECT_QKV)
        job = Signal()
        with m.If(sequencer.begin & (at_heads | self._at(*NORM_STEPS))):
            m.d.sync += job.eq(1)
        with m.Elif(absmax.jobs.ready):
            m.d.sync += job.eq(0)
        m.d.comb += [
            absmax.jobs.valid.eq(job),
            absmax.jobs.payload.length.eq(Mux(at_heads, shape.head_dim, norms.length)),
            absmax.jobs.payload.vectors.eq(
                Mux(at_heads, sequencer.tokens * vectors_of_chunk(self.config), norms.tokens)
            ),
        ]
        with m.If(at_heads):
            connect(m, rotation.values, absmax.values)
            connect(m, absmax.results, heads.codes)
            connect(m, absmax.maxima, heads.maxima)
        with m.Else():
            connect(m, feed.values, absmax.values)
            m.d.comb += [absmax.results.ready.eq(1), absmax.maxima.ready.eq(norms.taken)]
        codes = absmax.results
        m.d.comb += [
            norms.coded.eq(codes.valid & norms.active),
            norms.last.eq(codes.payload.last),
            self._projections.write.eq(norms.coded),
            self._projections.code_address.eq(norms.code_address),
            self._projections.codes.eq(codes.payload["values"]),
        ]
        self._tap(m, "codes", norms.coded, codes.payload["values"])
