"""Components that a design holds many times, elaborated once where the design is written out.

Amaranth elaborates, lowers and prints every instance of a component by itself. That of an array of 84 rows of INT8
products took 44 s and 39 MB of text, of which `nomul.export.deduplicate` kept one row. A `SharedModule` becomes an
instance of a module instead while `written` collects, and what collects elaborates one component for each module.
Anywhere else, in Amaranth's own simulator for one, it is elaborated as any component is.

Two are equal if they are of one class and were made of equal arguments. So the class has nothing but its arguments to
build from, and they can be hashed. A wrapper of Amaranth's that rewrites what is below it does not reach the inside of
a module: `enabled` and `resettable` stand for `EnableInserter` and `ResetInserter` and bring the signal there, and
`nomul.export.rtlil` refuses the others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Self

from amaranth.hdl import (
    ClockSignal,
    Elaboratable,
    EnableInserter,
    Fragment,
    Instance,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.hdl._ast import Assign
from amaranth.lib.wiring import Component, In, Signature

__all__ = ["ModuleInstance", "SharedModule", "Written", "enabled", "resettable", "written"]

ENABLE = "clk_en"
"""Port of a module whose registers keep their values while it is 0."""


class ModuleInstance(Instance):
    """The instance that a repeated component becomes.

    It has a statement of the domain `sync`, which does nothing: what a wrapper makes of it tells what it would have
    made of the component's own.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.add_statements("sync", Signal(name="canary").eq(0))


class SharedModule(Component):
    """A component whose `elaborate` says nothing and whose `build` makes the module.

    Raises
    ------
    TypeError
        If it is elaborated within `written` and an argument cannot be hashed.
    """

    _arguments: tuple[Any, ...]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember what it is made of."""
        made = super().__new__(cls)
        made._arguments = (cls, args, tuple(sorted(kwargs.items())))
        return made

    def build(self, platform: object) -> Any:
        """Return the module, as `elaborate` of other components does."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Any:
        """Return the module, or an instance of it while a design is written."""
        collected = _collected.get()
        return self.build(platform) if collected is None else collected.instance(self, platform)


class Written:
    """The modules that were asked for while designs are elaborated: one component of each, by the module's name."""

    def __init__(self, top: object) -> None:
        self._names: dict[tuple[Any, ...], str] = {}
        self._parts: list[tuple[SharedModule, bool]] = []
        self._inside = top

    def instance(self, component: SharedModule, platform: object) -> Any:
        """Return an instance of a component's module, or what it is made of if it is its turn to be elaborated."""
        if component is self._inside:
            return component.build(platform)
        around = _around.get()
        key = (*component._arguments, around.enable is not None)
        if key not in self._names:
            self._names[key] = f"$repeated{len(self._parts)}"
            self._parts.append((component, around.enable is not None))
        ports = [
            ("i" if member.flow == In else "o", "__".join(map(str, path)), Value.cast(value))
            for path, member, value in component.signature.flatten(component)
        ]
        reset = ResetSignal(allow_reset_less=True)
        control = [("i", "clk", ClockSignal()), ("i", "rst", reset if around.reset is None else reset | around.reset)]
        if around.enable is not None:
            control.append(("i", ENABLE, around.enable))
        return ModuleInstance(self._names[key], *control, *ports)

    def reached(self, design: Fragment) -> bool:
        """Tell whether all instances of modules in a design are as they were made, or in a renamed domain.

        What they have of statements is taken away: they are ready to be printed.
        """
        names, waiting, domains, used = set(self._names.values()), [design], [], False
        while waiting:
            part = waiting.pop()
            waiting += [inner for inner, *_ in part.subfragments]
            domains += part.domains.values()
            if isinstance(part, Instance) and part.type in names:
                used = True
                ((statement, *more),) = part.statements.values()
                if more or not isinstance(statement, Assign):
                    return False
                part.statements.clear()
        return not (used and any(domain.async_reset or domain.clk_edge != "pos" for domain in domains))

    def modules(self) -> Iterator[tuple[str, Elaboratable]]:
        """Yield each module's name and what to elaborate for it; those that it holds come after it."""
        for number, part in enumerate(self._parts):  # grows while its parts are elaborated
            yield f"$repeated{number}", _Part(self, *part)


class _Part(Elaboratable):
    """The inside of one module, with the component's ports and, if it has one, that of the enable."""

    def __init__(self, collected: Written, component: SharedModule, has_enable: bool) -> None:
        self._collected, self._component = collected, component
        setattr(self, ENABLE, Signal(name=ENABLE) if has_enable else None)
        extra = {ENABLE: In(1)} if has_enable else {}
        self.signature = Signature({**component.signature.members, **extra})

    def __getattr__(self, name: str) -> Any:
        """Return a port of the component."""
        return getattr(self._component, name)

    def elaborate(self, platform: object) -> Fragment:
        """Build the component."""
        self._collected._inside = self._component
        enable = getattr(self, ENABLE)
        return Fragment.get(self._component if enable is None else enabled(enable, self._component), platform)


@dataclass(frozen=True)
class _Around:
    """What the wrappers around a component bring to it. A register is reset whether it is enabled or not."""

    enable: Value | None = None
    reset: Value | None = None


NOTHING = _Around()

_collected: ContextVar[Written | None] = ContextVar("collected", default=None)
_around: ContextVar[_Around] = ContextVar("around", default=NOTHING)


class _ModuleEnable(EnableInserter):
    """An `EnableInserter` that leaves modules alone, which take the enable at a port."""

    def on_fragment(self, fragment: Fragment) -> Fragment:
        """Rewrite a fragment."""
        return fragment if isinstance(fragment, ModuleInstance) else super().on_fragment(fragment)


class _ModuleReset(ResetInserter):
    """A `ResetInserter` that leaves modules alone, which take the reset at a port."""

    def on_fragment(self, fragment: Fragment) -> Fragment:
        """Rewrite a fragment."""
        return fragment if isinstance(fragment, ModuleInstance) else super().on_fragment(fragment)


class _Controlled(Elaboratable):
    """A component in a wrapper, and what the wrapper makes of what is around it."""

    def __init__(self, inserter: Any, component: Elaboratable, around: Callable[[_Around], _Around]) -> None:
        self._inserter, self._component, self._change = inserter, component, around

    def elaborate(self, platform: object) -> Fragment:
        """Elaborate the component with the signal at hand for its modules, and rewrite it."""
        token = _around.set(self._change(_around.get()))
        try:
            fragment: Fragment = self._inserter(Fragment.get(self._component, platform))
            return fragment
        finally:
            _around.reset(token)


def enabled(enable: Value, component: Elaboratable) -> Elaboratable:
    """Return a component whose registers of domain `sync` keep their values while `enable` is 0.

    It is `EnableInserter(enable)(component)`, and reaches the modules of repeated components too.
    """

    def change(around: _Around) -> _Around:
        return replace(around, enable=enable if around.enable is None else enable & around.enable)

    return _Controlled(_ModuleEnable(enable), component, change)


def resettable(reset: Value, component: Elaboratable) -> Elaboratable:
    """Return a component whose registers of domain `sync` that have a reset are reset while `reset` is 1 too.

    It is `ResetInserter(reset)(component)`, and reaches the modules of repeated components too.
    """

    def change(around: _Around) -> _Around:
        mine = reset if around.enable is None else reset & around.enable
        return replace(around, reset=mine if around.reset is None else mine | around.reset)

    return _Controlled(_ModuleReset(reset), component, change)


@contextmanager
def written(top: object) -> Iterator[Written]:
    """Collect modules: within it, a `SharedModule` component other than the top is elaborated to an instance."""
    found = Written(top)
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
