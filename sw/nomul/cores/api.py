"""What Nomul knows of a core: its gateware, and everything that packing, checking, reports and searches ask about it.

A core's name stands in its own file of `nomul.cores` and nowhere else; whoever needs to know something about a core
asks this object, or the core's configuration. A distribution of its own may bring cores too (`nomul.cores.discover`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from nomul.draw import Draw
    from nomul.formats.job import Job
    from nomul.formats.mixpe import GroupQuantized

__all__ = ["MACRO_BITS", "Core", "CostPoint", "MachineUse", "Settings"]

Settings = Mapping[str, Any]
"""Fields of a configuration."""

MACRO_BITS = 512
"""A memory of more bits than this is a macro in standard cells: in no area."""


@dataclasses.dataclass(frozen=True)
class CostPoint:
    """A configuration that is synthesised for the cost model."""

    settings: Settings
    held_out: bool = False
    """Whether the fit does not see it, but is tested with it."""


@dataclasses.dataclass(frozen=True)
class MachineUse:
    """How a machine uses a core for its projections."""

    settings: Settings
    """Fields that a small machine sets otherwise than the core's defaults: about 200 products a cycle."""


@dataclasses.dataclass(frozen=True)
class Core:
    """A core as the rest of Nomul sees it.

    Only `gateware` is needed to write Verilog; each other field opens one more command to the core.
    """

    gateware: Spec
    """Name, number, summary, configuration and component."""

    pack: "Callable[[Any, Any, int], npt.NDArray[np.uint8]] | None" = None
    """(configuration, weights, mode) -> the weight stream of one token, uint8 [transfers, bytes], little-endian.

    Weights are int8 [n_out, n_in], or what stands for such a matrix. Of cores that keep `nomul.engines.matmul`.
    """

    expect: "Callable[[Any, Tensor, Tensor], Tensor] | None" = None
    """(configuration, weights, activations) -> results, int64 [tokens, n_out], where they are not W a in integers."""

    multiply: "Callable[[Any, Any, Tensor], Job] | None" = None
    """(configuration, weights, activations) -> the job of a product, of a core that multiplies over other streams than
    those of `nomul.engines.matmul`. Weights are as `pack` takes them, activations integers [tokens, n_in].
    """

    jobs: "Callable[[Any, Draw], Job] | None" = None
    """(configuration, draw) -> a random job with what must come out, of a core that does not multiply matrices."""

    vectors: "Callable[[Any, Tensor], Job] | None" = None
    """(configuration, integers [vectors, length]) -> the job of these vectors, of a core that takes nothing else."""

    serves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By the arithmetic of a model's projections, the mode in which the core computes them exactly."""

    sizes: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    """Settings of the report's sizes small, medium and large."""

    candidates: Callable[[], Iterable[Settings]] = tuple
    """Settings that a search looks at; those that do not go together are passed over."""

    features: Callable[[Any], list[float]] | None = None
    """configuration -> the sizes that its cost is a sum of, each times a fitted coefficient (`nomul.report.cost`)."""

    cost_points: tuple[CostPoint, ...] = ()
    """Configurations that the coefficients are fitted to and tested with."""

    cost_file: Path | None = None
    """Where `python -m nomul.report.cost_points` keeps what it measured of a core that another distribution brings."""

    cost_targets: tuple[str, ...] | None = None
    """Targets of the cost model; all of them by default."""

    routed: bool = True
    """Whether the report places and routes it; where that takes minutes even for the small size, it does not."""

    lacks: Callable[[str], str] = lambda target: ""
    """target -> why the core cannot be built for it, in a sentence; nothing if it can."""

    reference: str = ""
    """'integer' or 'fp16': it is the plain array that cores with activations of this format are set against."""

    sized: Callable[[int, str], Settings] | None = None
    """(products a cycle, target) -> the settings of a reference array that forms them."""

    cells_most: int = 300
    """Products a cycle of the largest array that the report maps to standard cells: flat, which takes long."""

    group_fields: "Callable[[GroupQuantized, int, Settings], Settings] | None" = None
    """(weights in groups, bits of their scales, fields that are set) -> the fields that such weights need, of a core
    whose weights have zero points and scales by group of inputs (`nomul.formats.mixpe.GroupQuantized`).
    """

    takes_groups: Callable[[Settings], bool] = lambda settings: True
    """Whether its weights have them with these fields too."""

    variants: "Mapping[str, Mapping[str, Settings]]" = dataclasses.field(default_factory=dict)
    """Further fields on the command line, each with its values: the settings that a value stands for.

    The setting `core` names another core, which takes the remaining settings. The first value is the default.
    """

    machine: MachineUse | None = None
    """How a machine's projections use it, if they may."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        return self.gateware.name

    def in_groups(self, settings: Settings) -> bool:
        """Whether its weights are in groups where these fields are set."""
        return self.group_fields is not None and self.takes_groups(settings)

    @property
    def multiplies(self) -> bool:
        """Whether it multiplies matrices with vectors."""
        return self.streams_products or self.multiply is not None

    @property
    def streams_products(self) -> bool:
        """Whether it keeps the contract of matrix products (`nomul.engines.matmul`), with a packed weight stream."""
        return self.pack is not None
