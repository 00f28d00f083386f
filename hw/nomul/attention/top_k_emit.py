"""The third part of `nomul.attention.top_k`: from words of chosen lanes to indices."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from nomul.attention.top_k_config import TopKConfig, chosen_layout
from nomul.contract import core_members
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo

__all__ = ["Emitter"]


class Emitter(Component):
    """Keeps the words of a task until `go`, then gives one index a cycle, and `finished` with the last."""

    def __init__(self, config: TopKConfig) -> None:
        self.config = config
        super().__init__(
            {
                "write": In(1),
                "chosen": In(chosen_layout(config)),
                "go": In(1),
                "finished": Out(1),
                "results": core_members(config)["results"],
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take the lowest lane of a mask in each cycle, then number it."""
        m = Module()
        config = self.config
        # Block RAM is too slow for a port whose data are taken at once.
        style = None if config.target == "portable" else "distributed"
        m.submodules.words = words = Fifo(self.chosen.shape(), max(2, config.words_max), style)
        m.submodules.credit = credit = Credit(config.queue)
        going, active, step, word_ends = Signal(), Signal(), Signal(), Signal()
        word = Signal(chosen_layout(config), reset_less=True)
        lowest = Signal(config.lanes)
        m.d.comb += [
            words.payload.eq(self.chosen),
            words.write.eq(self.write),
            step.eq(active & credit.available),
            word_ends.eq(word.more == 0),
            words.output.ready.eq(going & (~active | (step & word_ends))),
            lowest.eq(word.mask & -word.mask),
            self.finished.eq(step & word_ends & ~words.output.valid),
            credit.take.eq(step),
        ]
        with m.If(self.go):
            m.d.sync += going.eq(1)
        with m.Elif(self.finished):
            m.d.sync += going.eq(0)
        with m.If(words.taken):
            m.d.sync += [word.eq(words.output.payload), active.eq(1)]
        with m.Elif(step):
            m.d.sync += [word.mask.eq(word.mask & ~lowest), word.more.eq(word.more - 1), active.eq(~word_ends)]

        hot = Signal(config.lanes, reset_less=True)
        base, base_late = (Signal(config.index_width, name=name, reset_less=True) for name in ("base", "base_late"))
        lane = Signal(range(config.lanes), reset_less=True)
        stepped, final = Signal(2), Signal(2)
        m.d.sync += [
            hot.eq(lowest),
            base.eq(word.base),
            lane.eq(encode(hot)),
            base_late.eq(base),
            stepped.eq(Cat(step, stepped)),
            final.eq(Cat(self.finished, final)),
        ]
        m.submodules.queue = queue = Fifo(self.results.payload.shape(), config.queue)
        m.d.comb += [
            queue.payload["values"][0].eq(base_late + lane),
            queue.payload.last.eq(final[1]),
            queue.write.eq(stepped[1]),
            self.results.payload.eq(queue.output.payload),
            self.results.valid.eq(queue.output.valid),
            queue.output.ready.eq(self.results.ready),
            credit.give.eq(queue.taken),
        ]
        return m


def encode(hot: Value) -> Value:
    """Return the number of the one bit that is set."""
    lanes = len(hot)
    return Cat(
        Cat(hot[lane] for lane in range(lanes) if lane >> bit & 1).any() for bit in range((lanes - 1).bit_length())
    )
