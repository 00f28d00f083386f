"""A library of ten cells whose delays are round numbers, for tests of the standard-cell flow."""

from collections.abc import Mapping

HEAD = """library (tiny) {
  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA";
  capacitive_load_unit (1, "ff"); leakage_power_unit : "1nW"; pulling_resistance_unit : "1kohm";
  nom_process : 1; nom_temperature : 25; nom_voltage : 1;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  /* every gate takes 0.1 ns and every full adder 0.25 ns to either output, whatever they drive */
"""


def arc(pin: str, delay: float, kind: str = "", sense: str = "non_unate") -> str:
    tables = "".join(
        f'{table} (scalar) {{ values ("{value}"); }} '
        for table, value in (
            ("cell_rise", delay),
            ("cell_fall", delay),
            ("rise_transition", 0.01),
            ("fall_transition", 0.01),
        )
    )
    timing_type = f"timing_type : {kind}; " if kind else f"timing_sense : {sense}; "
    return f'timing () {{ related_pin : "{pin}"; {timing_type}{tables}}}'


def pin_in(name: str, more: str = "") -> str:
    return f"pin ({name}) {{ direction : input; capacitance : 1.0; {more} }}"


def pin_out(name: str, function: str, inputs: str, delay: float, limit: float) -> str:
    arcs = " ".join(arc(pin, delay) for pin in inputs)
    return f'pin ({name}) {{ direction : output; max_capacitance : {limit}; function : "{function}"; {arcs} }}'


def gate(name: str, area: float, outputs: Mapping[str, str], inputs: str, delay: float = 0.1, limit: float = 20) -> str:
    pins = [pin_in(pin) for pin in inputs] + [pin_out(pin, text, inputs, delay, limit) for pin, text in outputs.items()]
    return f"  cell ({name}) {{ area : {area}; {' '.join(pins)} }}\n"


SETUP = (
    'timing () { related_pin : "C"; timing_type : setup_rising; '
    'rise_constraint (scalar) { values ("0.05"); } fall_constraint (scalar) { values ("0.05"); } }'
)
FLIP_FLOP = (
    '  cell (DOGWOOD) { area : 5; ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; } '
    + pin_in("C", "clock : true;")
    + " "
    + pin_in("D", SETUP)
    + ' pin (Q) { direction : output; max_capacitance : 20; function : "IQ"; '
    + arc("C", 0.2, "rising_edge")
    + " } }\n"
)
CLOCK_GATE = (
    "  cell (GINKGO) { area : 4; clock_gating_integrated_cell : latch_posedge; "
    'statetable ("C E", "G") { table : "L L : - : L, L H : - : H, H - : - : N"; } '
    'pin (G) { direction : internal; internal_node : "G"; } '
    + pin_in("C", "clock : true; clock_gate_clock_pin : true;")
    + " "
    + pin_in("E", "clock_gate_enable_pin : true; " + SETUP)
    + ' pin (Q) { direction : output; clock_gate_out_pin : true; max_capacitance : 90; state_function : "C * G"; '
    + arc("C", 0.1, sense="positive_unate")
    + " } }\n"
)
ADDER = gate("FIG", 4, {"U": "A ^ B ^ C", "V": "(A B) + (C & (A | B))"}, "ABC", 0.25)
CELLS = {
    "inverter": gate("IVY", 1, {"Z": "!A"}, "A"),
    "buffer": gate("BIRCH", 2, {"Z": "A"}, "A"),
    "strong buffer": gate("BEECH", 3, {"Z": "(A')'"}, "A", limit=80),
    "nand": gate("NETTLE", 1.5, {"Z": "(A * B)'"}, "AB"),
    "nor": gate("NUTMEG", 1.5, {"Z": "!(A + B)"}, "AB"),
    "and": gate("ALDER", 2, {"Z": "A B"}, "AB"),
    "flip-flop": FLIP_FLOP,
    "clock gate": CLOCK_GATE,
    "adder": ADDER,
    "half adder": gate("HAZEL", 2.5, {"U": "A ^ B", "V": "A * B"}, "AB", 0.15),
}
"""Cells by what they do; their names are trees, so that nothing can go by names."""


def tiny(*without: str) -> str:
    """Return the library without some of its cells."""
    return HEAD + "".join(text for name, text in CELLS.items() if name not in without) + "}\n"
