"""What engines share that multiply a step of activations with a step of weights in every cycle.

A `DotEngine` is a `BlockSchedule`, a weight stream (decoded on its way if it is dense), an array, and the way out of
the results. Only the array knows how products are formed; it keeps the following contract.

    enable   In   everything in the array stands still without it
    issue    In   `step` and `weights` are taken in this cycle
    step     In   `nomul.engines.block_schedule.step_layout`
    weights  In   a transfer of weights, decoded
    ready    Out  a step may be issued in this cycle
    values   Out  `rows` results, valid with `done`
    done     Out  they are those of a block, for one cycle in which `enable` is high
    final    Out  that block was a token's last

Results leave in one of two ways. With a queue, the array never stands still, and a block's last step waits until the
queue has room. Without one (`queue` = 0, for standard cells) `values` are the results' registers, and the array stands
still while they are not taken: `results.ready` reaches `weights.ready` in the same cycle.

An array with a queue on an FPGA is always ready, and there a step and its weights are taken a cycle before they are
issued: only the counters of the walk wait for that decision, and what an array sees comes from registers.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out, connect, flipped

from nomul.arith.target import Target
from nomul.engines.block_schedule import BlockSchedule, Trim, step_layout
from nomul.engines.matmul import MatmulConfig, matmul_members
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.memory.trit_decoder import GroupCode, TritDecoder

__all__ = ["DotConfig", "DotEngine", "array_members", "dot_cycles"]


class DotConfig(MatmulConfig, Protocol):
    """What a `DotEngine` asks of its configuration."""

    @property
    def queue_depth(self) -> int:
        """Transfers of results that wait while the consumer stalls; 0 is none."""

    @property
    def chunk(self) -> int | None:
        """Steps between two correction steps, or None."""

    @property
    def step_weights(self) -> ShapeLike:
        """The weights of a step as the array takes them."""

    @property
    def dense_code(self) -> GroupCode | None:
        """The codes of weights -1, 0 and 1 in `step_weights`, if they can be decoded from dense ones."""

    @property
    def decodes(self) -> bool:
        """Whether the weight stream is dense."""

    @property
    def dense_units(self) -> int:
        """Bytes in a transfer of dense weights."""

    @property
    def target(self) -> str:
        """Technology whose arithmetic forms are used."""


def array_members(config: DotConfig, passes: Sequence[int] = (1,), trim: Trim | None = None) -> dict[str, Member]:
    """Return the ports of an array; `passes` and `trim` are those of its engine."""
    return {
        "enable": In(1),
        "issue": In(1),
        "step": In(step_layout(config, passes, trim)),
        "weights": In(config.step_weights),
        "ready": Out(1),
        "values": Out(data.ArrayLayout(signed(config.total_width), config.rows)),
        "done": Out(1),
        "final": Out(1),
    }


def _ahead(config: DotConfig) -> bool:
    """Tell whether steps are taken a cycle before they are issued."""
    return bool(config.queue_depth) and config.target != Target.CELLS.value


def dot_cycles(
    config: DotConfig,
    n_in: int,
    n_out: int,
    tokens: int,
    *,
    latency: int,
    gap: int = 0,
    pace: int = 1,
    passes: int = 1,
    preload: bool = False,
    fill: int = 0,
) -> int:
    """Return the cycles of a job alone, when no stream stalls.

    Parameters
    ----------
    latency : int
        Cycles from a block's last issue to `done`.
    gap : int
        Cycles after a block's last issue in which the array takes none.
    pace : int
        Cycles that the weights of a step take, 1 if they come whole.
    passes : int
        How often a block walks the vector.
    preload : bool
        Whether a correction step comes before the steps of each block.
    fill : int
        Cycles that activations take on their way to the schedule.
    """
    beats, blocks = -(-n_in // config.activation_lanes), -(-n_out // config.rows)
    steps = beats * passes + preload + (-(-beats // config.chunk) if config.chunk else 0)
    # Cycle 0 takes the job. With dense weights the first step's are decoded from cycle 0 on.
    loaded, issued, freed, early = fill, 0, [0, 0], pace + _ahead(config)
    for token in range(tokens):
        loaded = max(loaded, freed[token % 2]) + beats
        start = max(loaded + 3, issued + 1 + (gap if token else 0), issued + pace if token else early)
        issued = start + (steps - 1) * pace + (blocks - 1) * max(steps * pace, (steps - 1) * pace + 1 + gap)
        freed[token % 2] = issued - 1
    return issued + latency + (Fifo.LATENCY if config.queue_depth else 0) + 1


class DotEngine(Component):
    """An engine around an array; `nomul.engines.matmul` documents its ports.

    Parameters
    ----------
    config : DotConfig
    array : Component
        With the ports of `array_members`.
    preload : bool
    passes : sequence of int
    trim : Trim or None
        As in `nomul.engines.block_schedule.BlockSchedule`.
    """

    def __init__(
        self,
        config: DotConfig,
        array: Any,
        preload: bool = False,
        passes: Sequence[int] = (1,),
        trim: Trim | None = None,
    ) -> None:
        self.config, self.array, self.preload, self.passes, self.trim = config, array, preload, passes, trim
        weight = data.ArrayLayout(8, config.dense_units) if config.decodes else config.step_weights
        super().__init__(matmul_members(config, weight))

    def elaborate(self, platform: object) -> Module:
        """Wire the schedule, the weights, the array and the results together."""
        m = Module()
        ahead = _ahead(self.config)
        m.submodules.schedule = schedule = BlockSchedule(
            self.config, self.config.chunk, self.preload, self.passes, self.trim, ahead
        )
        m.submodules.array = array = self.array
        weights, undecodable = self._weights(m)
        take, steps = Signal(), schedule.steps
        room = self._results(m, take & steps.payload.last)
        connect(m, flipped(self.jobs), schedule.jobs)
        connect(m, flipped(self.activations), schedule.activations)
        m.d.comb += [
            self.fault.eq(schedule.fault | undecodable),
            weights.ready.eq(steps.valid & (Const(1) if ahead else array.ready) & (room | ~steps.payload.last)),
            take.eq(weights.ready & weights.valid),
            steps.ready.eq(take),
        ]
        issue, marks, coded = take, Value.cast(steps.payload), Value.cast(weights.payload)
        if ahead:
            issue = Signal(name="issue")
            marks, coded = (
                Signal(len(value), name=name, reset_less=True) for name, value in (("marks", marks), ("coded", coded))
            )
            m.d.sync += [issue.eq(take), marks.eq(steps.payload), coded.eq(weights.payload)]
        m.d.comb += [
            array.issue.eq(issue),
            Value.cast(array.step).eq(Cat(schedule.word, marks)),
            Value.cast(array.weights).eq(coded),
        ]
        return m

    def _weights(self, m: Module) -> tuple[stream.Interface, Value]:
        """Return the stream of steps of weights, and whether it has had weights without a meaning."""
        config = self.config
        if config.dense_code is None or not config.decodes:
            return self.weights, Const(0)
        groups = config.rows * config.activation_lanes
        m.submodules.decoder = decoder = TritDecoder(config.dense_code, groups, config.dense_units)
        connect(m, flipped(self.weights), decoder.dense)
        return decoder.blocks, decoder.fault

    def _results(self, m: Module, promised: Value) -> Value:
        """Build the way out; return whether a block's last step may be taken."""
        config, array, results = self.config, self.array, self.results
        if not config.queue_depth:
            m.d.comb += [
                results.payload.values.eq(array.values),
                results.payload.last.eq(array.final),
                results.valid.eq(array.done),
                array.enable.eq(~array.done | results.ready),
            ]
            return Const(1)
        style = None if config.target == "portable" else "block"
        m.submodules.queue = queue = Fifo(results.payload.shape(), config.queue_depth, style)
        m.submodules.room = room = Credit(config.queue_depth)
        connect(m, queue.output, flipped(results))
        m.d.comb += [
            array.enable.eq(1),
            queue.payload.values.eq(array.values),
            queue.payload.last.eq(array.final),
            queue.write.eq(array.done),
            room.take.eq(promised),
            room.give.eq(queue.taken),
        ]
        return room.available
