"""Finds the cores: the files of `nomul.cores`, and what other distributions offer by entry points.

A distribution offers a core with an entry point of the group `nomul.cores` that names a `Core` object:

    [project.entry-points."nomul.cores"]
    parity = "my_package.parity:CORE"
"""

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

import nomul.cores
from nomul.cores.api import Core
from nomul.errors import InputError
from nomul.names import canonical

__all__ = ["GROUP", "NUMBER_OF_OTHERS", "cores", "find_core", "matmul_cores", "reference_core"]

GROUP = "nomul.cores"
"""The group of entry points."""

NUMBER_OF_OTHERS = 0x1000
"""Cores of other distributions have numbers from here up (register ENGINE), so that ours can grow."""


@functools.cache
def cores() -> Mapping[str, Core]:
    """Return every core by name: ours in the order of their numbers, then those of other distributions.

    Raises
    ------
    InputError
        If an entry point cannot be loaded, names no `Core`, or its name or number is taken or not its own to take.
    """
    modules = (
        importlib.import_module(f"{nomul.cores.__name__}.{info.name}")
        for info in pkgutil.iter_modules(nomul.cores.__path__)
    )
    ours = [module.CORE for module in modules if hasattr(module, "CORE")]
    found = {core.name: core for core in sorted(ours, key=lambda core: core.gateware.number)}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        core = _load(point)
        taken = next((other for other in found.values() if other.gateware.number == core.gateware.number), None)
        if core.name in found or taken is not None:
            raise InputError(
                f"the entry point {point.name} = {point.value} brings core {core.name!r} with number "
                f"{core.gateware.number}, which {(taken or found[core.name]).name!r} has already"
            )
        found[core.name] = core
    return found


def _load(point: EntryPoint) -> Core:
    what = f"the entry point {point.name} = {point.value} of group {GROUP}"
    try:
        core = point.load()
    except Exception as error:
        raise InputError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from None
    if not isinstance(core, Core):
        raise InputError(f"{what} is a {type(core).__name__}; it has to name a nomul.cores.api.Core")
    if core.gateware.number < NUMBER_OF_OTHERS:
        raise InputError(f"{what} has number {core.gateware.number}; allowed: {NUMBER_OF_OTHERS} or more")
    return core


def matmul_cores() -> Mapping[str, Core]:
    """Return the cores that keep the contract of matrix products, by name."""
    return {name: core for name, core in cores().items() if core.multiplies}


def find_core(name: str) -> Core:
    """Return the core that a person means (`nomul.names`); `InputError` if there is none."""
    found = cores()
    name = canonical(name, found)
    if name not in found:
        rest = [other for other, core in found.items() if not core.multiplies]
        raise InputError(
            f"no engine is called {name!r}; the engines are {', '.join(matmul_cores())}; the units {', '.join(rest)}"
        )
    return found[name]


def reference_core(activations: str = "integer") -> Core:
    """Return the plain array that cores with activations of a format are measured against."""
    return next(core for core in cores().values() if core.reference == activations)
