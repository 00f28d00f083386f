"""What the schedule of a systolic array says of each step."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Member, Out

from nomul.systolic.config import SystolicConfig

__all__ = ["control_layout", "schedule_members", "tag_layout"]


def tag_layout(config: SystolicConfig) -> data.StructLayout:
    """Return what travels with a sum: whose it is, and whether it is a total's first part and its last."""
    return data.StructLayout({"valid": 1, "place": (config.places - 1).bit_length(), "begin": 1, "final": 1})


def control_layout(config: SystolicConfig) -> data.StructLayout:
    """Return what a schedule says of a step beside the activations that it takes."""
    marks = dict.fromkeys(("codes", "scales", "first", "last"), 1)
    return data.StructLayout(marks | {"tag": tag_layout(config)})


def schedule_members(config: SystolicConfig) -> dict[str, Member]:
    """Return the ports of an array's schedule.

    Steps are those of activations that enter the array. FP16 ones are taken `align_steps` steps before, and then the
    rest of what is said of a step is for the one so much later.

    start : In(1)
        Takes a job.
    n_in, n_out, tokens : In
        The job; they stay.
    move : In(1)
        The step is done.
    running : Out(1)
        There is a step.
    codes, vectors, scales : Out(1)
        It takes a transfer of each of these.
    place : Out(range(group))
        The step's place in its group (dataflow output in FP16 form only).
    first : Out(1)
        The array begins anew with this step.
    tag : Out(tag_layout)
    last : Out(1)
        Nothing comes after what the tag is for.
    """
    return {
        "start": In(1),
        **{name: In(range(limit + 1)) for name, limit in config.job_limits.items()},
        "move": In(1),
        "running": Out(1),
        **{name: Out(1) for name in ("codes", "vectors", "scales", "first", "last")},
        **({"place": Out(range(config.group))} if config.floats and not config.keeps_weights else {}),
        "tag": Out(tag_layout(config)),
    }
