"""AMD look-up tables and carry chains, instantiated: the forms that Yosys' own adders do not reach.

One LUT6_2 a column. O5 is a function of I0 to I4, O6 a function of all six; I5 is tied high wherever O5 is used, so
that both outputs are functions of five inputs. The carry multiplexer of a column passes the carry when the column
propagates (S = 1) and takes DI when it does not.
"""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

from nomul.arith.target import Target

__all__ = ["carry_chain", "lut6", "lut_choice", "lut_pair", "lutram", "lutram_bits", "lutram_parts", "truth_table"]


def truth_table(function: Callable[..., int], inputs: int) -> int:
    """Return the INIT of a look-up table: bit `sum(x_i << i)` is `function(x_0, ..., x_{inputs-1})`."""
    return sum(
        (function(*((address >> i) & 1 for i in range(inputs))) & 1) << address for address in range(1 << inputs)
    )


def lut_pair(
    m: Module,
    name: str,
    inputs: Sequence[Value | int],
    o6: Callable[..., int],
    o5: Callable[..., int] | None = None,
) -> tuple[Signal, Signal]:
    """Instantiate one LUT6_2 with up to five inputs and two functions of them.

    Returns the signals of (O6, O5); without `o5`, O5 is constant zero.
    """
    inputs = [*inputs, *[Const(0)] * (5 - len(inputs))]
    first, second = Signal(name=f"{name}_o6"), Signal(name=f"{name}_o5")
    init = truth_table(o6, 5) << 32 | (truth_table(o5, 5) if o5 else 0)
    m.submodules[name] = Instance(
        "LUT6_2",
        p_INIT=Const(init, 64),
        **{f"i_I{i}": value for i, value in enumerate(inputs)},
        i_I5=Const(1),
        o_O6=first,
        o_O5=second,
    )
    return first, second


def lut6(inputs: Sequence[Value], function: Callable[..., int], output: Signal) -> Instance:
    """Return one LUT6: `output` is a function of six inputs."""
    pins = {f"i_I{i}": value for i, value in enumerate(inputs)}
    return Instance("LUT6", p_INIT=Const(truth_table(function, 6), 64), **pins, o_O=output)


def lut_choice(
    m: Module, name: str, inputs: Sequence[Value], select: Value, low: Callable[..., int], high: Callable[..., int]
) -> tuple[Signal, Signal]:
    """Instantiate one LUT6_2 with five inputs and a choice between two functions of them.

    Returns the signals of (O6, O5): O6 is `high` where `select` is set and `low` where it is not, O5 always `low`.
    """
    first, second = Signal(name=f"{name}_o6"), Signal(name=f"{name}_o5")
    m.submodules[name] = Instance(
        "LUT6_2",
        p_INIT=Const(truth_table(high, 5) << 32 | truth_table(low, 5), 64),
        **{f"i_I{i}": value for i, value in enumerate(inputs)},
        i_I5=select,
        o_O6=first,
        o_O5=second,
    )
    return first, second


def carry_chain(
    m: Module, name: str, target: Target, select: Sequence[Value], data: Sequence[Value], carry_in: Value
) -> tuple[Value, Value]:
    """Instantiate the carry chain over columns of S = `select` and DI = `data`.

    Returns (sum bits, carry out of the last column).
    """
    cell, size = ("CARRY8", 8) if target is Target.XCUP else ("CARRY4", 4)
    sums: list[Value] = []
    carry: Value = carry_in
    for number, start in enumerate(range(0, len(select), size)):
        columns = min(size, len(select) - start)
        out, carries = Signal(size, name=f"{name}_o{number}"), Signal(size, name=f"{name}_co{number}")
        pins: dict[str, Value] = {
            "i_S": Cat(*select[start : start + columns], Const(0, size - columns)),
            "i_DI": Cat(*data[start : start + columns], Const(0, size - columns)),
            "o_O": out,
            "o_CO": carries,
        }
        if cell == "CARRY8":
            pins |= {"p_CARRY_TYPE": "SINGLE_CY8", "i_CI": carry, "i_CI_TOP": Const(0)}
        else:
            # A chain starts at CYINIT and continues at CI.
            pins |= {"i_CI": Const(0), "i_CYINIT": carry} if start == 0 else {"i_CI": carry, "i_CYINIT": Const(0)}
        m.submodules[f"{name}_{number}"] = Instance(cell, **pins)
        sums.append(out[:columns])
        carry = carries[columns - 1]
    return Cat(*sums), carry


_LUTRAM = {32: ("RAM32M16", "RAM32M"), 64: ("RAM64M8", "RAM64M")}
"""By the words of a read port: the primitive of seven read ports in eight look-up tables, that of three in four."""


def lutram_bits(depth: int) -> int:
    """Return the bits of a LUTRAM read port: two of up to 32 words, one of 64; `depth` is at most 64."""
    return 2 if depth <= 32 else 1


def lutram_parts(ports: int, target: Target) -> list[int]:
    """Return how many read ports each LUTRAM has, of the fewest look-up tables: seven in eight, or three in four.

    7-series parts have only the second.
    """
    sevens = ports // 7 + (ports % 7 > 3) if target is Target.XCUP else 0
    return [7] * sevens + [3] * -(-max(0, ports - 7 * sevens) // 3)


def lutram(
    m: Module,
    name: str,
    target: Target,
    depth: int,
    write: tuple[Value, Value],
    ports: Sequence[tuple[Value, Value]],
) -> list[Value]:
    """Instantiate LUTRAM with one write address: return what its read ports show, each in its own two bits or one.

    Parameters
    ----------
    depth : int
        Words, at most 64.
    write : tuple of Value
        Enable and address.
    ports : sequence of tuple of Value
        Of each port the data to write, `lutram_bits(depth)` wide, and the address to read. A port of a LUTRAM writes
        bits of its own: what shares a primitive are any ports with a common write address.
    """
    size, bits = (32 if depth <= 32 else 64), lutram_bits(depth)
    shown: list[Value] = []
    for number, count in enumerate(lutram_parts(len(ports), target)):
        readers, writer = "ABCDEFGH"[:count], "ABCDEFGH"[count]
        pins: dict[str, Value] = {
            "i_WCLK": ClockSignal(),
            "i_WE": write[0],
            f"i_ADDR{writer}": _wide(write[1], size),
            f"i_DI{writer}": Const(0, bits),
        }
        mine = ports[len(shown) : len(shown) + count]
        for letter, (data, address) in zip(readers, mine, strict=False):
            out = Signal(bits, name=f"{name}{number}{letter.lower()}")
            pins |= {f"i_DI{letter}": data, f"i_ADDR{letter}": _wide(address, size), f"o_DO{letter}": out}
            shown.append(out)
        for letter in readers[len(mine) :]:
            pins |= {f"i_DI{letter}": Const(0, bits), f"i_ADDR{letter}": _wide(write[1], size)}
        m.submodules[f"{name}{number}"] = Instance(_LUTRAM[size][count == 3], **pins)
    return shown


def _wide(address: Value, size: int) -> Value:
    """Return an address of `size` words, zeros above it."""
    width = (size - 1).bit_length()
    return Cat(address, Const(0, width))[:width]
