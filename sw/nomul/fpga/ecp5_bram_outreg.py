"""Block RAM output registers on ECP5, which Yosys leaves unused: absorb the registers behind a read port.

A DP16KD answers 5.8 ns after the clock without its output register and 0.9 ns with it (nextpnr's model, speed grade 6).
Where every used bit of a read port goes to one plain register each and nowhere else, those registers become the output
register: the same function, with the same latency, and fewer cells.

A DP16KD of 36 bits has one read port, clocked as B, whose word is DOB and DOA together. Its output register is set by
both REGMODE_A and REGMODE_B and enabled by OCEB, as nextpnr does it for PDPW16KD.
"""

from collections import Counter
from typing import Any

__all__ = ["absorb_output_registers"]

_PORTS = {"A": ("DOA",), "B": ("DOB",)}
_WIDE = {"B": ("DOA", "DOB")}
"""The pins of each read port, of a memory of up to 18 bits and of one of 36."""


def absorb_output_registers(netlist: dict[str, Any], top: str) -> int:
    """Rewrite the DP16KDs of module `top` in Yosys' JSON; return how many registers were absorbed.

    Parameters
    ----------
    netlist
        The parsed JSON of a flattened, mapped design; changed in place. Its function stays what it was.
    top
        Name of the module.
    """
    module = netlist["modules"][top]
    cells = module["cells"]
    readers: Counter[int | str] = Counter()
    registers: dict[int | str, str] = {}
    for port in module["ports"].values():
        readers.update(port["bits"])
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                readers.update(bits)
        if _is_plain(cell):
            registers[cell["connections"]["DI"][0]] = name
    absorbed = 0
    for cell in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        wide = int(cell["parameters"]["DATA_WIDTH_B"], 2) == 36
        for side, prefixes in (_WIDE if wide else _PORTS).items():
            absorbed += _absorb(cells, cell, side, prefixes, readers, registers)
    return absorbed


def _is_plain(cell: dict[str, Any]) -> bool:
    """Tell whether a cell is a register that only follows its input: no enable, no reset."""
    if cell["type"] != "TRELLIS_FF":
        return False
    parameters, pins = cell["parameters"], cell["connections"]
    always = parameters.get("CEMUX", "1").strip() == "1"
    starts_at_zero = parameters.get("REGSET", "RESET") == "RESET"
    return always and starts_at_zero and pins.get("LSR", ["0"]) == ["0"] and "M" not in pins


def _absorb(
    cells: dict[str, Any],
    memory: dict[str, Any],
    side: str,
    prefixes: tuple[str, ...],
    readers: "Counter[int | str]",
    registers: dict[int | str, str],
) -> int:
    pins, parameters = memory["connections"], memory["parameters"]
    outputs = {pin: bits[0] for pin, bits in pins.items() if pin.startswith(prefixes) and bits}
    used = {pin: bit for pin, bit in outputs.items() if readers[bit]}
    clock = pins[f"CLK{side}"]
    fits = (
        used
        and parameters[f"REGMODE_{side}"] == "NOREG"
        and pins.get(f"OCE{side}") == ["1"]
        and pins.get(f"RST{side}", ["0"]) == ["0"]
        and all(readers[bit] == 1 and bit in registers for bit in used.values())
        and all(cells[registers[bit]]["connections"]["CLK"] == clock for bit in used.values())
    )
    if not fits:
        return 0
    for pin, bit in used.items():
        register = cells.pop(registers[bit])
        pins[pin] = register["connections"]["Q"]
    for prefix in prefixes:
        parameters[f"REGMODE_{prefix[-1]}"] = "OUTREG"
    return len(used)
