"""Cycles of a machine's passes, step by step, without simulating them.

The parts are those of the units' own models: an engine's cycles, the instructions of a scale program, the transfers of
vectors through the quantiser, the tokens that attention sees. What depends on data, the shifts of the scale unit, is
taken at a usual value, and the latencies of a step's pipelines are added up to a constant. Simulated small machines
differ by `ERROR` at most in a job's cycles (sim/test_cycles.py); the larger a machine, the less its constants matter.

Memory in DRAM is a rate and a latency: weights come into the ring at that rate whenever nothing else is read, and a
step waits for those that have not come.
"""

import dataclasses
import math

from nomul.accelerators.config import AcceleratorConfig, Projection
from nomul.accelerators.memory_map import MemoryMap
from nomul.accelerators.norms import Norm
from nomul.accelerators.scale_programs import Operation, Program, programs
from nomul.accelerators.sequencer import PROJECTIONS, Step

__all__ = ["ERROR", "CycleModel", "MemoryRate", "Pass", "Traffic"]

ERROR = 0.03
"""Largest relative error of a job's cycles that the benches allow."""

INSTRUCTION = 8
"""Cycles of an instruction of a scale program without those of the scale unit."""

UNIT = {
    Operation.MULTIPLY: 13,
    Operation.DIVIDE: 32,
    Operation.ADD: 19,
    Operation.RSQRT: 83,
    Operation.NORMALISE_MAXIMUM: 19,
    Operation.NORMALISE_SQUARES: 19,
    Operation.FIX_MAXIMUM: 9,
}
"""Cycles of the scale unit with shifts as usual (`nomul.vector.scale`)."""

LOADED = 192
"""Words of weights that have been asked for before something else is: bursts in the DRAM, which answers in order."""

BUFFER = 512
"""Words of weights that wait in front of the ring."""

BEGIN = 2
"""Cycles of the sequencer in each step."""


@dataclasses.dataclass(frozen=True)
class MemoryRate:
    """A DRAM as a machine's clock sees it."""

    bytes_per_cycle: float
    latency: int = 48
    """Cycles from a command to its first word, when nothing else is read."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a pass reads and writes, in whole words."""

    weights: int
    head: int
    cache: int
    parameters: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.head + self.cache + self.parameters


@dataclasses.dataclass(frozen=True)
class Pass:
    """Cycles of a pass by step, those of all layers together, and those of them that waited for weights."""

    steps: dict[Step, int]
    waited: dict[Step, int]
    between: int

    @property
    def total(self) -> int:
        """All cycles."""
        return sum(self.steps.values()) + self.between


class CycleModel:
    """The model.

    Parameters
    ----------
    config : AcceleratorConfig
    memory : MemoryRate, optional
        Of a machine whose memory is DRAM; by default as fast as its ports are wide.
    """

    def __init__(self, config: AcceleratorConfig, memory: MemoryRate | None = None) -> None:
        self.config = config
        self.dram = config.memory == "axi"
        self.map = MemoryMap(config) if self.dram else None
        ports = config.ports * config.port_bits / 8
        given = memory or MemoryRate(ports)
        self.memory = MemoryRate(min(given.bytes_per_cycle, ports), given.latency)
        self._chunks: dict[tuple[Step, int], tuple[int, int, int]] = {}
        code = programs(config.shape.activation)
        self.programs = {
            program: sum(INSTRUCTION + UNIT.get(step.operation, 0) for step in steps) for program, steps in code.items()
        }

    def job(self, prompt: int, tokens: int, position: int = 0) -> list[Pass]:
        """Return the passes of a job."""
        tile = self.config.tile
        tiles = [(min(tile, prompt - first), position + first) for first in range(0, prompt, tile)]
        walk = [(count, place, place + count == position + prompt) for count, place in tiles]
        walk += [(1, position + prompt + number, True) for number in range(tokens - 1)]
        ring, passes = self._ring(), []
        for number, each in enumerate(walk):
            # A pass's weights are asked for in the one before.
            for ahead in walk[number + (number > 0) : number + 2]:
                ring.ask(self._weights(ahead[2]))
            passes.append(self._pass(*each, ring))
        return passes

    def _weights(self, head: bool) -> int:
        """Return the transfers of weights of a pass."""
        config = self.config
        return config.shape.layers * config.layer_transfers + head * config.head_transfers

    def _ring(self) -> "_Ring":
        return _Ring(self.config, self._words_rate(), self.map.transfer_words if self.map else 1)

    def _pass(self, tokens: int, position: int, head: bool, ring: "_Ring") -> Pass:
        """Return the cycles of a pass of so many tokens after `position` others, with the LM head or without."""
        shape = self.config.shape
        steps = dict.fromkeys(Step, 0)
        waited = dict.fromkeys(Step, 0)
        walk = [Step.EMBED]
        for _ in range(shape.layers):
            walk += [step for step in Step if Step.EMBED < step < Step.NORM_FINAL]
        walk += [Step.NORM_FINAL, Step.PROJECT_HEAD] if head else []
        for step in walk:
            if step in PROJECTIONS:
                count = 1 if step is Step.PROJECT_HEAD else tokens
                chunks, transfers, busy = self._chunk(step, count)
                for _ in range(chunks):
                    wait = ring.use(transfers, busy) if self.dram else 0
                    steps[step] += busy + wait
                    waited[step] += wait
            else:
                busy, words = self._other(step, tokens, position)
                busy += BEGIN + (ring.ahead() if self.dram else 0)
                steps[step] += busy
                if self.dram:
                    ring.fill(busy, words)
        return Pass(steps, waited, tokens + 3 if position == 0 or tokens > 1 else 3)

    def traffic(self, tokens: int, position: int, head: bool) -> Traffic:
        """Return the bytes that a pass moves; of weights on the chip too, for comparison."""
        config, shape = self.config, self.config.shape
        size = config.engine_config.weight_width / 8
        weights, last = shape.layers * config.layer_transfers * size, config.head_transfers * size
        if self.map is None:
            return Traffic(math.ceil(weights), math.ceil(last) if head else 0, 0, 0)
        place, word = self.map, self.map.word_bytes
        gains = shape.layers * place.layer_gain_words + (place.words(shape.width) if head else 0)
        cache = sum(shape.layers * self._cache_words(length) for length in self._lengths(tokens, position))
        # A row of keys and one of values are written for each key-value head.
        cache += tokens * shape.layers * shape.kv_heads * 2 * (place.cache_layout.row + 1)
        return Traffic(
            place.layers_words * word,
            place.head_words * word if head else 0,
            cache * word,
            (gains + tokens * place.row_words) * word,
        )

    def _words_rate(self) -> float:
        """Words of DRAM in a cycle."""
        return self.memory.bytes_per_cycle / self.map.word_bytes if self.map else 1.0

    def _lengths(self, tokens: int, position: int) -> list[int]:
        """Return the rows of keys that each job of a head reads: those of the last of the tokens that share them."""
        shared = self.config.queries
        return [position + min(first + shared, tokens) for first in range(0, tokens, shared)]

    def _cache_words(self, length: int) -> int:
        """Words that a layer's attention of one token reads: each query head reads its rows."""
        assert self.map is not None
        layout = self.map.cache_layout
        return self.config.shape.heads * (2 * length * layout.row + -(-length // layout.tokens))

    def _chunk(self, step: Step, tokens: int) -> tuple[int, int, int]:
        """Return the chunks of a projection, and the transfers of weights and the cycles of each."""
        if (step, tokens) not in self._chunks:
            config, projection = self.config, PROJECTIONS[step]
            each = config.transfers(projection), self._project(step, tokens) + BEGIN
            self._chunks[step, tokens] = (config.chunks(projection), *each)
        return self._chunks[step, tokens]

    def _project(self, step: Step, tokens: int) -> int:
        """Return the cycles of a chunk of a projection, and of what takes its results."""
        config, shape = self.config, self.config.shape
        projection = PROJECTIONS[step]
        rows = config.outputs(projection) // config.chunks(projection)
        inputs = config.inputs(projection)
        ends = [config.engine_config.cycles(inputs, rows, count, config.mode) for count in (1, tokens)]
        if step is Step.PROJECT_QKV:
            return self._heads(ends, rows, tokens) + 7
        if step is Step.PROJECT_HEAD:
            return ends[1] + 4 + (config.lanes - 1).bit_length()
        if step is Step.PROJECT_GATE_UP:
            return ends[1] + (15 if shape.activation == "silu" else 7)
        # A token is added when the one before it has been written.
        return max(ends[1], ends[0] + (tokens - 1) * (rows // config.lanes + 15)) + 13

    def _heads(self, ends: list[int], rows: int, tokens: int) -> int:
        """Return the cycles until the last head has its scale: heads follow each other, and each has a program."""
        config, shape = self.config, self.config.shape
        chunks = config.chunks(Projection.QKV)
        vectors, transfers = shape.vectors // chunks, config.words(shape.head_dim)
        late = config.engine_config.results_at_end
        kinds = [Program.QUERY] * shape.heads + [Program.KEY] * shape.kv_heads + [Program.VALUE] * shape.kv_heads
        every = (ends[1] - ends[0]) / max(tokens - 1, 1)
        now = 0.0
        for token in range(tokens):
            end = ends[0] + token * every
            begin = end - (rows // config.lanes if late else (ends[0] if not token else every))
            for vector in range(vectors):
                came = begin + (end - begin) * (vector + 1) / vectors + 10
                # Chunks take turns over all kinds: the mean is theirs.
                program = self.programs[kinds[vector]] if chunks == 1 else self._mean(kinds)
                now = max(now, came) + max(program + 4, transfers + 2)
        return math.ceil(now) + 4

    def _mean(self, kinds: list[Program]) -> float:
        return sum(self.programs[kind] for kind in kinds) / len(kinds)

    def _other(self, step: Step, tokens: int, position: int) -> tuple[int, float]:
        """Return the cycles of a step that is no projection, and the words of DRAM that it moves."""
        config, shape = self.config, self.config.shape
        if step is Step.EMBED:
            row = self.map.row_words if self.map else 0
            fetch = self.memory.latency + 10 + row / self._words_rate() if self.map else 0
            each = self.programs[Program.EMBED] + 18 + config.words(shape.width) + fetch
            return max(math.ceil(tokens * each) + 5, tokens * (shape.head_dim // 2 + 10)), tokens * row
        if step is Step.ATTEND:
            return self._attend(tokens, position)
        norm, program = {
            Step.NORM_INPUT: (Norm.INPUT, Program.INPUT),
            Step.NORM_SUB: (Norm.SUB, Program.SUB),
            Step.NORM_POST: (Norm.POST, Program.POST),
            Step.NORM_FFN: (Norm.FFN, Program.FFN),
            Step.NORM_FINAL: (Norm.FINAL, Program.INPUT),
        }[step]
        length = {Norm.SUB: shape.queries, Norm.FFN: shape.ffn}.get(norm, shape.width)
        words = self.map.words(length) if self.map else 0
        load = self.memory.latency + words / self._words_rate() + 8 if self.map else 0
        vectors = 1 if step is Step.NORM_FINAL else tokens
        return math.ceil(load + self._norm(vectors, config.words(length), norm is Norm.FFN, program)), words

    def _norm(self, vectors: int, transfers: int, gated: bool, program: Program) -> float:
        """Return the cycles of a norm: vectors are read, summed and quantised, and each has a program."""
        each = 1 + transfers + 18 + (transfers + 12 if gated else 0)
        done, summed = 0.0, 0.0
        for _ in range(vectors):
            summed += each
            done = max(done, summed + 2) + self.programs[program] + 2
        return max(done, summed + transfers + 26)

    def _attend(self, tokens: int, position: int) -> tuple[int, float]:
        """Return the cycles of attention, and the words that it reads: a row of keys or of values in a cycle."""
        shape = self.config.shape
        lengths = self._lengths(tokens, position)
        words = sum(self._cache_words(length) for length in lengths) if self.map else 0
        jobs = [length for length in lengths for _ in range(shape.heads)]
        latency = self.memory.latency if self.map else 0
        # A job takes the rows of its keys and values, or the time of the unit of its sums, or that of two short reads.
        least = latency + 9 if self.map else 24
        stream = sum(max(2 * length, least + length // 2) for length in jobs) + 52 + latency
        alone = 3 * jobs[0] + 59
        return max(stream, alone, math.ceil(words / self._words_rate()) + latency + 100), words


class _Ring:
    """The weights' ring, as amounts of transfers: filled while steps run, emptied by projections."""

    def __init__(self, config: AcceleratorConfig, words: float, transfer_words: int) -> None:
        self.depth = config.ring + BUFFER // transfer_words
        self.words, self.transfer_words = words, transfer_words
        self.rate = words / transfer_words
        self.level, self.wanted = 0.0, 0.0

    def ask(self, transfers: int) -> None:
        """Ask for the weights of a pass."""
        self.wanted += transfers

    def ahead(self) -> int:
        """Return the cycles that something else waits for the weights that are on their way."""
        coming = min(self.wanted - self.level, self.depth - self.level) * self.transfer_words
        return math.ceil(min(LOADED, max(coming, 0)) / self.words)

    def fill(self, cycles: float, others: float) -> None:
        """Let weights come for so many cycles, in which `others` words of something else come first."""
        free = max(cycles - others / self.words, 0.0)
        self.level = min(self.depth, self.wanted, self.level + free * self.rate)

    def use(self, transfers: int, cycles: int) -> int:
        """Use transfers in a projection of so many cycles; return the cycles that it waits."""
        missing = max(transfers - self.level, 0.0)
        wait = max(math.ceil(missing / self.rate - cycles), 0)
        self.wanted = max(self.wanted - transfers, 0.0)
        # What comes meanwhile, and is left over, waits.
        self.level = min(self.depth, self.wanted, max(self.level + (cycles + wait) * self.rate - transfers, 0.0))
        return wait
