"""Shifts of significands."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = ["shift_right"]


def shift_right(m: Module, name: str, value: Value, distance: Value) -> Value:
    """Return `value` shifted towards bit 0, which is set too if any bit that was shifted out was."""
    width = len(value)
    stages = min((width - 1).bit_length(), len(distance))
    lost: Value = Const(0, 1)
    for stage in range(stages):
        step = 1 << stage
        shifted, dropped = Signal(width, name=f"{name}_by{step}"), Signal(name=f"{name}_lost{step}")
        m.d.comb += [
            shifted.eq(Mux(distance[stage], value >> step, value)),
            dropped.eq(lost | (distance[stage] & value[:step].any())),
        ]
        value, lost = shifted, dropped
    far = distance[stages:].any()
    kept = value & (~far).replicate(width)
    return Cat(kept[0] | lost | (far & value.any()), kept[1:])
