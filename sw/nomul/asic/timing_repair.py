"""Buffers and drive strengths: what a mapped netlist needs to carry its loads and to reach its clock, and no more.

ABC does not see across flip-flops and full adders, so it neither buffers what they drive nor times what they delay.
Two steps on the netlist make up for it, with cells of the library only:

1. A net that loads its driver with more than `SHARE` of what the library allows gets the smallest stronger driver, or
   where there is none a tree of buffers. The clock's nets are left out.
2. While a path is too slow for the clock, the gates on it that feel their load most become one step stronger, and where
   a net has readers on no slow path, those go behind a buffer. Static timing judges every round: one that does not
   help is undone, and fewer gates are tried. Full adders keep their sizes if the library has only one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from nomul.asic.liberty import Cell
from nomul.asic.netlist import Gates, Net
from nomul.asic.sta import PathStep, TimedPath, worst_paths

SHARE = 0.4
"""Largest load of an unrepaired net, as a share of the library's limit: keeps slews well inside its tables."""

PATHS = 400
"""Endpoints looked at in a round."""

ROUNDS = 60

FAILURES = 12
"""Single gates that may fail to help before the repair ends."""

EFFORT = 0.08
"""Least load, as a share of its limit, of a gate that is worth strengthening."""


@dataclass(frozen=True)
class Repair:
    """A repaired netlist, its critical path, and what it took: cells made stronger, buffers, rounds of timing."""

    gates: Gates
    critical: TimedPath | None
    stronger: int
    buffers: int
    rounds: int


def repair(
    gates: Gates, clock_ns: float, *, timing: bool = True, progress: Callable[[str], None] = lambda step: None
) -> Repair:
    """Return a netlist that carries its loads and, as far as strengths and buffers allow, reaches a clock.

    Parameters
    ----------
    gates
        The mapped netlist; stays as it is.
    clock_ns
        The clock period.
    timing
        Whether OpenSTA may be used; without it only the loads are repaired, and there is no critical path.
    progress
        Called with each round, in words.

    """
    best = gates.copy()
    carry_loads(best)
    if not timing:
        return _result(gates, best, None, 0)
    critical, paths = worst_paths(best, clock_ns, PATHS)
    batch, rounds = 64, 0
    failures = Counter[str]()
    while rounds < ROUNDS and paths and paths[0].slack < 0:
        trial = best.copy()
        changed = _relieve(trial, paths, batch, failures)
        if not changed:
            break
        rounds += 1
        progress(f"round {rounds}: {-paths[0].slack:.3f} ns too slow, area {best.area:.0f}")
        carry_loads(trial, 1.0)
        new_critical, new_paths = worst_paths(trial, clock_ns, PATHS)
        if _badness(new_paths) < _badness(paths):
            best, critical, paths = trial, new_critical, new_paths
            batch = min(2 * batch, 256)
        elif len(changed) > 1:
            batch = max(1, min(batch, len(changed)) // 4)
        else:
            failures.update(changed)
            if failures.total() > FAILURES:
                break
    return _result(gates, best, critical, rounds)


def carry_loads(gates: Gates, share: float = SHARE) -> None:
    """Strengthen or buffer whatever drives more than a share of its limit; changes `gates`."""
    clocks = gates.clock_nets()
    buffers = gates.library.buffers
    ports = {net for net in (*gates.inputs.values(), *gates.macro_inputs.values()) if isinstance(net, int)}
    for net in [*gates.drivers, *ports]:
        if net in clocks or net not in gates.readers:
            continue
        load = gates.load(net)
        if net in gates.drivers:
            name, _ = gates.drivers[net]
            gate = gates.gates[name]
            limit = gate.cell.drive
            if limit and load > share * limit:
                for stronger in gates.library.strengths(gate.cell.name):
                    if stronger.drive * share >= load and stronger.area > gate.cell.area:
                        if stronger.area - gate.cell.area <= _tree_area(load, buffers):
                            gate.cell = stronger
                        break
                limit = gate.cell.drive
        else:
            limit = buffers[0].drive if buffers else 0.0
        if limit and buffers and load > share * limit:
            _tree(gates, net, share * limit, buffers)


def _tree_area(load: float, buffers: list[Cell]) -> float:
    return min((max(1, -(-load // (SHARE * cell.drive))) * cell.area for cell in buffers), default=float("inf"))


def _tree(gates: Gates, net: Net, limit: float, buffers: list[Cell]) -> None:
    """Put the readers of a net behind buffers, and those behind others, until its load is within `limit`."""
    while (load := gates.load(net)) > limit:
        cell = min(buffers, key=lambda cell: (max(1, -(-load // (SHARE * cell.drive))) * (cell.area + 1e-9), cell.area))
        sinks, before = list(gates.readers[net]), len(gates.readers[net])
        group: list[tuple[str, str]] = []
        total = 0.0
        wire = gates.library.wires.load(before) / before if gates.library.wires else 0.0
        for sink in sinks:
            weight = gates.gates[sink[0]].cell.loads.get(sink[1], 0.0) + wire
            if group and total + weight > SHARE * cell.drive:
                gates.buffer(net, group, cell)
                group, total = [], 0.0
            group.append(sink)
            total += weight
        if len(group) > 1:
            gates.buffer(net, group, cell)
        if len(gates.readers[net]) >= before:
            break


def _badness(paths: list[TimedPath]) -> tuple[float, float]:
    """Return the slack that is missing in all and in the worst path; both matter, so their sum leads."""
    missing = [-path.slack for path in paths if path.slack < 0]
    return sum(missing) + PATHS / 4 * max(missing, default=0.0), max(missing, default=0.0)


def _relieve(gates: Gates, paths: list[TimedPath], batch: int, failures: Counter[str]) -> set[str]:
    """Strengthen the `batch` gates on slow paths that have most to gain, or unload them; return their names.

    A gate is unloaded if there is no stronger cell or being stronger did not help, and left alone after both failed.
    """
    slow = [path for path in paths if path.slack < 0]
    critical = {(step.gate, step.pin) for path in slow for step in path.steps}
    gains: dict[str, tuple[float, PathStep]] = {}
    for path in slow:
        for step in path.steps:
            limit = gates.gates[step.gate].cell.drive
            if step.output and step.load > EFFORT * limit and failures[step.gate] < 2:
                gain, _ = gains.get(step.gate, (0.0, step))
                gains[step.gate] = (gain + step.delay * min(1.0, step.load / limit) * -path.slack, step)
    changed: set[str] = set()
    for name, (_, step) in sorted(gains.items(), key=lambda item: -item[1][0]):
        if len(changed) == batch:
            break
        if (not failures[name] and _strengthen(gates, name)) or _unload(gates, name, step, critical):
            changed.add(name)
    return changed


def _strengthen(gates: Gates, name: str) -> bool:
    gate = gates.gates[name]
    stronger = [cell for cell in gates.library.strengths(gate.cell.name) if cell.drive > gate.cell.drive]
    if not stronger:
        return False
    gate.cell = stronger[0]
    return True


def _unload(gates: Gates, name: str, step: PathStep, critical: set[tuple[str, str]]) -> bool:
    """Put the readers of a gate's output that are on no slow path behind a buffer, if that takes half its load away."""
    buffers = gates.library.buffers
    net = gates.gates[name].pins[step.pin]
    idle = [sink for sink in gates.readers.get(net, ()) if sink not in critical and sink[0] in gates.gates]
    load = sum(gates.gates[sink].cell.loads.get(pin, 0.0) for sink, pin in idle)
    if len(idle) < 3 or load < gates.load(net) / 2 or net in gates.clock_nets():
        return False
    cell = next((cell for cell in buffers if cell.drive * SHARE >= load), None)
    if cell is None or cell.loads[cell.inputs[0]] > load / 2:
        return False
    gates.buffer(net, idle, cell)
    return True


def _result(before: Gates, after: Gates, critical: TimedPath | None, rounds: int) -> Repair:
    stronger = sum(gate.cell is not after.gates[name].cell for name, gate in before.gates.items())
    return Repair(after, critical, stronger, len(after.gates) - len(before.gates), rounds)
