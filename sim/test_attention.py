"""Benches of attention with its cache: RTL against the golden function."""

import dataclasses
import functools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from amaranth.hdl import Module, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Member, Out
from torch import Tensor

from nomul.attention.attention import Attention
from nomul.attention.attention_config import UNIT_CYCLES, AttentionConfig
from nomul.attention.outputs import result_layout
from nomul.export.rtlil import verilog
from nomul.golden.attention import KVCache, attend
from nomul.golden.scale import Scale, constant
from nomul.memory.kv_cache import KvCache, write_layout
from nomul.sim.runner import Simulator, build
from nomul.vector.scale import SCALE

CONFIGS = {
    "small": AttentionConfig(head_dim=8, context=16, lanes=4, layers=2, kv_heads=3),
    "large": AttentionConfig(head_dim=32, context=256, lanes=8, kv_heads=4),
    "group": AttentionConfig(head_dim=8, context=16, lanes=4, kv_heads=6, queries=3),
}
OUTPUT_UNIT = constant(8 / (255 * 127))


class Bench(Component):
    """Attention and a cache; `hold` keeps the rows from it."""

    def __init__(self, config: AttentionConfig, more: dict[str, Member] | None = None) -> None:
        self.config = config
        writes = write_layout(config.layers, config.kv_heads, config.context, config.head_dim)
        super().__init__(
            {
                "writes": In(stream.Signature(writes)),
                "jobs": In(stream.Signature(config.job_layout)),
                "queries": In(stream.Signature(data.ArrayLayout(signed(8), config.head_dim))),
                "output_unit": In(SCALE),
                "hold": In(1),
                "results": Out(stream.Signature(result_layout(config))),
            }
            | (more or {})
        )

    def cache(self, m: Module) -> Component:
        """Build the cache."""
        config = self.config
        m.submodules.cache = cache = KvCache(config.layers, config.kv_heads, config.context, config.head_dim)
        return cache

    def elaborate(self, platform: object) -> Module:
        """Wire them together."""
        m = Module()
        config, cache = self.config, self.cache(m)
        m.submodules.attention = attention = Attention(config)
        m.d.comb += [
            attention.output_unit.eq(self.output_unit),
            attention.rows.payload.eq(cache.rows.payload),
            attention.rows.valid.eq(cache.rows.valid & ~self.hold),
            cache.rows.ready.eq(attention.rows.ready & ~self.hold),
        ]
        for source, sink in (
            (self.writes, cache.writes),
            (self.jobs, attention.jobs),
            (self.queries, attention.queries),
            (attention.reads, cache.reads),
            (attention.results, self.results),
        ):
            m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid), source.ready.eq(sink.ready)]
        return m


def pack(layout: data.StructLayout, **fields: int | list[int]) -> str:
    """Return a payload in hexadecimal; lists are codes of a byte each."""
    word = 0
    for name, value in fields.items():
        field = layout[name]
        if isinstance(value, list):
            value = int.from_bytes(bytes(code & 0xFF for code in value), "little")
        word |= (value & (1 << field.width) - 1) << field.offset
    return f"{word:x}"


def pack_scale(mantissa: int, exponent: int) -> int:
    """Return a scale as a number."""
    return int(pack(SCALE, mantissa=mantissa, exponent=exponent), 16)


@dataclasses.dataclass
class Job:
    """One query: where it looks, how far (0: not at all), its codes, the scale of its scores."""

    layer: int
    head: int
    length: int
    query: list[int]
    mantissa: int
    exponent: int


@dataclasses.dataclass
class Memory:
    """Keys and values `[layers, kv_heads, context, head_dim]` and their scales."""

    keys: Tensor
    key_scales: Tensor
    values: Tensor
    value_scales: Tensor

    @classmethod
    def random(cls, config: AttentionConfig, seed: int) -> "Memory":
        """Return rows of random codes and scales."""
        dice = torch.Generator().manual_seed(seed)
        shape = (config.layers, config.kv_heads, config.context)

        def draw(low: int, high: int, *more: int) -> Tensor:
            return torch.randint(low, high, (*shape, *more), generator=dice)

        codes = [draw(-127, 128, config.head_dim) for _ in range(2)]
        return cls(codes[0], draw(0, 65536), codes[1], draw(0, 65536))

    def writes(self, config: AttentionConfig) -> list[str]:
        """Return the writes of all rows, in a random order."""
        layout = write_layout(config.layers, config.kv_heads, config.context, config.head_dim)
        rows = []
        for values, codes, scales in ((0, self.keys, self.key_scales), (1, self.values, self.value_scales)):
            for place in torch.ones(scales.shape).nonzero().tolist():
                layer, head, token = place
                row: dict[str, Any] = {
                    "codes": codes[layer, head, token].tolist(),
                    "scale": int(scales[layer, head, token]),
                }
                rows.append(pack(layout, values=values, layer=layer, head=head, token=token, **row))
        random.Random(1).shuffle(rows)
        return rows

    def attend(self, job: Job) -> list[int]:
        """Return the golden output of a job."""
        keys, key_scales, values, value_scales = (
            tensor[job.layer, job.head, : job.length][None, None]
            for tensor in (self.keys, self.key_scales, self.values, self.value_scales)
        )
        cache = KVCache(keys, key_scales, values, value_scales, job.length)
        query = torch.tensor(job.query).view(1, 1, 1, -1)
        scale = Scale(torch.full((1, 1, 1), job.mantissa), torch.full((1, 1, 1), job.exponent))
        return attend(query, scale, OUTPUT_UNIT, cache)["output"].flatten().tolist()


def pack_group(config: AttentionConfig, jobs: list[Job]) -> str:
    """Return the payload of jobs that share their rows."""
    layout, first = config.job_layout, jobs[0]
    assert {(job.layer, job.head) for job in jobs} == {(first.layer, first.head)}
    scales = [pack_scale(job.mantissa, job.exponent) for job in jobs]
    if config.queries == 1:
        own = {"query_scale": scales[0]}
    else:
        own = {"lengths": 0, "query_scales": 0}
        for number, (job, scale) in enumerate(zip(jobs, scales, strict=True)):
            own["lengths"] |= job.length << number * config.length_bits
            own["query_scales"] |= scale << number * SCALE.size
    longest = max(job.length for job in jobs)
    return pack(layout, layer=first.layer, head=first.head, length=longest, **own)


@functools.cache
def built(config: AttentionConfig, simulator: str) -> Simulator:
    return build(verilog(Bench(config), "attention"), "attention", simulator)


def run(
    config: AttentionConfig,
    simulator: str | Simulator,
    memory: Memory,
    jobs: list[Job],
    seed: int = 0,
    folder: Path | None = None,
    **settings: Any,
) -> list[list[int]]:
    """Run jobs, compare every element of every output, and return the cycles of taken jobs and of last results.

    So many in a row as the unit has query elements are one job of it: they look at the same place.
    """
    case: dict[str, Any] = {"stall": 0.0, "hold": 0.0, "refuse": 0.0, "resets": [], "seed": seed, **settings}
    wanted = [job for job in jobs if job.length]
    case |= {
        "writes": memory.writes(config),
        "jobs": [pack_group(config, jobs[i : i + config.queries]) for i in range(0, len(jobs), config.queries)],
        "queries": [bytes(code & 0xFF for code in reversed(job.query)).hex() for job in jobs],
        "output_unit": f"{pack_scale(int(OUTPUT_UNIT.mantissa), int(OUTPUT_UNIT.exponent)):x}",
        "results": len(wanted) * config.transfers,
        "limit": 4000 + 100 * sum(20 + job.length for job in jobs),
    }  # fmt: skip
    built_one = built(config, simulator) if isinstance(simulator, str) else simulator
    said = built_one.run("nomul.sim.attention_bench", case, folder=folder)
    assert not said.get("violation"), "a rule of AXI was broken, or a memory error was answered"
    words = [int(text, 16) for text in said["results"]]
    assert len(words) == case["results"], f"{len(words)} transfers came, not {case['results']}; seed {seed}"
    for number, job in enumerate(wanted):
        got = []
        for transfer in range(config.transfers):
            word = words[number * config.transfers + transfer]
            assert word >> 20 * config.lanes == (transfer == config.transfers - 1), (number, transfer)
            fields = [word >> 20 * lane & 0xFFFFF for lane in range(config.lanes)]
            got += [field - (field >> 19 << 20) for field in fields]
        assert got == memory.attend(job), f"job {number}: {job}; seed {seed}"
    return [said["taken"], said["cycles"][config.transfers - 1 :: config.transfers]]


def random_jobs(config: AttentionConfig, count: int, seed: int, longest: int | None = None) -> list[Job]:
    """Return jobs of random places and lengths; their scores range from all equal to saturated.

    A group's lengths are those of tokens in a row, as far as the context goes, or equal, or random.
    """
    dice = random.Random(seed)
    top = min(longest or config.context, config.context)
    jobs: list[Job] = []
    while len(jobs) < count * config.queries:
        layer, head = dice.randrange(config.layers), dice.randrange(config.kv_heads)
        length = min(dice.choice((1, 2, config.context, dice.randint(1, config.context))), top)
        step = dice.choice((0, 1, None))
        for i in range(config.queries):
            own = length if not i else dice.randint(0, top) if step is None else length + step * i
            mantissa = dice.choice((0, 32768, 65535, dice.randint(32768, 65535)))
            exponent = dice.choice((0, 3, -60, *[-dice.randint(24, 44)] * 5)) if mantissa else 0
            query = [dice.randint(-127, 127) for _ in range(config.head_dim)]
            jobs.append(Job(layer, head, own if own <= top else 0, query, mantissa, exponent))
    return jobs


def corner_memory(config: AttentionConfig) -> Memory:
    """Return a memory of special heads: random; zero; extreme codes and scales; one key and value above all others."""
    memory = Memory.random(config, 3)
    places = [(layer, head) for layer in range(config.layers) for head in range(config.kv_heads)]
    (zero, extreme, huge) = places[1:4]
    for tensor in (memory.keys, memory.key_scales, memory.values, memory.value_scales):
        tensor[zero] = 0
    for codes in (memory.keys, memory.values):
        codes[extreme] = 127 * (codes[extreme] > 0) - 127 * (codes[extreme] <= 0)
        codes[huge] = 1
        codes[huge][config.context // 3] = 127
    memory.key_scales[extreme], memory.value_scales[extreme] = 65535, 65535
    memory.key_scales[huge], memory.value_scales[huge] = 1, 1
    memory.key_scales[huge][config.context // 3], memory.value_scales[huge][config.context // 3] = 65535, 65535
    return memory


def corner_jobs(config: AttentionConfig) -> list[Job]:
    """Return jobs at every head with queries of zeros, ones and extremes, and scales from 0 to saturation."""
    jobs: list[list[Job]] = []
    extremes = [127 if i % 3 else -127 for i in range(config.head_dim)]
    for layer in range(config.layers):
        for head in range(config.kv_heads):
            for query in ([0] * config.head_dim, [1] * config.head_dim, [127] * config.head_dim, extremes):
                for length in (1, config.context // 3, config.context // 3 + 1, config.context):
                    for mantissa, exponent in ((0, 0), (65535, -32), (40000, -46), (65535, 511), (32768, -512)):
                        jobs.append([Job(layer, head, length, query, mantissa, exponent)] * config.queries)
    random.Random(5).shuffle(jobs)
    return [job for group in jobs[:: max(1, len(jobs) * config.context // 25600)] for job in group]


@pytest.mark.bench
@pytest.mark.parametrize("name", CONFIGS)
class TestAttention:
    def test_random_jobs(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        run(config, simulator_name, Memory.random(config, 1), random_jobs(config, 60, 1))

    def test_corners(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        run(config, simulator_name, corner_memory(config), corner_jobs(config), hold=0.1)

    @pytest.mark.parametrize(("stall", "hold", "refuse"), [(0.5, 0.0, 0.5), (0.0, 0.5, 0.0), (0.0, 0.1, 0.93)])
    def test_stalls_change_nothing(
        self, name: str, stall: float, hold: float, refuse: float, simulator_name: str
    ) -> None:
        config = CONFIGS[name]
        jobs = random_jobs(config, 40, 2, 40 if stall or hold > 0.1 else 3)
        run(config, simulator_name, Memory.random(config, 2), jobs, seed=2, stall=stall, hold=hold, refuse=refuse)

    def test_many_short_jobs(self, name: str, simulator_name: str) -> None:
        """The first tokens of prompts: the queues between the passes fill with jobs."""
        config = CONFIGS[name]
        run(config, simulator_name, Memory.random(config, 4), random_jobs(config, 200, 4, 3), seed=4)

    def test_reset_in_mid_flight(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        dice = random.Random(6)
        resets = [dice.randint(1, 400) for _ in range(12)]
        run(config, simulator_name, Memory.random(config, 5), random_jobs(config, 20, 5), resets=resets, hold=0.2)


@pytest.mark.bench
@pytest.mark.parametrize("field", ["keys", "values"])
def test_a_wrong_expectation_is_found(field: str, simulator_name: str) -> None:
    """That of keys or values of one token that differ by one is not met."""
    config = CONFIGS["small"]
    memory, other = Memory.random(config, 6), Memory.random(config, 6)
    getattr(other, field)[0, 0, 1] += 1
    memory.attend = other.attend  # type: ignore[method-assign]
    job = Job(0, 0, 3, [1, 127] * (config.head_dim // 2), 65535, -37)
    with pytest.raises(AssertionError, match="job 0"):
        run(config, simulator_name, memory, [job])


def plain_jobs(config: AttentionConfig, length: int, count: int) -> list[Job]:
    """Return equal jobs."""
    return [Job(0, 0, length, [i % 7 - 3 for i in range(config.head_dim)], 40000, -36)] * count * config.queries


@pytest.mark.bench
@pytest.mark.parametrize("name", ["small", "large"])
class TestCycles:
    def test_alone(self, name: str, simulator_name: str) -> None:
        config = CONFIGS[name]
        for length in {1, UNIT_CYCLES, config.context}:
            if length <= config.context:
                ((taken,), (done,)) = run(
                    config, simulator_name, Memory.random(config, 7), plain_jobs(config, length, 1)
                )
                cycles, model = done - taken + 1, 3 * length + config.overhead
                assert model <= cycles <= model + (UNIT_CYCLES if length < UNIT_CYCLES else 0)

    def test_in_a_stream(self, name: str, simulator_name: str) -> None:
        """The rows are the bound, or the unit of sums."""
        config = CONFIGS[name]
        for length in {1, config.context // 2, config.context}:
            taken, done = run(config, simulator_name, Memory.random(config, 7), plain_jobs(config, length, 12))
            bound = max(2 * length, UNIT_CYCLES)
            assert done[-1] - taken[0] + 1 <= 12 * bound + config.overhead + UNIT_CYCLES
            if 2 * length >= UNIT_CYCLES:
                assert 24 * length < done[-1] - taken[0] + 1 < 24 * length + config.overhead + UNIT_CYCLES
