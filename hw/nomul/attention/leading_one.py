"""Leading-one prediction: approximate scores of one query against M keys, without a multiplier.

    symmetric    s = sum_i LO(q_i) LO(k_i),    asymmetric    s = sum_i q_i LO(k_i)
    LO(x) = sign(x) 2^floor(log2 |x|),  LO(0) = 0;   of the least two's complement number as of the next

After VitaLLM (arXiv 2605.00320), whose exact form is not published; the asymmetric form is LAPA's (arXiv 2512.07855).
A key is coded once, when it is made: sign above the length of the magnitude, 4 bits for INT8, half of what the key
itself takes; the codes wait beside the cache of keys. The predicted scores are exact integers, to be ranked by
`nomul.attention.top_k`.

With K = M / 8 on the committed `small` model the K predicted keys hold 98.1 % (symmetric) and 98.6 % (asymmetric) of
the attention that the best K hold, and the loss rises by 0.31 % and 0.09 % (docs/units.md has the command); so
asymmetric is the default. On UltraScale+, with 16 lanes, it takes 1238 LUTs, and symmetric 1376.

Streams: `keys` to `key_codes` is the coder, a register that knows no jobs; its `last` is always set. `queries` takes
the query of a job, `codes` the codes of its keys one after the other, `results` gives one score a key.

Cycle schedule of codes taken at t: in a register t + 1; terms t + 2 (symmetric: t + 3); total after the latency of
`nomul.arith.signed_sum`, where it is the addend of the key's next codes or enters the result queue. In the cycles
between, the codes are zero, so the total keeps.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component

from nomul.arith.pipeline import Delays
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.target import TARGETS, Target
from nomul.config import parameter, validate
from nomul.contract import CoreConfig, JobIntake, Port, core_members
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo

__all__ = ["LeadingOne", "LeadingOneConfig"]


@dataclasses.dataclass(frozen=True)
class LeadingOneConfig(CoreConfig):
    """Configuration of `LeadingOne`.

    Raises
    ------
    ValueError
        If a field is out of its range.
    """

    predictor: str = parameter(
        "asymmetric", "operands rounded to powers of two: both, or keys alone", choices=("symmetric", "asymmetric")
    )
    lanes: int = parameter(16, "elements of a key taken in parallel", low=1, high=256)
    act_bits: int = parameter(8, "width of an element of query and key, two's complement", low=3, high=8)
    length_max: int = parameter(128, "longest query and key", low=1, high=4096)
    keys_max: int = parameter(4096, "most keys of a job", low=1, high=1 << 20)
    queue: int = parameter(32, "scores that wait while the consumer stalls", low=16, high=4096)
    target: str = parameter("portable", "technology whose arithmetic forms are used", choices=TARGETS)

    def __post_init__(self) -> None:
        """Check each field."""
        validate(self)

    @property
    def length_width(self) -> int:
        """Bits of the length of a magnitude, 0 to act_bits - 1."""
        return (self.act_bits - 1).bit_length()

    @property
    def code_width(self) -> int:
        """Bits of the code of an element."""
        return self.length_width + 1

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a term; a term before its sign lies in [-magnitude, magnitude - 1]."""
        top = self.act_bits - 2
        return 1 << (2 * top if self.predictor == "symmetric" else self.act_bits - 1 + top)

    @property
    def score_width(self) -> int:
        """Width of a score, two's complement: no sum of `length_max` terms overflows it."""
        return (self.magnitude * self.length_max).bit_length() + 1

    @property
    def parts_max(self) -> int:
        """Transfers of the longest query."""
        return -(-self.length_max // self.lanes)

    @property
    def job_limits(self) -> dict[str, int]:
        """Length of the query and of each key, and how many keys."""
        return {"length": self.length_max, "keys": self.keys_max}

    @property
    def repeats(self) -> str | None:
        """Scores come as one vector."""
        return None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Keys to be coded, the query of a job, and the codes of its keys."""
        return (
            Port.of("keys", self.lanes, self.act_bits, "elements of keys, to be coded"),
            Port.of("queries", self.lanes, self.act_bits, "the query of each job"),
            Port.of("codes", self.lanes, self.code_width, "codes of the keys of a job, key by key", negative=False),
        )

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Scores, and the codes of what came in as keys."""
        return (
            Port.of("results", 1, self.score_width, "predicted scores, one for each key"),
            Port.of("key_codes", self.lanes, self.code_width, "codes of the keys, in the same order", negative=False),
        )

    @property
    def work_per_cycle(self) -> int:
        """Elements of keys weighed in a cycle."""
        return self.lanes

    def work(self, *, length: int, keys: int) -> int:
        """Return the elements of keys that a job weighs."""
        return length * keys

    @property
    def term_stages(self) -> int:
        """Cycles from the codes in their register to the terms in theirs."""
        return 2 if self.predictor == "symmetric" else 1

    @property
    def latency(self) -> int:
        """Cycles from a transfer of codes to the total that it completes."""
        timing = sum_timing(self.lanes, Target(self.target))
        return 1 + self.term_stages + timing.latency

    def cycles(self, *, length: int, keys: int) -> int:
        """Return the cycles of a job alone: `parts * (keys + 1)` and a constant, `parts = ceil(length / lanes)`."""
        return -(-length // self.lanes) * (keys + 1) + self.latency + 5


class LeadingOne(Component):
    """The unit; `nomul.contract` and the module document its ports.

    Parameters
    ----------
    config : LeadingOneConfig
    """

    def __init__(self, config: LeadingOneConfig) -> None:
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire coder, query buffer, terms and sum together."""
        m = Module()
        config = self.config
        self._code_keys(m)
        m.submodules.intake = intake = JobIntake(config.job_limits)
        m.submodules.credit = credit = Credit(config.queue)
        m.d.comb += [
            intake.jobs.payload.eq(self.jobs.payload),
            intake.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(intake.jobs.ready),
            self.fault.eq(intake.fault),
        ]

        # The query is loaded part by part; then its parts go round, once for each key.
        rest = Signal(range(config.length_max + 1))
        part, last_part = Signal(range(config.parts_max)), Signal(range(config.parts_max))
        left = Signal(range(config.keys_max + 1))
        load, issue, key_ends = Signal(), Signal(), Signal()
        raw = Signal(self.queries.payload.shape())
        written, written_part = Signal(), Signal.like(part)
        m.d.comb += [
            load.eq(self.queries.valid & self.queries.ready),
            issue.eq(self.codes.valid & self.codes.ready),
            key_ends.eq(part == last_part),
        ]
        m.d.sync += [written.eq(load), written_part.eq(part)]
        with m.If(load):
            m.d.sync += rest.eq(rest - config.lanes)
            for lane in range(config.lanes):
                m.d.sync += raw[lane].eq(Mux(rest > lane, self.queries.payload[lane], 0))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += intake.free.eq(1)
                m.d.sync += [part.eq(0), rest.eq(intake.job.length), left.eq(intake.job["keys"])]
                with m.If(intake.start):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.queries.ready.eq(1)
                with m.If(load):
                    m.d.sync += part.eq(part + 1)
                    with m.If(rest <= config.lanes):
                        m.d.sync += [last_part.eq(part), part.eq(0)]
                        m.next = "SETTLE"
            with m.State("SETTLE"):  # the last part is written
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.codes.ready.eq(credit.available)
                with m.If(issue):
                    m.d.sync += part.eq(Mux(key_ends, 0, part + 1))
                    with m.If(key_ends):
                        m.d.sync += left.eq(left - 1)
                        with m.If(left == 1):
                            m.next = "IDLE"

        kept = data.ArrayLayout(config.code_width if config.predictor == "symmetric" else config.act_bits, config.lanes)
        m.submodules.query = memory = Memory(shape=kept, depth=config.parts_max, init=[], attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port(domain="comb")
        query, codes = Signal(kept, reset_less=True), Signal(self.codes.payload.shape())
        m.d.comb += [write.addr.eq(written_part), write.en.eq(written), read.addr.eq(part)]
        for lane in range(config.lanes):
            value = self._code(raw[lane]) if config.predictor == "symmetric" else raw[lane]
            m.d.comb += write.data[lane].eq(value)
        m.d.sync += [query.eq(read.data), codes.eq(0)]
        with m.If(issue):
            m.d.sync += codes.eq(self.codes.payload)

        self._sum(m, query, codes, issue & (part == 0), issue & key_ends, left == 1, credit)
        return m

    def _code(self, value: Value) -> Value:
        """Return the code of an element."""
        config = self.config
        negative = value[-1]
        magnitude = Mux(negative, -value, value)[: config.act_bits]
        length: Value = Const(0, config.length_width)
        for bit in range(config.act_bits - 1):
            length = Mux(magnitude[bit], bit + 1, length)
        # The least two's complement number has no bit below the sign; it counts as its successor.
        length = Mux(magnitude[-1], config.act_bits - 1, length)
        return Cat(length[: config.length_width], negative)

    def _code_keys(self, m: Module) -> None:
        keys, key_codes = self.keys, self.key_codes
        m.d.comb += [keys.ready.eq(~key_codes.valid | key_codes.ready), key_codes.payload.last.eq(1)]
        with m.If(keys.ready):
            m.d.sync += key_codes.valid.eq(keys.valid)
            for lane in range(self.config.lanes):
                m.d.sync += key_codes.payload["values"][lane].eq(self._code(keys.payload[lane]))

    def _term(self, m: Module, lane: int, query: Value, code: Value) -> tuple[Signal, Signal]:
        """Return registers of a term's magnitude, or minus it, and of the sign that is still to be applied."""
        config, width = self.config, self.config.length_width
        word = Signal(range(-config.magnitude, config.magnitude), name=f"word{lane}", reset_less=True)
        sign = Signal(name=f"sign{lane}", reset_less=True)
        length, negative = code[:width], code[width]
        if config.predictor == "asymmetric":
            m.d.sync += sign.eq(negative)
            with m.Switch(length):
                with m.Case(0):
                    m.d.sync += word.eq(0)
                for place in range(1, config.act_bits):
                    with m.Case(place):
                        m.d.sync += word.eq(query.as_signed() << (place - 1))
            return word, sign
        # Minus a power of two is ones from its place up: the word is that, and the sign inverted.
        place = Signal(range(2 * config.act_bits - 3), name=f"place{lane}", reset_less=True)
        some, positive = (Signal(name=f"{name}{lane}", reset_less=True) for name in ("some", "positive"))
        m.d.sync += [
            place.eq(query[:width] + length - 2),
            some.eq((query[:width] != 0) & (length != 0)),
            positive.eq(query[width] == negative),
            sign.eq(positive),
        ]
        for bit in range(len(word)):
            m.d.sync += word[bit].eq(some & (place <= bit))
        return word, sign

    def _sum(
        self, m: Module, query: Value, codes: Value, first: Value, done: Value, final: Value, credit: Credit
    ) -> None:
        """Build the terms, their sum, and the queue of scores."""
        config = self.config
        timing = sum_timing(config.lanes, Target(config.target))
        delay = Delays(m)
        m.submodules.sum = sum_ = signed_sum(config.lanes, config.magnitude, config.score_width, Target(config.target))
        for lane in range(config.lanes):
            word, sign = self._term(m, lane, query[lane], codes[lane])
            m.d.comb += [
                sum_.words[lane].eq(delay(word, timing.delays[lane])),
                sum_.signs[lane].eq(delay(sign, timing.delays[lane])),
            ]
        begins, ends, last = Signal(), Signal(), Signal()
        m.d.comb += [begins.eq(first), ends.eq(done), last.eq(done & final)]
        fresh = delay(begins, config.latency - 1)
        total = Signal(signed(config.score_width))
        m.d.comb += [total.eq(sum_.total), sum_.addend.eq(Mux(fresh, 0, total))]

        m.submodules.queue = queue = Fifo(self.results.payload.shape(), config.queue)
        m.d.comb += [
            queue.payload["values"][0].eq(total),
            queue.payload.last.eq(delay(last, config.latency)),
            queue.write.eq(delay(ends, config.latency)),
            self.results.payload.eq(queue.output.payload),
            self.results.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.results.ready),
            credit.take.eq(done),
            credit.give.eq(queue.taken),
        ]
