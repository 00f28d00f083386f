"""Power of a netlist by OpenSTA, from the switching activity of each net or, failing that, an assumed one.

Clock gates are not credited: OpenSTA 2.0.17 takes every flip-flop's clock to toggle in every cycle, whatever it is
told, so a design whose registers often hold their values takes less than reported. Memory macros are not in it.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nomul.asic.asic_flow import Implementation
from nomul.asic.liberty import Library
from nomul.asic.sta import run_sta, sta_version
from nomul.errors import ToolError

ASSUMED_ACTIVITY = 0.1
"""Toggles of an input in a clock period when no simulation says."""

TOTAL = re.compile(r"^Total((?:\s+-?[\d.]+e[-+]\d+){4})", re.MULTILINE)


def power_mw(
    found: Implementation, library: Library, activity: Mapping[str, float] | None = None
) -> tuple[float | None, str]:
    """Return (power in milliwatts, what it stands on).

    Parameters
    ----------
    found
        The implementation; its clock is the one it was made for, or its critical path.
    library
        Its library.
    activity
        Toggles in a clock period of each gate's output and each input, by "gate/pin" or port as `found.verilog` names
        them. None assumes `ASSUMED_ACTIVITY` at the inputs, and OpenSTA spreads it.

    """
    if sta_version() is None:
        return None, "none: OpenSTA is not installed"
    if not found.tcl:
        return None, "none: the design has no clock"
    if activity is None:
        commands = [f"set_power_activity -input -activity {ASSUMED_ACTIVITY} -duty 0.5"]
        source = (
            f"assumed: every input toggles in {ASSUMED_ACTIVITY:.0%} of the cycles (no simulation), {sta_version()}"
        )
    else:
        # The command set_power_activity of OpenSTA 2.0.17 does not take pins; the procedure below it does. The first
        # report spreads the inputs' activity over the netlist and forgets what the pins were told before.
        commands = [
            f"set_power_activity -input_ports [get_ports {name}] -activity {rate:.5g} -duty 0.5"
            for name, rate in activity.items()
            if "/" not in name
        ]
        commands.append("report_power")
        commands += [
            f"sta::set_power_pin_activity [get_pins {name}] {rate:.5g} 0.5"
            for name, rate in activity.items()
            if "/" in name
        ]
        source = f"switching activity from a simulation on real data, {sta_version()}"
    with tempfile.TemporaryDirectory(prefix="nomul-power-") as name:
        folder = Path(name)
        (folder / "cells.lib").write_text(library.text)
        (folder / "netlist.v").write_text(found.verilog)
        lines = [*found.tcl, *commands, "report_power -digits 6", "exit", ""]
        (folder / "sta.tcl").write_text("\n".join(lines))
        log = run_sta(folder)
    totals = TOTAL.findall(log)
    if not totals:
        raise ToolError("OpenSTA printed no total power")
    return float(totals[-1].split()[-1]) * 1000, source
