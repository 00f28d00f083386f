"""The second part of `nomul.attention.top_k`: the passes over a bank of scores."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.attention.top_k_config import GROUP, TopKConfig, address_width, chosen_layout, task_layout

__all__ = ["Selector"]


class Selector(Component):
    """Runs the passes over a bank, then sends the words of chosen lanes to the emitter.

    Members `address`, `bank`, `word` read the scores; `posted`, `task`, `taken` take tasks; `write`, `chosen` and,
    behind the last word of a task, `done` go to the emitter, which answers with `finished`.
    """

    def __init__(self, config: TopKConfig) -> None:
        self.config = config
        super().__init__(
            {
                "posted": In(1),
                "task": In(task_layout(config)),
                "taken": Out(1),
                "address": Out(address_width(config)),
                "bank": Out(1),
                "word": In(data.ArrayLayout(config.score_bits, config.lanes)),
                "finished": In(1),
                "write": Out(1),
                "chosen": Out(chosen_layout(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the schedule, the states, the count and the choice."""
        m = Module()
        config = self.config
        delay = Delays(m)
        self.enough = Signal()
        task = Signal(task_layout(config))
        bit = Signal(range(config.score_bits), init=config.score_bits - 1)
        number, wait = Signal.like(task.last), Signal(range(config.gap + 1))
        issue, first_pass, final_pass = Signal(), Signal(), Signal()
        first_word, last_word, emitting = Signal(), Signal(), Signal()
        m.d.comb += [
            self.address.eq(number),
            first_word.eq(number == 0),
            last_word.eq(number == task.last),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [task.eq(self.task), bit.eq(config.score_bits - 1), first_pass.eq(1), final_pass.eq(0)]
                m.d.comb += self.taken.eq(self.posted)
                with m.If(self.posted):
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += issue.eq(1)
                m.d.sync += [number.eq(number + 1), wait.eq(config.gap - 1)]
                with m.If(last_word):
                    m.d.sync += number.eq(0)
                    m.next = "GAP"
            with m.State("GAP"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(final_pass):
                    m.d.sync += self.bank.eq(~self.bank)
                    m.next = "IDLE"
                with m.Elif(wait == 0):
                    m.d.sync += [bit.eq(bit - 1), first_pass.eq(0)]
                    m.next = "PASS"
                    with m.If(bit == 0):
                        m.d.sync += final_pass.eq(1)
                        m.next = "QUIET"
            with m.State("QUIET"), m.If(~emitting):  # the emitter has given the indices of the last task
                m.d.sync += emitting.eq(1)
                m.next = "PASS"
        with m.If(self.finished):
            m.d.sync += emitting.eq(0)

        chosen, survivors = self._states(m, delay, task, bit, number, issue, first_pass, final_pass, last_word)
        groups, before = self._count(m, delay, task, survivors, issue, first_pass, first_word, last_word)
        base, sends, ends = Signal(config.index_width), Signal(), Signal()
        m.d.comb += [
            base.eq(Mux(last_word, task.base, number * config.lanes)),
            sends.eq(issue & final_pass),
            ends.eq(sends & last_word),
        ]
        stage = 6 + config.count_stages
        mask = self._mask(m, delay, chosen, survivors, groups, before)
        count = count_ones(m, "sent", mask, config.count_stages)
        latency = stage + 4 + config.count_stages
        m.d.comb += [
            self.chosen.mask.eq(delay(mask, 1 + config.count_stages)),
            self.chosen.more.eq(count - 1),
            self.chosen.base.eq(delay(base, latency)),
            self.write.eq(delay(sends, latency) & (count != 0)),
            self.done.eq(delay(ends, latency + 1)),
        ]
        return m

    def _states(
        self, m: Module, delay: Delays, task: data.View, bit: Value, number: Value, issue: Value, first_pass: Value,
        final_pass: Value, last_word: Value,
    ) -> tuple[Value, Value]:  # fmt: skip
        """Bring every lane's state forward; return (chosen, survivors with the bit), at stage 5."""
        config = self.config
        lanes = config.lanes
        # In the first pass every valid lane is a survivor, as after a bit that none had.
        state = data.StructLayout({"low": lanes, "high": lanes})
        m.submodules.states = memory = Memory(
            shape=state, depth=max(2, 1 << address_width(config)), init=[], attrs={"no_rw_check": 1}
        )
        write, read = memory.write_port(), memory.read_port(domain="comb")
        # Two registers, so that the scores' memory can be block RAM with its output register.
        read_out, scores = (Signal(self.word.shape(), name=name, reset_less=True) for name in ("read_out", "scores"))
        held, ready, new = (Signal(state, name=name, reset_less=True) for name in ("held", "ready", "new"))
        ones = Signal(lanes, reset_less=True)
        valid = task.valid | (~delay(last_word, 2)).replicate(lanes)
        m.d.comb += read.addr.eq(delay(number, 2))
        m.d.sync += [read_out.eq(self.word), scores.eq(read_out), held.eq(read.data), ready.eq(held)]
        with m.If(delay(first_pass, 2)):
            m.d.sync += [held.high.eq(0), held.low.eq(valid)]
        # The bit is looked up in two steps: of four neighbours one, then of these one.
        index, all_ones = Signal.like(bit), delay(final_pass, 3)
        m.d.comb += index.eq(bit)
        low_index, high_index = delay(index, 2)[:2], delay(index, 3)[2:]
        for lane in range(lanes):
            score = scores[lane]
            fours = Signal(-(-config.score_bits // 4), name=f"fours{lane}", reset_less=True)
            m.d.sync += [
                fours.eq(Cat(score[i : i + 4].bit_select(low_index, 1) for i in range(0, config.score_bits, 4))),
                ones[lane].eq(fours.bit_select(high_index, 1) | all_ones),
            ]
        drop = self.enough & ~delay(first_pass, 4)
        for lane in range(lanes):
            low, high = ready.low[lane], ready.high[lane]
            survives = Mux(drop, high & ~low, low & ~high)
            chosen = high & (low | ~drop)
            m.d.sync += [
                new.high[lane].eq(chosen | (survives & ones[lane])),
                new.low[lane].eq(chosen | (survives & ~ones[lane])),
            ]
        m.d.comb += [write.addr.eq(delay(number, 5)), write.data.eq(new), write.en.eq(delay(issue, 5))]
        return new.high & new.low, new.high & ~new.low

    def _count(
        self, m: Module, delay: Delays, task: data.View, survivors: Value, issue: Value, first_pass: Value,
        first_word: Value, last_word: Value,
    ) -> tuple[list[Value], Value]:  # fmt: skip
        """Count survivors with the bit and decide; return each group's count at stage 6, and `before`.

        `before` is what was wanted, less one, before a word's survivors, at the stage at which the word is counted.
        """
        config = self.config
        groups = [
            count_ones(m, f"group{lane}", survivors[lane : lane + GROUP], 0) for lane in range(0, config.lanes, GROUP)
        ]
        count = add_up(m, "count", groups, config.count_stages)
        stage = 6 + config.count_stages
        # All are the number less one, so that the sign says that there were enough.
        left, wanted, before = (Signal(task.wanted.shape(), name=name) for name in ("left", "wanted", "before"))
        m.d.comb += before.eq(Mux(delay(first_word, stage), wanted, left))
        m.d.sync += left.eq(before - count)
        decides = Signal()
        m.d.sync += decides.eq(delay(issue, stage) & delay(last_word, stage))
        with m.If(decides):
            m.d.sync += self.enough.eq(left < 0)
            with m.If(left >= 0):
                m.d.sync += wanted.eq(left)
        with m.If(delay(first_pass, stage - 1) & delay(issue, stage - 1)):
            m.d.sync += wanted.eq(task.wanted)
        return groups, before

    def _mask(
        self, m: Module, delay: Delays, chosen: Value, survivors: Value, groups: list[Value], before: Value
    ) -> Value:
        """Return the chosen lanes and the oldest survivors that are still wanted, three stages after the count."""
        config = self.config
        stages = config.count_stages
        mask = Signal(config.lanes, name="mask", reset_less=True)
        chosen_late, survivors_late = Signal(config.lanes), Signal(config.lanes)
        m.d.comb += [chosen_late.eq(chosen), survivors_late.eq(survivors)]
        sure, tied = delay(chosen_late, stages + 3), delay(survivors_late, stages + 3)
        for number, _ in enumerate(groups):
            # How many of the group's survivors there is room for.
            older = Signal(range(config.lanes + 1), name=f"older{number}", reset_less=True)
            room = Signal(before.shape(), name=f"room{number}", reset_less=True)
            allowed = Signal(range(GROUP + 1), name=f"allowed{number}", reset_less=True)
            if stages:
                m.d.sync += older.eq(tree(groups[:number]))
            m.d.sync += [
                room.eq(before - (delay(older, stages - 1) if stages else 0)),
                allowed.eq(Mux(room < 0, 0, Mux(room < GROUP, room + 1, GROUP))),
            ]
            for lane in range(number * GROUP, (number + 1) * GROUP):
                rank = ones(tied[number * GROUP : lane])
                m.d.sync += mask[lane].eq(sure[lane] | (tied[lane] & (rank < allowed)))
        return mask


def ones(bits: Value) -> Value:
    """Return the number of ones, as a table of up to four bits."""
    if not len(bits):
        return Const(0, 1)
    return Array(Const(value.bit_count(), range(GROUP + 1)) for value in range(1 << len(bits)))[bits]


def tree(values: list[Value]) -> Value:
    """Return a balanced sum."""
    if not values:
        return Const(0, 1)
    if len(values) == 1:
        return values[0]
    return tree(values[: len(values) // 2]) + tree(values[len(values) // 2 :])


def add_up(m: Module, name: str, values: list[Value], stages: int) -> Value:
    """Return the sum of values, four to a register, after so many stages."""
    for stage in range(stages):
        above: list[Value] = []
        for number in range(0, len(values), 4):
            part = tree(values[number : number + 4])
            total = Signal(part.shape(), name=f"{name}{stage}_{number // 4}", reset_less=True)
            m.d.sync += total.eq(part)
            above.append(total)
        values = above
    (total,) = values
    return total


def count_ones(m: Module, name: str, bits: Value, stages: int) -> Value:
    """Return the number of ones: groups of four in one stage, then `stages` of their sums."""
    groups: list[Value] = []
    for lane in range(0, len(bits), GROUP):
        group = Signal(range(GROUP + 1), name=f"{name}_ones{lane // GROUP}", reset_less=True)
        m.d.sync += group.eq(ones(bits[lane : lane + GROUP]))
        groups.append(group)
    return add_up(m, name, groups, stages)
