"""Netlist surgery between Yosys and nextpnr: ECP5 carry chains without the cells that nextpnr adds at their ends.

What nextpnr-ecp5 0.11 does with the ends of a chain of CCU2C, found by trying every form in the JSON:

| CIN of the first, COUT of the last | cells added |
|---|---|
| CIN a constant `"0"` or `"1"`, or any net | one CCU2C (2 TRELLIS_COMB) that feeds it in |
| COUT any net, even one that nothing reads | one CCU2C (2 TRELLIS_COMB) that feeds it out |
| `"x"` | none |
| an empty list, or no connection at all | nextpnr stops with an exception |

Yosys' chains start with CIN = 0 or 1 and end with a COUT that nobody reads: four cells too many for each adder. An open
CIN is right only when the first half-cell does not pass it on, so `trim_carries` arranges that:

    half-cell:   f = INIT[D C B A],  g = INIT[0 0 B A]
                 S = f ^ CIN         COUT = f ? CIN : g        (Yosys' model, lattice/ccu2c_sim.vh)

    before       CIN=c  | a0 b0   | a1 b1 | a2 b2 | spare |  COUT -> nothing    4 + 2 + 2 TRELLIS_COMB
    after        CIN=x  | f=0,g=c | a0 b0 | a1 b1 | a2 b2 |  COUT=x             4 TRELLIS_COMB

A chain with a spare half-cell at its end is shifted by one behind a half-cell with f = 0 and g = the carry-in, which
may also be a net. A chain without one has its first half-cell changed to f = 0 and g = the carry that it would have
passed on, and its sum bit moves to a LUT4 of its own (one cell instead of two). A carry-out that is read comes out at S
of one more half-cell, which is often the spare one. A chain that an engine has built with a killing first half-cell
only loses its CIN.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Bit = int | str
"""A net's number in Yosys' JSON, or one of the constants "0", "1", "x", "z"."""

OPEN: Bit = "x"
INPUTS = "ABCD"


@dataclass(frozen=True)
class Half:
    """One of the two halves of a CCU2C: 16 bits of INIT, whether it ignores its carry-in, its inputs and its sum."""

    init: int
    inject: bool
    inputs: tuple[Bit, Bit, Bit, Bit]
    output: Bit

    def values(self) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Yield each assignment of A, B, C, D that the constant inputs allow, with f and g of it."""
        for index in range(16):
            bits = tuple(index >> position & 1 for position in range(4))
            if all(fixed not in ("0", "1") or bit == int(fixed) for bit, fixed in zip(bits, self.inputs, strict=True)):
                yield bits, self.init >> index & 1, 0 if self.inject else self.init >> (index & 3) & 1


@dataclass
class Chain:
    """CCU2C cells in order of the carry: their names, halves, the first CIN and the last COUT."""

    cells: list[str]
    halves: list[Half]
    carry_in: Bit
    carry_out: Bit


@dataclass
class Netlist:
    """The cells of a module in Yosys' JSON, with what reads each net."""

    module: dict[str, Any]
    readers: Counter[Bit] = field(default_factory=Counter)
    nets: int = 0

    def __post_init__(self) -> None:
        for cell in self.module["cells"].values():
            if cell["type"] == "CCU2C":
                _complete(cell)
            for port, bits in cell["connections"].items():
                if cell["port_directions"].get(port) != "output":
                    self.readers.update(bits)
        for port in self.module["ports"].values():
            if port["direction"] != "input":
                self.readers.update(port["bits"])
        bits = (bit for name in self.module["netnames"].values() for bit in name["bits"])
        wires = (bit for cell in self.module["cells"].values() for bits in cell["connections"].values() for bit in bits)
        self.nets = max((bit for bit in (*bits, *wires) if isinstance(bit, int)), default=1)

    def new_net(self) -> int:
        """Return a net number that the module does not use yet."""
        self.nets += 1
        return self.nets

    def read(self, bit: Bit) -> bool:
        """Tell whether anything reads a net."""
        return isinstance(bit, int) and self.readers[bit] > 0

    def add(
        self, name: str, kind: str, parameters: dict[str, str], inputs: dict[str, Bit], outputs: dict[str, Bit]
    ) -> None:
        """Add or replace a cell."""
        self.module["cells"][name] = {
            "hide_name": 0,
            "type": kind,
            "parameters": parameters,
            "attributes": {},
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output"),
            "connections": {port: [bit] for port, bit in (inputs | outputs).items()},
        }


def trim_carries(netlist: dict[str, Any], top: str) -> int:
    """Rewrite the CCU2C chains of module `top` in Yosys' JSON so that nextpnr-ecp5 adds nothing to them.

    Parameters
    ----------
    netlist
        The parsed JSON of a flattened, mapped design; changed in place. Its function stays what it was.
    top
        Name of the module.

    Returns
    -------
    int
        The TRELLIS_COMB that are saved, by the rules above.

    """
    view = Netlist(netlist["modules"][top])
    return sum(_trim(view, chain) for chain in list(_chains(view)))


def _chains(view: Netlist) -> Iterator[Chain]:
    """Find the carry chains, without those that branch: where a COUT goes on and is read elsewhere, nextpnr decides."""
    cells = {name: cell["connections"] for name, cell in view.module["cells"].items() if cell["type"] == "CCU2C"}
    by_carry_in = {ports["CIN"][0]: name for name, ports in cells.items() if isinstance(ports["CIN"][0], int)}
    carries_out = {ports["COUT"][0] for ports in cells.values()}
    for name, ports in cells.items():
        if ports["CIN"][0] in carries_out and isinstance(ports["CIN"][0], int):
            continue
        chain = [name]
        while (following := by_carry_in.get(cells[chain[-1]]["COUT"][0])) is not None:
            chain.append(following)
        if all(view.readers[cells[link]["COUT"][0]] == 1 for link in chain[:-1]):
            halves = [_half(view.module["cells"][link], number) for link in chain for number in (0, 1)]
            yield Chain(chain, halves, ports["CIN"][0], cells[chain[-1]]["COUT"][0])


def _complete(cell: dict[str, Any]) -> None:
    """Give a CCU2C that was instantiated without some of its ports or parameters the values that it has then."""
    for port in ("CIN", "COUT", "S0", "S1", *(f"{name}{number}" for name in INPUTS for number in (0, 1))):
        if not cell["connections"].get(port):
            cell["connections"][port] = [OPEN]
            cell["port_directions"][port] = "output" if port in ("COUT", "S0", "S1") else "input"
    for number in (0, 1):
        cell["parameters"].setdefault(f"INIT{number}", "0" * 16)


def _half(cell: dict[str, Any], number: int) -> Half:
    """Read one half of a CCU2C."""
    bits = cell["parameters"][f"INIT{number}"].replace("x", "0")[-16:]
    inject = cell["parameters"].get(f"INJECT1_{number}", "YES").strip() == "YES"
    connections = cell["connections"]
    a, b, c, d = (connections[f"{name}{number}"][0] for name in INPUTS)
    return Half(int(bits, 2), inject, (a, b, c, d), connections[f"S{number}"][0])


def _trim(view: Netlist, chain: Chain) -> int:
    """Rewrite one chain; return the cells saved."""
    halves = list(chain.halves)
    before = len(halves) + 2 * (chain.carry_in != OPEN) + 2 * (chain.carry_out != OPEN)
    if view.read(chain.carry_out):
        halves.append(Half(0, False, (OPEN, OPEN, OPEN, OPEN), chain.carry_out))
    else:
        while len(halves) > 1 and not view.read(halves[-1].output):
            halves.pop()
    first = halves[0]
    kills = not any(f for _, f, _ in first.values()) and not view.read(first.output)
    extra: Half | None = None
    if chain.carry_in != OPEN and not kills:
        replaced = _absorb(first, chain.carry_in) if len(halves) % 2 == 0 else None
        if replaced is not None:
            halves[0] = replaced
            if view.read(first.output):
                extra = first
        else:
            halves.insert(0, _feed(chain.carry_in))
    if len(halves) % 2:
        halves.append(Half(0, True, (OPEN, OPEN, OPEN, OPEN), OPEN))
    after = len(halves) + (extra is not None)
    _write(view, chain, halves)
    if extra is not None:
        flip = 0xFFFF if chain.carry_in == "1" and not extra.inject else 0
        inputs = dict(zip(INPUTS, extra.inputs, strict=True))
        view.add(f"{chain.cells[0]}$sum", "LUT4", {"INIT": f"{extra.init ^ flip:016b}"}, inputs, {"Z": extra.output})
    return before - after


def _feed(carry_in: Bit) -> Half:
    """Return a half-cell whose carry-out is `carry_in` and not its own carry-in: f = 0 because D = 1, g = carry_in."""
    if carry_in == "0":
        return Half(0, False, (OPEN, OPEN, OPEN, OPEN), OPEN)
    if carry_in == "1":
        return Half(0x000F, False, (OPEN, OPEN, OPEN, "1"), OPEN)
    return Half(0x000A, False, (carry_in, OPEN, OPEN, "1"), OPEN)


def _absorb(half: Half, carry_in: Bit) -> Half | None:
    """Return a half-cell with f = 0 and the carry-out that `half` has at a constant `carry_in`.

    None if that carry depends on more than two inputs, all that g can see, or the carry-in is not constant.
    """
    if carry_in not in ("0", "1"):
        return None
    carry = {bits: int(carry_in) if f else g for bits, f, g in half.values()}
    needed = [position for position in range(4) if _depends(carry, position)]
    if len(needed) > 2:
        return None
    inputs: list[Bit] = [half.inputs[position] for position in needed] + [OPEN] * (2 - len(needed))
    table = 0
    for bits, value in carry.items():
        free = [index for index in range(4) if all(index >> place & 1 == bits[bit] for place, bit in enumerate(needed))]
        for index in free:
            table |= value << index
    return replace(half, init=table, inject=False, inputs=(inputs[0], inputs[1], OPEN, "1"), output=OPEN)


def _depends(function: dict[tuple[int, ...], int], position: int) -> bool:
    """Tell whether a function, given by its allowed assignments, depends on the input at `position`."""

    def flipped(bits: tuple[int, ...]) -> tuple[int, ...]:
        return (*bits[:position], 1 - bits[position], *bits[position + 1 :])

    return any(function.get(flipped(bits), value) != value for bits, value in function.items())


def _write(view: Netlist, chain: Chain, halves: list[Half]) -> None:
    """Put `halves` into the chain's cells, with more or fewer cells if needed, and open both ends."""
    count = len(halves) // 2
    names = [*chain.cells, *(f"{chain.cells[-1]}$out{number}" for number in range(count - len(chain.cells)))]
    nets = [view.module["cells"][name]["connections"]["COUT"][0] for name in chain.cells[:-1]]
    for name in chain.cells:
        del view.module["cells"][name]
    nets += [view.new_net() for _ in range(count - 1 - len(nets))]
    carries = [OPEN, *nets[: count - 1], OPEN]
    for index in range(count):
        low, high = halves[2 * index : 2 * index + 2]
        inputs: dict[str, Bit] = {"CIN": carries[index]}
        parameters = {}
        for number, half in enumerate((low, high)):
            inputs |= {f"{port}{number}": bit for port, bit in zip(INPUTS, half.inputs, strict=True)}
            parameters[f"INIT{number}"] = f"{half.init:016b}"
            parameters[f"INJECT1_{number}"] = "YES" if half.inject else "NO"
        outputs = {"S0": low.output, "S1": high.output, "COUT": carries[index + 1]}
        view.add(names[index], "CCU2C", parameters, inputs, outputs)
