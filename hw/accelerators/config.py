"""The configuration of a machine: a model's shape, an engine for its projections, and how wide the rest is."""

import dataclasses
import enum
import functools
from typing import Any

from hw.accelerators.shape import ModelShape
from hw.config import refuse
from hw.engines import ENGINES

__all__ = ["ACCELERATOR_ENGINES", "CODE_BITS", "MEMORIES", "WORD_BITS", "AcceleratorConfig", "Projection"]

CODE_BITS = 8
"""Width of a code."""

WORD_BITS = 20
"""Width of a word: residual stream, attention output, gated hidden vector (docs/numerics.md)."""

MEMORIES = ("block", "axi")

ACCELERATOR_ENGINES = ("tlmm", "tint", "boothflex")


class Projection(enum.IntEnum):
    """The matrices of a pass, in order: four in each layer, and one at the end."""

    QKV = 0
    """Queries, keys and values of a head, one head after the other."""
    OUT = 1
    """Of attention."""
    GATE_UP = 2
    """A transfer of the gate projection, then one of the up projection, and so on."""
    DOWN = 3
    HEAD = 4
    """The ternary digits of the LM head, highest first, of `lanes` tokens after `lanes` tokens."""


@dataclasses.dataclass(frozen=True)
class AcceleratorConfig:
    """Configuration of `hw.accelerators.machine.Machine`.

    Parameters
    ----------
    shape : ModelShape
    engine : str
        Engine of the projections: tlmm, tint or boothflex.
    lanes : int
        Elements of vectors that are worked on in a cycle, and rows of the engine. Even; divides head_dim, width and
        ffn.
    tile : int
        Prompt tokens that share each matrix.
    settings : tuple of (str, value)
        Further fields of the engine's configuration.
    memory : str
        Where weights, keys, values and parameters are: in block memory, or behind AXI4 ports.
    ring : int
        Transfers of weights that wait on the chip (memory axi). A matrix of which more than half the ring would be
        needed is cut into chunks of rows, so that one is loaded while the tokens of a tile use another.
    ports, port_bits : int
        AXI4 ports, over which every word of memory is striped, and the width of each (memory axi).
    steps : tuple of int
        Phase of rotary embedding for one position, a number of 32 bits for each pair of a head.
    trace : bool
        Whether the simulated machine writes what it computes to files (`hw.accelerators.trace`).

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    shape: ModelShape
    engine: str = "tlmm"
    lanes: int = 8
    tile: int = 8
    settings: tuple[tuple[str, Any], ...] = ()
    memory: str = "block"
    ring: int = 1024
    ports: int = 1
    port_bits: int = 128
    steps: tuple[int, ...] = ()
    trace: bool = False

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        shape = self.shape
        if self.engine not in ACCELERATOR_ENGINES:
            refuse(self, "engine", ", ".join(ACCELERATOR_ENGINES))
        if self.lanes < 2 or self.lanes % 2:
            refuse(self, "lanes", "an even number from 2 up")
        for name in ("head_dim", "width", "ffn"):
            if getattr(shape, name) % self.lanes:
                refuse(self, "lanes", f"a divisor of head_dim, width and ffn; {name} is {getattr(shape, name)}")
        if self.memory not in MEMORIES:
            refuse(self, "memory", ", ".join(MEMORIES))
        if not 1 <= self.ports <= 16:
            refuse(self, "ports", "1 to 16")
        if self.port_bits not in (32, 64, 128, 256, 512):
            refuse(self, "port_bits", "32, 64, 128, 256, 512")
        if not 1 <= self.tile <= shape.context:
            refuse(self, "tile", f"1 to the context, {shape.context}")
        if len(self.steps) != shape.head_dim // 2:
            refuse(self, "steps", f"head_dim / 2 = {shape.head_dim // 2} phases")
        _ = self.engine_config
        for projection in Projection:
            self.chunks(projection)

    @functools.cached_property
    def engine_config(self) -> Any:
        """The configuration of the engine."""
        given = dict(self.settings)
        for name in ("rows", "n_in_max", "n_out_max"):
            if name in given:
                raise ValueError(f"the engine's {name} follows from the machine; it cannot be set")
        sizes = {
            "rows": self.lanes,
            "n_in_max": self.shape.longest,
            # Chunks are made of what the engine needs for its rows, so they follow from it.
            "n_out_max": max(self.outputs(projection) for projection in Projection),
        }
        block = self.memory == "block"
        dense: dict[str, Any] = {"weights": "dense"} if self.engine in ("tlmm", "tint") and block else {}
        if self.engine == "tlmm" and "tables" in given and block:
            # A block of weights a cycle.
            dense["weight_lanes"] = -(-self.lanes * given["tables"] // 5)
        return ENGINES[self.engine].config(**{**dense, **sizes, **given})

    @property
    def mode(self) -> int:
        """The engine's ternary mode."""
        return [mode.name for mode in self.engine_config.modes].index("ternary")

    def inputs(self, projection: Projection) -> int:
        """Return n_in of a projection."""
        shape = self.shape
        return {Projection.OUT: shape.queries, Projection.DOWN: shape.ffn}.get(projection, shape.width)

    def outputs(self, projection: Projection) -> int:
        """Return n_out of a projection, as the engine takes it."""
        shape = self.shape
        return {
            Projection.QKV: shape.vectors * shape.head_dim,
            Projection.OUT: shape.width,
            Projection.GATE_UP: 2 * shape.ffn,
            Projection.DOWN: shape.width,
            Projection.HEAD: self.head_blocks * shape.head_digits * self.lanes,
        }[projection]

    @property
    def head_blocks(self) -> int:
        """Transfers of logits."""
        return -(-self.shape.vocabulary // self.lanes)

    @property
    def sum_bits(self) -> int:
        """Width of the engine's results."""
        return int(self.engine_config.total_width)

    def words(self, length: int) -> int:
        """Return the transfers of a vector."""
        return length // self.lanes

    @property
    def words_max(self) -> int:
        """Transfers of the longest vector."""
        return self.words(self.shape.longest)

    @property
    def gate_bits(self) -> int:
        """Width of a sum of the gate or the up projection, two's complement."""
        return (127 * self.shape.width).bit_length() + 1

    @property
    def product_bits(self) -> int:
        """Width of a gated product, two's complement (`ranges` in docs/numerics.md)."""
        sums = 127 * self.shape.width
        most = sums**3 if self.shape.activation == "relu2" else (((1 << 19) << 7) + (1 << 13)) * sums
        return most.bit_length() + 1

    def parts(self, projection: Projection) -> int:
        """Return how many equal parts a projection's rows can be cut into: heads, or transfers of its results."""
        shape = self.shape
        return {
            Projection.QKV: shape.vectors,
            Projection.OUT: self.words(shape.width),
            Projection.GATE_UP: self.words(shape.ffn),
            Projection.DOWN: self.words(shape.width),
            Projection.HEAD: 1,
        }[projection]

    def chunks(self, projection: Projection) -> int:
        """Return how many chunks a projection is cut into.

        Raises
        ------
        ValueError
            If even its smallest part takes more than half the ring.
        """
        if self.memory == "block" or projection is Projection.HEAD:
            return 1
        parts = self.parts(projection)
        for count in range(1, parts + 1):
            if parts % count == 0 and 2 * self._transfers(projection, count) <= self.ring:
                return count
        least = 2 * self._transfers(projection, parts)
        refuse(self, "ring", f"{least} or more, for two parts of projection {projection.name}")
        raise AssertionError

    def _transfers(self, projection: Projection, chunks: int) -> int:
        rows = self.outputs(projection) // chunks
        return int(self.engine_config.weight_transfers(self.inputs(projection), rows, self.mode))

    def transfers(self, projection: Projection) -> int:
        """Return the transfers of weights of a chunk, for one token."""
        return self._transfers(projection, self.chunks(projection))

    @property
    def layer_transfers(self) -> int:
        """Transfers of a layer's weights."""
        layer = [projection for projection in Projection if projection is not Projection.HEAD]
        return sum(self.chunks(projection) * self.transfers(projection) for projection in layer)

    @property
    def weight_depth(self) -> int:
        """Transfers of all weights."""
        return self.shape.layers * self.layer_transfers + self.transfers(Projection.HEAD)
