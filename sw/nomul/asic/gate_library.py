"""A small library of standard cells of no process: areas in gate equivalents, delays in FO4.

It serves where no Liberty file is given, so that standard cells can be compared everywhere. What it says is an estimate
by these rules, for static CMOS:

* The area of a cell is its transistors / 4, so a NAND of two inputs is 1 gate equivalent.
* A delay is (p + load) / 5 with the parasitic delay p and the input loads g of the method of logical effort
  (Sutherland, Sproull, Harris: Logical Effort, 1999, tables 1.1 and 1.2), in units in which an inverter of strength 1
  has load 1: an inverter that drives four of its like takes 1, which is called FO4. The library's nanosecond is one
  FO4.
* A full adder is the mirror adder of 28 transistors, a flip-flop has 24, a clock gate 18; their delays are ours.

Power is not modelled.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nomul.asic.liberty import Library, read_liberty
from nomul.files import write_atomically
from nomul.jobs.cache import DEFAULT, place, ready

__all__ = ["GENERIC", "generic_library", "generic_text"]

GENERIC = "generic"
"""Its name."""

HEAD = f"""library ({GENERIC}) {{
  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA";
  capacitive_load_unit (1, "ff"); leakage_power_unit : "1nW"; pulling_resistance_unit : "1kohm";
  nom_process : 1; nom_temperature : 25; nom_voltage : 1;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  lu_table_template (by_load) {{
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0, 1000"); index_2 ("0, 1000");
  }}
"""

LOAD_MOST = 24
"""Largest load of a cell of strength 1, in inputs of an inverter."""

STRENGTHS = (1, 2, 4, 8)

GATES: tuple[tuple[str, int, float, float, str, Mapping[str, str]], ...] = (
    ("INV", 2, 1, 1, "A", {"Y": "!A"}),
    ("BUF", 4, 1, 3, "A", {"Y": "A"}),
    ("NAND2", 4, 4 / 3, 2, "AB", {"Y": "!(A & B)"}),
    ("NAND3", 6, 5 / 3, 3, "ABC", {"Y": "!(A & B & C)"}),
    ("NAND4", 8, 2, 4, "ABCD", {"Y": "!(A & B & C & D)"}),
    ("NOR2", 4, 5 / 3, 2, "AB", {"Y": "!(A | B)"}),
    ("NOR3", 6, 7 / 3, 3, "ABC", {"Y": "!(A | B | C)"}),
    ("AND2", 6, 4 / 3, 4, "AB", {"Y": "A & B"}),
    ("OR2", 6, 5 / 3, 4, "AB", {"Y": "A | B"}),
    ("AOI21", 6, 2, 7 / 3, "ABC", {"Y": "!(A & B | C)"}),
    ("OAI21", 6, 2, 7 / 3, "ABC", {"Y": "!((A | B) & C)"}),
    ("AOI22", 8, 2, 4, "ABCD", {"Y": "!(A & B | C & D)"}),
    ("OAI22", 8, 2, 4, "ABCD", {"Y": "!((A | B) & (C | D))"}),
    ("AOI222", 12, 8 / 3, 6, "ABCDEF", {"Y": "!(A & B | C & D | E & F)"}),
    ("OAI222", 12, 8 / 3, 6, "ABCDEF", {"Y": "!((A | B) & (C | D) & (E | F))"}),
    ("MUX2", 12, 2, 5, "ABS", {"Y": "A & !S | B & S"}),
    ("XOR2", 12, 4, 4, "AB", {"Y": "A ^ B"}),
    ("XNOR2", 12, 4, 4, "AB", {"Y": "!(A ^ B)"}),
    ("HA", 14, 5, 6, "AB", {"S": "A ^ B", "CO": "A & B"}),
    ("FA", 28, 7, 9, "ABC", {"S": "A ^ B ^ C", "CO": "A & B | C & (A | B)"}),
)
"""Name, transistors, load of an input, parasitic delay, inputs and functions; of strength 1."""

STRONGER = ("INV", "BUF", "NAND2", "NOR2", "AOI22", "OAI22")
"""Those that come in several strengths, each with as many times the transistors."""


def _tables(parasitic: float, strength: int) -> str:
    """Return delay and transition by load."""
    empty, full = parasitic / 5, (parasitic + 1000 / strength) / 5
    delays, slews = f'"{empty:.4g}, {full:.5g}"', f'"{0.2:.4g}, {200 / strength + 0.2:.5g}"'
    return "".join(
        f"{table} (by_load) {{ values ({values}, {values}); }} "
        for table, values in (
            ("cell_rise", delays),
            ("cell_fall", delays),
            ("rise_transition", slews),
            ("fall_transition", slews),
        )
    )


def _input(name: str, load: float, more: str = "") -> str:
    return f"pin ({name}) {{ direction : input; capacitance : {load:.4g}; {more}}} "


def _gate(name: str, transistors: int, load: float, parasitic: float, inputs: str, outputs: Mapping[str, str]) -> str:
    text = ""
    for strength in STRENGTHS if name in STRONGER else (1,):
        pins = "".join(_input(pin, load * (1 if name == "BUF" else strength)) for pin in inputs)
        for pin, function in outputs.items():
            arcs = "".join(
                f'timing () {{ related_pin : "{source}"; {_tables(parasitic, strength)}}} ' for source in inputs
            )
            pins += (
                f"pin ({pin}) {{ direction : output; max_capacitance : {LOAD_MOST * strength}; "
                f'function : "{function}"; {arcs}}} '
            )
        # A buffer's first stage stays as it is.
        size = (transistors + 2 * (strength - 1)) if name == "BUF" else transistors * strength
        text += f"  cell ({name}_X{strength}) {{ area : {size / 4:g}; {pins}}}\n"
    return text


def _setup(clock: str, time: float) -> str:
    return (
        f'timing () {{ related_pin : "{clock}"; timing_type : setup_rising; '
        f'rise_constraint (scalar) {{ values ("{time}"); }} fall_constraint (scalar) {{ values ("{time}"); }} }} '
    )


def _registers() -> str:
    edge = f'timing () {{ related_pin : "CK"; timing_type : rising_edge; {_tables(7, 1)}}} '
    flip_flop = (
        '  cell (DFF_X1) { area : 6; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; } '
        + _input("CK", 1, "clock : true; ")
        + _input("D", 1, _setup("CK", 1))
        + f'pin (Q) {{ direction : output; max_capacitance : {LOAD_MOST}; function : "IQ"; {edge}}} }}\n'
    )
    through = f'timing () {{ related_pin : "CK"; timing_sense : positive_unate; {_tables(4, 4)}}} '
    gate = (
        "  cell (ICG_X4) { area : 4.5; clock_gating_integrated_cell : latch_posedge; "
        'statetable ("CK E", "G") { table : "L L : - : L, L H : - : H, H - : - : N"; } '
        'pin (G) { direction : internal; internal_node : "G"; } '
        + _input("CK", 1, "clock : true; clock_gate_clock_pin : true; ")
        + _input("E", 1, "clock_gate_enable_pin : true; " + _setup("CK", 1))
        + "pin (GCK) { direction : output; clock_gate_out_pin : true; max_capacitance : 400; "
        + f'state_function : "CK * G"; {through}}} }}\n'
    )
    return flip_flop + gate


def generic_text() -> str:
    """Return the library as a Liberty file."""
    return HEAD + "".join(_gate(*gate) for gate in GATES) + _registers() + "}\n"


@cache
def generic_library(folder: Path = DEFAULT) -> Library:
    """Return the library; its file is put into a folder."""
    path = ready(place() / folder) / f"{GENERIC}.lib"
    write_atomically(path, generic_text().encode())
    return read_liberty(path)
