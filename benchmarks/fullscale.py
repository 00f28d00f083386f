"""The machine at full scale: BitNet 0.73B's shape, one decoded token at context 512, and a prompt of 64, in RTL.

    python -m benchmarks.fullscale FILE [SHAPE]

Random weights stand for a checkpoint: cycles do not depend on them, and the logits are compared with the integer model
all the same. It takes minutes to build and an hour or more to simulate; what is measured is kept in FILE.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import Figure, measure
from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.golden.attention import KVCache
from nomul.machines import SHAPES
from nomul.model.integer import IntegerModel
from nomul.model.random_model import random_integer_model
from nomul.model.transformer import TransformerConfig
from nomul.sim.accelerator import build_machine, run_jobs, write_dram
from nomul.sim.dram import DramConfig

CLOCK = 250e6
"""Hertz."""

BYTES_PER_CYCLE = 68.4
"""17.1 GB/s at that clock: the DDR4 of a KV260."""

HEAD_MOST = 121
"""Five ternary digits reach +-121; a head on this grid moves 8 bits a weight."""

DRAM = DramConfig(
    read_latency=60, refresh_every=1950, refresh_cycles=90, outstanding=16, rate_bytes=684, rate_cycles=10
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """A size of the benchmark."""

    machine: dict[str, Any]
    settings: tuple[str, ...]
    context: int
    prompt: int


SIZES = {
    "bitnet-0.73b": Scale(
        {"lanes": 16, "tile": 16, "memory": "axi", "ring": 4096, "ports": 3, "port_bits": 256},
        ("tables=28", "fill_units=14"), 512, 64,
    ),
    "tiny": Scale(
        {"lanes": 8, "tile": 8, "memory": "axi", "ring": 512, "ports": 2, "port_bits": 128},
        ("tables=9", "fill_units=9"), 100, 20,
    ),
}  # fmt: skip
"""The real one, and a small one that shows in a minute that all of it works."""


class Bench:
    """A model, its machine, and what was simulated."""

    def __init__(self, name: str) -> None:
        sizes, vocabulary = SHAPES[name]
        self.size = SIZES[name]
        self.model: IntegerModel = random_integer_model(TransformerConfig(vocabulary, linear="ternary", **sizes))
        self.model.head = self.model.head.clamp(-HEAD_MOST, HEAD_MOST)
        self.config: AcceleratorConfig = machine_config(self.model, "tlmm", self.size.settings, **self.size.machine)
        self.runs: dict[str, dict[str, Any]] = {}

    def caches(self, length: int) -> list[KVCache]:
        """Return the cache of a text of random keys and values."""
        random = torch.Generator().manual_seed(3)
        caches = self.model.caches()
        for cache in caches:
            cache.length = length
            for codes in (cache.keys, cache.values):
                codes[:, :, :length] = torch.randint(-127, 128, codes[:, :, :length].shape, generator=random).to(
                    torch.int8
                )
            for scales in (cache.key_scales, cache.value_scales):
                scales[:, :, :length] = torch.randint(2000, 9000, scales[:, :, :length].shape, generator=random).int()
        return caches

    def run(self, name: str, prompt: list[int], tokens: int, position: int) -> dict[str, Any]:
        """Simulate a job once; its tokens must be the integer model's."""
        if name not in self.runs:
            caches = self.caches(position)
            with tempfile.TemporaryDirectory(prefix="nomul-fullscale-") as folder:
                image = Path(folder) / "image.bin"
                write_dram(self.model, self.config, image, caches)
                job = {"prompt": prompt, "tokens": tokens, "position": position, "timeout": 1 << 32}
                simulator = build_machine(self.config, DRAM)
                said = run_jobs(simulator, self.model, self.config, [job], Path(folder), image=image.read_bytes())
            expected, step = [], torch.tensor([prompt])
            for _ in range(tokens):
                values, _ = self.model.forward(step, caches)
                expected.append(int(values[0, -1].argmax()))
                step = torch.tensor([expected[-1:]])
            (outcome,) = said["jobs"]
            if outcome["tokens"] != expected or said["violation"]:
                raise AssertionError(f"{name}: the machine says {outcome}, the integer model {expected}")
            self.runs[name] = {**said, **outcome}
        return self.runs[name]

    def decode(self) -> float:
        """Return the cycles of the second of two tokens, the first at the context: the weights come without a pause."""
        first, second = self.run("decode", [1], 2, self.size.context - 1)["cycles"]
        return float(second - first)

    def decode_share(self) -> float:
        """Return the share of the memory's bandwidth that decoding uses."""
        said = self.run("decode", [1], 2, self.size.context - 1)
        moved = (said["read_beats"] + said["write_beats"]) * self.config.port_bits / 8
        return moved / (BYTES_PER_CYCLE * said["cycles"][-1])

    def prefill(self) -> float:
        """Return the cycles of a prompt, to the first token."""
        random = torch.Generator().manual_seed(4)
        prompt = torch.randint(self.config.shape.vocabulary, (self.size.prompt,), generator=random).tolist()
        return float(self.run("prefill", prompt, 1, 0)["cycles"][0])


def figures(bench: Bench, bars: bool) -> list[Figure]:
    """Return the figures; bars are those of full scale."""
    size = bench.size
    return [
        Figure(f"decode at context {size.context}, tokens a second at 250 MHz and 17.1 GB/s",
               lambda: CLOCK / bench.decode(), least=60 if bars else None),
        Figure("share of the memory's bandwidth in decode", bench.decode_share, least=0.85 if bars else None),
        Figure(f"prompt of {size.prompt}, tokens a second", lambda: size.prompt * CLOCK / bench.prefill(),
               least=350 if bars else None),
    ]  # fmt: skip


def main(file: str, name: str = "bitnet-0.73b") -> None:
    """Measure, and exit with 1 if a bar is missed."""
    bench = Bench(name)
    if not measure(figures(bench, name == "bitnet-0.73b"), Path(file)):
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
