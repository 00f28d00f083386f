# amaranth: UnusedElaboratable=no
"""The cache of keys and values in DRAM: attention over it against the golden function, as over block memory."""

import dataclasses
import functools
import random
from typing import Any

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, Out

from nomul.attention.attention_config import UNIT_CYCLES, AttentionConfig
from nomul.memory.kv_dram import KvDram, KvLayout
from nomul.memory.striped import StripedReader, StripedWriter
from nomul.sim.dram import Dram, DramConfig, attach, verilog_with_dram
from nomul.sim.runner import Simulator, build
from sim.test_attention import Bench, Memory, plain_jobs, random_jobs, run


@dataclasses.dataclass(frozen=True)
class Setup:
    """Attention, and the memory of its cache."""

    config: AttentionConfig
    ports: int
    port_bits: int
    base: int
    """First word of the cache."""

    @property
    def layout(self) -> KvLayout:
        config = self.config
        word = self.ports * self.port_bits
        return KvLayout(config.layers, config.kv_heads, config.context, config.head_dim, word)


SETUPS = {
    # A row in two words; three tokens in a block.
    "two words": Setup(AttentionConfig(head_dim=16, context=20, lanes=4, layers=2, kv_heads=3), 3, 32, 1),
    # As at full scale: a row in a word, blocks that are no power of two.
    "one word": Setup(AttentionConfig(head_dim=24, context=128, lanes=8), 3, 64, 77),
}


class DramBench(Bench):
    """The bench of attention with its cache in DRAM, whose channels wait while `hold` is up."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        super().__init__(setup.config, {"violation": Out(1)})

    def cache(self, m: Module) -> Component:
        """Build the cache with its memory."""
        setup, config = self.setup, self.config
        place = (setup.ports, setup.port_bits, 18)
        sizes = (config.layers, config.kv_heads, config.context, config.head_dim)
        m.submodules.cache = cache = KvDram(*sizes, *place)
        m.submodules.reader = reader = StripedReader(*place, clients=1, burst=8, depth=64)
        m.submodules.writer = writer = StripedWriter(*place, outstanding=4)
        memory = DramConfig(setup.ports, setup.port_bits, 18, 1 << 18, read_latency=30, write_latency=80)
        m.submodules.dram = dram = Dram(memory)
        attach(m, dram, reader, writer)
        for source, sink in (
            (cache.commands, reader.commands[0]),
            (reader.words[0], cache.words),
            (cache.stores, writer.writes),
        ):
            m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        wrong = Signal()
        m.d.sync += wrong.eq(wrong | dram.violation | reader.error | writer.error)
        m.d.comb += [
            cache.base.eq(setup.base),
            cache.stores_idle.eq(writer.idle),
            dram.stall.eq(Mux(self.hold, 220, 0)),
            self.violation.eq(wrong),
        ]
        for port in range(setup.ports):
            # The stripes lie at different places.
            base = 4096 * (16 * port + 1)
            m.d.comb += [reader.bases[port].eq(base), writer.bases[port].eq(base)]
        return cache


@functools.cache
def built(name: str, simulator: str) -> Simulator:
    return build(verilog_with_dram(DramBench(SETUPS[name]), "attention_dram"), "attention_dram", simulator)


@pytest.mark.bench
@pytest.mark.parametrize("name", SETUPS)
class TestAttentionOverDram:
    def test_random_jobs(self, name: str, simulator_name: str) -> None:
        config = SETUPS[name].config
        run(config, built(name, simulator_name), Memory.random(config, 1), random_jobs(config, 30, 1))

    def test_stalls_change_nothing(self, name: str, simulator_name: str) -> None:
        config = SETUPS[name].config
        jobs = random_jobs(config, 15, 2, 40)
        run(config, built(name, simulator_name), Memory.random(config, 2), jobs, seed=2, stall=0.3, hold=0.5)

    def test_reset_in_mid_flight(self, name: str, simulator_name: str) -> None:
        config = SETUPS[name].config
        dice = random.Random(6)
        settings: dict[str, Any] = {"resets": [dice.randint(1, 200) for _ in range(10)], "hold": 0.2, "settle": 2000}
        run(config, built(name, simulator_name), Memory.random(config, 5), random_jobs(config, 10, 5), **settings)


@pytest.mark.bench
def test_reads_see_all_writes_before_them(simulator_name: str) -> None:
    """The job comes at once, while writes wait and are under way."""
    config = SETUPS["one word"].config
    run(config, built("one word", simulator_name), Memory.random(config, 8), plain_jobs(config, config.context, 1))


@pytest.mark.bench
def test_rows_come_at_the_rate_of_the_bus(simulator_name: str) -> None:
    """A word a cycle: the rows of keys and values, and a word of scales for every six tokens."""
    setup = SETUPS["one word"]
    length = setup.config.context
    jobs = plain_jobs(setup.config, length, 8)
    memory = Memory.random(setup.config, 7)
    taken, done = run(setup.config, built("one word", simulator_name), memory, jobs, settle=2000)
    words = 8 * (2 * length + -(-length // 6))
    assert words < done[-1] - taken[0] + 1 < words + setup.config.overhead + UNIT_CYCLES + 30 + 16


def test_refused() -> None:
    for wrong, message in [
        ((1, 1, 16, 0, 1, 64, 32), "head_dim is 0"),
        ((0, 1, 16, 8, 1, 64, 32), "layers is 0"),
        ((1, 1, 2000, 8, 1, 64, 13), "KvDram has 5000 words; allowed: 1024"),
        ((1, 1, 16, 8, 1, 64, 32, 2), "reads_most is 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            KvDram(*wrong)
