"""Shapes of language models, and devices: what `nomul explore` is asked about."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from nomul.errors import InputError
from nomul.fpga.targets import TARGETS
from nomul.names import canonical

__all__ = ["DEVICES", "SHAPES", "Device", "Shape", "find_device"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder-only transformer as an engine sees it: its projections."""

    name: str
    layers: int
    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    source: str
    """Where the numbers come from."""
    arithmetic: str = "ternary"
    """Of the projections: ternary x INT8, binary x ternary (`bwta`), or INT4 x INT8 (`mixpe`)."""
    context: int | None = None
    """The most tokens that it was made for; None where that is not known."""

    @functools.cached_property
    def matrices(self) -> Counter[tuple[int, int]]:
        """How many matrices of each (n_out, n_in) a token passes."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = [(queries, self.width), (keys, self.width), (keys, self.width), (self.width, queries)]
        layer += [(self.ffn, self.width), (self.ffn, self.width), (self.width, self.ffn)]
        return Counter({size: count * self.layers for size, count in Counter(layer).items()})

    @property
    def weights(self) -> int:
        """Weights of all projections."""
        return sum(n_out * n_in * count for (n_out, n_in), count in self.matrices.items())

    @functools.cached_property
    def n_in_max(self) -> int:
        """Longest reduction."""
        return max(n_in for _, n_in in self.matrices)

    @functools.cached_property
    def n_out_max(self) -> int:
        """Longest output."""
        return max(n_out for n_out, _ in self.matrices)

    @property
    def head_bits(self) -> int:
        """Bits of the LM head, eight for a weight (`docs/numerics.md`)."""
        return 8 * self.vocabulary * self.width

    def cache_bits(self, context: int) -> int:
        """Return the bits of keys and values, eight each, of so many tokens."""
        return 8 * 2 * self.layers * self.kv_heads * self.head_dim * context


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "bitnet-0.73b", 24, 1536, 4096, 16, 16, 96, 32002,
            "1bitLLM/bitnet_b1_58-large as TeLLMe v2's release runs it (github.com/UCI-CORSA/TeLLMe_FPGA_2026, "
            "config.hpp)", context=2048,
        ),
        Shape(
            "bitnet-2b-4t", 30, 2560, 6912, 20, 5, 128, 128256,
            "microsoft/bitnet-b1.58-2B-4T, config.json; technical report arXiv 2504.12285",
            context=4096,
        ),
        Shape(
            "bitnet-3b", 26, 3200, 8640, 32, 32, 100, 32002,
            "1bitLLM/bitnet_b1_58-3B, whose shape is LLaMA-3B's; the one that VitaLLM (arXiv 2604.27396) reports on",
            context=2048,
        ),
    )
}  # fmt: skip
"""The published models by name (`nomul.commands.shapes` adds the committed ones)."""


@dataclasses.dataclass(frozen=True)
class Device:
    """What a design has to fit: a board, or a library of standard cells."""

    name: str
    target: str
    """A name of `nomul.fpga.targets.TARGETS`, or 'cells'."""
    resources: Mapping[str, float]
    """What it has; nothing for a library."""
    clock_mhz: float
    """Assumed unless another is given."""
    bandwidth: float | None
    """Peak of its external memory in GB/s; None where it is not known."""
    memory_mib: float | None
    """Size of its external memory."""
    block_bits: Mapping[str, int]
    """Bits of a block memory, by the name of its resource."""
    source: str
    """Where the numbers come from."""
    liberty: Path | None = None
    """The library's file."""

    @property
    def on_chip_bits(self) -> int:
        """Bits of all block memories."""
        return self.usable_bits(self.resources)

    def usable_bits(self, budget: Mapping[str, float]) -> int:
        """Return the bits of the block memories that a budget leaves; a resource that it does not name is all there."""
        most = {name: min(budget.get(name, have), have) for name, have in self.resources.items()}
        return int(sum(most[name] * bits for name, bits in self.block_bits.items()))


DEVICES = {
    device.name: device
    for device in (
        Device(
            "kv260", "xcup", {"lut": 117120, "ff": 234240, "bram": 144, "uram": 64, "dsp": 1248}, 250, 17.1, 4096,
            {"bram": 36864, "uram": 294912},
            "AMD DS987 (XCK26); 17.1 GB/s and 250 MHz as in TeLLMe v2 (arXiv 2510.15926)",
        ),
        Device(
            "ulx3s", "ecp5", {"lut": 83640, "ff": 83640, "bram": 208, "dsp": 156}, 100, 0.266, 32,
            {"bram": 18432},
            "Lattice FPGA-DS-02012 (LFE5U-85F); SDRAM of 16 bits, here at 133 MHz",
        ),
        Device(
            "icebreaker", "ice40", {"lut": 5280, "ff": 5280, "bram": 30, "uram": 4, "dsp": 8}, 24, 0.0165, 16,
            {"bram": 4096, "uram": 262144},
            "Lattice FPGA-DS-02008 (iCE40UP5K); flash of 128 Mbit, four bits at 33 MHz",
        ),
        Device(
            "tang_nano_20k", "gowin", {"lut": 20736, "ff": 15552, "bram": 46, "dsp": 48}, 80, 0.664, 8,
            {"bram": 18432},
            "Gowin DS226 (GW2AR-18); SDRAM of 32 bits in the package, here at 166 MHz",
        ),
    )
}  # fmt: skip
"""Boards by name."""

CELLS_CLOCK = 500.0
"""Assumed clock of standard cells in MHz."""


def find_device(name: str) -> Device:
    """Return the board, the target's board, or the library of that name or file.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if (board := canonical(name, DEVICES)) in DEVICES:
        return DEVICES[board]
    family = canonical(name, (*TARGETS, "cells"))
    for device in DEVICES.values():
        if family == device.target:
            return device
    if family == "cells":
        return Device(
            "generic cells", "cells", {}, CELLS_CLOCK, None, None, {}, "nomul.asic.gate_library: gate equivalents"
        )
    path = Path(name)
    if path.is_file():
        stem = path.name.partition(".")[0]
        return Device(stem, "cells", {}, CELLS_CLOCK, None, None, {}, f"the library {path.name}", path)
    boards = ", ".join(device.name for device in DEVICES.values())
    families = ", ".join(target for target in TARGETS if any(d.target == target for d in DEVICES.values()))
    raise InputError(
        f"target '{name}' is unknown; choose a board ({boards}), a family ({families}), cells, or a Liberty file"
    )
