"""Drives components of fixed latency in Amaranth's own simulator: one set of inputs a cycle, one of outputs."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.lib.wiring import Component
from amaranth.sim import Simulator

__all__ = ["simulate", "stream"]


def stream(
    unit: Component, inputs: Mapping[str, Sequence[Any]], outputs: Sequence[str], latency: int
) -> dict[str, list[Any]]:
    """Give a component its inputs, a set every cycle, and return what its outputs are `latency` cycles after each.

    Parameters
    ----------
    unit
        What is driven; each name of `inputs` and `outputs` is one of its members.
    inputs
        For each member what it is given in each cycle: an integer, or a list for an array.
    outputs
        Members that are noted, integers or lists.
    latency
        Cycles from inputs to outputs.

    """
    cycles = len(next(iter(inputs.values())))
    assert all(len(values) == cycles for values in inputs.values())
    noted: dict[str, list[Any]] = {name: [] for name in outputs}

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles + latency):
            if cycle < cycles:
                for name, values in inputs.items():
                    ctx.set(getattr(unit, name), values[cycle])
            if cycle >= latency:
                for name in outputs:
                    said = ctx.get(getattr(unit, name))
                    noted[name].append(said if isinstance(said, int) else list(said))
            await ctx.tick()

    simulate(unit, bench)
    return noted


def simulate(unit: Component, bench: Any) -> None:
    """Run a testbench, `async def bench(ctx)`, until it ends."""
    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    with warnings.catch_warnings():
        # A purely combinational design has no clock domain; the simulator warns of it.
        warnings.simplefilter("ignore")
        simulator.run()
