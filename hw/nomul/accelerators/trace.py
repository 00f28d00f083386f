"""Taps of a simulated machine: each writes what passes to a file, so that a bench can say where a difference began."""

from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, Value, ValueLike

__all__ = ["add_tap", "trace_model"]


def trace_model(text: str) -> str:
    """Return the Verilog model of the taps if `text` has any, else nothing."""
    return Path(__file__).with_name("trace.v").read_text() if "NOMUL_TRACE" in text else ""


def add_tap(m: Module, name: str, valid: ValueLike, data: ValueLike) -> None:
    """Write `data` to the file `NAME.trace` in every cycle in which `valid` is set."""
    value = Value.cast(data)
    m.submodules[f"tap_{name}"] = Instance(
        "NOMUL_TRACE",
        p_WIDTH=len(value),
        p_FILE=f"{name}.trace",
        i_clk=ClockSignal(),
        i_valid=Value.cast(valid),
        i_data=value,
    )
