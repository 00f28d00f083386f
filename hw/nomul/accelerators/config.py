"""The configuration of a machine: a model's shape, an engine for its projections, and how wide the rest is."""

import dataclasses
import enum
import functools
from typing import Any

from nomul.accelerators.shape import ModelShape
from nomul.config import refuse
from nomul.engines.matmul import MachineMatmulConfig
from nomul.spec import Spec

__all__ = ["CODE_BITS", "MEMORIES", "WORD_BITS", "AcceleratorConfig", "Projection"]

CODE_BITS = 8
"""Width of a code."""

WORD_BITS = 20
"""Width of a word: residual stream, attention output, gated hidden vector (docs/numerics.md)."""

MEMORIES = ("block", "axi")


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


LAYER_PROJECTIONS = (Projection.QKV, Projection.OUT, Projection.GATE_UP, Projection.DOWN)
"""The matrices of a layer."""


@dataclasses.dataclass(frozen=True)
class AcceleratorConfig:
    """Configuration of `nomul.accelerators.machine.Machine`.

    Parameters
    ----------
    shape : ModelShape
    engine : Spec
        Engine of the projections. Its configuration is a `MachineMatmulConfig` with a mode `ternary`.
    lanes : int
        Elements of vectors that are worked on in a cycle, and rows of the engine. Even; divides head_dim, width and
        ffn.
    tile : int
        Prompt tokens that share each matrix.
    settings : tuple of (str, value)
        Further fields of the engine's configuration.
    queries : int
        Prompt tokens of a tile that share each row of keys and values that attention reads.
    memory : str
        Where weights, keys, values and parameters are: in block memory, or behind AXI4 ports.
    ring : int
        Transfers of weights that wait on the chip (memory axi). A matrix of which more than half the ring would be
        needed is cut into chunks of rows, so that one is loaded while the tokens of a tile use another.
    ports, port_bits : int
        AXI4 ports, over which every word of memory is striped, and the width of each (memory axi).
    uram : bool
        Whether the ring and the hidden vectors ask for UltraRAM (attribute ram_style = "ultra" of AMD's tools).
    steps : tuple of int
        Phase of rotary embedding for one position, a number of 32 bits for each pair of a head.
    trace : bool
        Whether the simulated machine writes what it computes to files (`nomul.accelerators.trace`).

    Raises
    ------
    ValueError
        If a field is out of its range, or the fields do not go together.
    """

    shape: ModelShape
    engine: Spec
    lanes: int = 8
    tile: int = 8
    queries: int = 1
    settings: tuple[tuple[str, Any], ...] = ()
    memory: str = "block"
    ring: int = 1024
    ports: int = 1
    port_bits: int = 128
    uram: bool = False
    steps: tuple[int, ...] = ()
    trace: bool = False

    def __post_init__(self) -> None:
        """Check each field, then the fields together."""
        shape = self.shape
        if self.lanes < 2 or self.lanes % 2:
            refuse(self, "lanes", "an even number from 2 up")
        for name in ("head_dim", "width", "ffn"):
            if getattr(shape, name) % self.lanes:
                refuse(self, "lanes", f"a divisor of head_dim, width and ffn; {name} is {getattr(shape, name)}")
        if self.memory not in MEMORIES:
            refuse(self, "memory", ", ".join(MEMORIES))
        if self.memory == "axi" and (self.ring < 4 or self.ring & (self.ring - 1)):
            refuse(self, "ring", "a power of two from 4 up")
        if not 1 <= self.ports <= 16:
            refuse(self, "ports", "1 to 16")
        if self.port_bits not in (32, 64, 128, 256, 512):
            refuse(self, "port_bits", "32, 64, 128, 256, 512")
        if not 1 <= self.tile <= shape.context:
            refuse(self, "tile", f"1 to the context, {shape.context}")
        if not 1 <= self.queries <= self.tile:
            refuse(self, "queries", f"1 to the tile, {self.tile}")
        if len(self.steps) != shape.head_dim // 2:
            refuse(self, "steps", f"head_dim / 2 = {shape.head_dim // 2} phases")
        engine = self.engine_config  # whose own checks, and those of the chunks, are made with it
        if engine.act_bits != CODE_BITS:
            raise ValueError(f"the engine's act_bits is {engine.act_bits}; in a machine allowed: {CODE_BITS}")
        if self.memory == "axi" and engine.dense_code is not None and not engine.decodes:
            least = 8 * engine.dense_code.group
            if self.ports * self.port_bits < least:
                refuse(self, "port_bits", f"{least} or more over all ports, for a group of bytes of dense weights")

    @functools.cached_property
    def engine_config(self) -> MachineMatmulConfig:
        """The configuration of the engine: as deep as the chunks of its matrices."""
        deepest = max(self.outputs(projection) // self.chunks(projection) for projection in Projection)
        return dataclasses.replace(self._layers_engine, n_out_max=deepest)  # type: ignore[type-var]

    @functools.cached_property
    def _layers_engine(self) -> MachineMatmulConfig:
        """The configuration of an engine that takes the matrices of layers whole."""
        given = dict(self.settings)
        for name in ("rows", "n_in_max", "n_out_max"):
            if name in given:
                raise ValueError(f"the engine's {name} follows from the machine; it cannot be set")
        sizes = {
            "rows": self.lanes,
            "n_in_max": self.shape.longest,
            "n_out_max": max(self.outputs(projection) for projection in LAYER_PROJECTIONS),
        }
        # Block memory holds dense weights where there are any; by default a step of them is read in a cycle.
        chosen = self.memory == "axi" or "weights" in given
        if not chosen and "weight_lanes" in given:
            given["weights"], chosen = "dense", True
        engine: MachineMatmulConfig = self.engine.config(**sizes, **given)
        return engine if chosen or engine.dense_code is None else engine.dense()

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as texts and numbers: the engine by its name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "shape": dataclasses.asdict(self.shape), "engine": self.engine.name}

    @property
    def mode(self) -> int:
        """The engine's ternary mode."""
        return [mode.name for mode in self._layers_engine.modes].index("ternary")

    def inputs(self, projection: Projection) -> int:
        """Return n_in of a projection."""
        shape = self.shape
        return {Projection.OUT: shape.queries, Projection.DOWN: shape.ffn}.get(projection, shape.width)

    def outputs(self, projection: Projection) -> int:
        """Return n_out of a projection, as the engine takes it."""
        shape = self.shape
        if projection is Projection.HEAD:
            return self.head_blocks * shape.head_digits * self.lanes
        return {
            Projection.QKV: shape.vectors * shape.head_dim,
            Projection.OUT: shape.width,
            Projection.GATE_UP: 2 * shape.ffn,
            Projection.DOWN: shape.width,
        }[projection]

    @functools.cached_property
    def _head_chunks(self) -> tuple[int, int]:
        """Chunks of the LM head, and transfers of logits of each: no more rows than a chunk of another matrix has.

        The engine's accumulators are as deep as a chunk, and a vocabulary has far more rows than a layer's matrices.
        """
        deepest = max(self.outputs(projection) // self.chunks(projection) for projection in LAYER_PROJECTIONS)
        blocks = -(-self.shape.vocabulary // self.lanes)
        chunks = -(-blocks // max(1, deepest // (self.shape.head_digits * self.lanes)))
        return chunks, -(-blocks // chunks)

    @property
    def head_blocks(self) -> int:
        """Transfers of logits; those beyond the vocabulary, which fill the last chunk of the LM head, mean nothing."""
        chunks, blocks = self._head_chunks
        return chunks * blocks

    @property
    def large_memory(self) -> dict[str, Any]:
        """Attributes of the largest memories: a word is never read in the cycle in which it is written."""
        return {"no_rw_check": 1} | ({"ram_style": "ultra"} if self.uram else {})

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
        """Return how many equal parts the rows of a layer's matrix can be cut into: heads, or transfers of results."""
        shape = self.shape
        return {
            Projection.QKV: shape.vectors,
            Projection.OUT: self.words(shape.width),
            Projection.GATE_UP: self.words(shape.ffn),
            Projection.DOWN: self.words(shape.width),
        }[projection]

    def chunks(self, projection: Projection) -> int:
        """Return how many chunks a projection is cut into.

        Raises
        ------
        ValueError
            If even its smallest part takes more than half the ring.
        """
        if projection is Projection.HEAD:
            return self._head_chunks[0]
        if self.memory == "block":
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
        return int(self._layers_engine.weight_transfers(self.inputs(projection), rows, self.mode))

    def transfers(self, projection: Projection) -> int:
        """Return the transfers of weights of a chunk, for one token."""
        return self._transfers(projection, self.chunks(projection))

    @property
    def layer_transfers(self) -> int:
        """Transfers of a layer's weights."""
        return sum(self.chunks(projection) * self.transfers(projection) for projection in LAYER_PROJECTIONS)

    @property
    def head_transfers(self) -> int:
        """Transfers of the LM head's weights."""
        return self.chunks(Projection.HEAD) * self.transfers(Projection.HEAD)

    @property
    def weight_depth(self) -> int:
        """Transfers of all weights."""
        return self.shape.layers * self.layer_transfers + self.head_transfers
