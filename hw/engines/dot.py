"""What engines share that multiply a step of activations with a step of weights in every cycle.

A `DotEngine` is a `BlockSchedule`, a weight stream (decoded on its way if it is dense), an array, and the way out of
the results. Only the array knows how products are formed; it keeps the following contract.

    enable   In   everything in the array stands still without it
    issue    In   `step` and `weights` are taken in this cycle
    step     In   `hw.engines.block_schedule.step_layout`
    weights  In   a transfer of weights, decoded
    ready    Out  a step may be issued in this cycle
    values   Out  `rows` results, valid with `done`
    done     Out  they are those of a block, for one cycle in which `enable` is high
    final    Out  that block was a token's last

Results leave in one of two ways. With a queue, the array never stands still, and a block's last step waits until the
queue has room. Without one (`queue` = 0, for standard cells) `values` are the results' registers, and the array stands
still while they are not taken: `results.ready` reaches `weights.ready` in the same cycle.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from amaranth.hdl import Const, Module, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out

from hw.engines.block_schedule import BlockSchedule, Trim, step_layout
from hw.engines.contract import EngineConfig, engine_members
from hw.memory.queue import Queue
from hw.memory.trit_decoder import GroupCode, TritDecoder

__all__ = ["DotConfig", "DotEngine", "array_members", "dot_cycles"]

QUEUE_LATENCY = 2
"""Cycles from a result's entering an empty queue to its being offered."""


class DotConfig(EngineConfig, Protocol):
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
    def trit_code(self) -> tuple[int, int, int] | None:
        """The codes of weights -1, 0 and 1 in `step_weights`, if the weight stream is dense."""

    @property
    def units(self) -> int:
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
    loaded, issued, freed = fill, 0, [0, 0]
    for token in range(tokens):
        loaded = max(loaded, freed[token % 2]) + beats
        start = max(loaded + 3, issued + 1 + (gap if token else 0), issued + pace if token else pace)
        issued = start + (steps - 1) * pace + (blocks - 1) * max(steps * pace, (steps - 1) * pace + 1 + gap)
        freed[token % 2] = issued - 1
    return issued + latency + (QUEUE_LATENCY if config.queue_depth else 0) + 1


class DotEngine(Component):
    """An engine around an array; `hw.engines.contract` documents its ports.

    Parameters
    ----------
    config : DotConfig
    array : Component
        With the ports of `array_members`.
    preload : bool
    passes : sequence of int
    trim : Trim or None
        As in `hw.engines.block_schedule.BlockSchedule`.
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
        weight = config.step_weights if config.trit_code is None else data.ArrayLayout(8, config.units)
        super().__init__(engine_members(config, weight))

    def elaborate(self, platform: object) -> Module:
        """Wire the schedule, the weights, the array and the results together."""
        m = Module()
        m.submodules.schedule = schedule = BlockSchedule(
            self.config, self.config.chunk, self.preload, self.passes, self.trim
        )
        m.submodules.array = array = self.array
        weights, undecodable = self._weights(m)
        take, room = Signal(), self._results(m, take_last := Signal())
        m.d.comb += [
            schedule.jobs.payload.eq(self.jobs.payload),
            schedule.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(schedule.jobs.ready),
            schedule.activations.payload.eq(self.activations.payload),
            schedule.activations.valid.eq(self.activations.valid),
            self.activations.ready.eq(schedule.activations.ready),
            self.fault.eq(schedule.fault | undecodable),
            weights.ready.eq(schedule.steps.valid & array.ready & (room | ~schedule.steps.payload.last)),
            take.eq(weights.ready & weights.valid),
            take_last.eq(take & schedule.steps.payload.last),
            schedule.steps.ready.eq(take),
            array.issue.eq(take),
            array.step.eq(schedule.steps.payload),
            Value.cast(array.weights).eq(Value.cast(weights.payload)),
        ]
        return m

    def _weights(self, m: Module) -> tuple[stream.Interface, Value]:
        """Return the stream of steps of weights, and whether it has had weights without a meaning."""
        config = self.config
        if config.trit_code is None:
            return self.weights, Const(0)
        groups = config.rows * config.activation_lanes
        m.submodules.decoder = decoder = TritDecoder(GroupCode(1, config.trit_code), groups, config.units)
        m.d.comb += [
            decoder.dense.payload.eq(self.weights.payload),
            decoder.dense.valid.eq(self.weights.valid),
            self.weights.ready.eq(decoder.dense.ready),
        ]
        return decoder.blocks, decoder.fault

    def _results(self, m: Module, promised: Signal) -> Value:
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
        m.submodules.queue = queue = Queue(results.payload.shape(), config.queue_depth, style)
        m.d.comb += [
            array.enable.eq(1),
            queue.payload.values.eq(array.values),
            queue.payload.last.eq(array.final),
            queue.write.eq(array.done),
            results.payload.eq(queue.output.payload),
            results.valid.eq(queue.output.valid),
            queue.output.ready.eq(results.ready),
        ]
        room = Signal(range(config.queue_depth + 1), init=config.queue_depth)
        # In a register, to keep the count off the path from the streams: a cycle old, so one place is spare.
        has_room = Signal(init=1)
        m.d.sync += has_room.eq(room > 1)
        with m.If(promised & ~queue.taken):
            m.d.sync += room.eq(room - 1)
        with m.Elif(~promised & queue.taken):
            m.d.sync += room.eq(room + 1)
        return has_room
