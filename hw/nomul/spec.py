"""What the commands know of anything that Nomul generates from a configuration."""

import dataclasses
from collections.abc import Callable
from typing import Any

from amaranth.lib.wiring import Component

__all__ = ["Spec"]


@dataclasses.dataclass(frozen=True)
class Spec:
    """A generator as the commands see it."""

    name: str
    """Name on the command line, and of its files."""

    number: int
    """What the ENGINE register of `nomul.bus.axi` reads."""

    summary: str
    """One line for `nomul engines`."""

    config: type[Any]
    """Its configuration dataclass, whose fields are `nomul.config.parameter`s."""

    component: Callable[[Any], Component]
    """Makes the component from a configuration."""
