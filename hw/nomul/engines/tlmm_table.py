"""The tables of a TLMM engine: which sums they hold, the units that fill them, and their look-up ports.

A table holds every sum w1*a1 + ... + wG*aG of its group's activations over ternary weights w. The sums stand in the
order of a Gray walk: one weight changes by one from each entry to the next, so that one adder makes one entry a cycle.
The walk is the reflected ternary Gray code counted from its middle: with N = (3^G - 1)/2 + rank and b_i the i-th
ternary digit of N, weight i is b_i - 1 if N // 3^(i+1) is even and 1 - b_i if it is odd. Rank 0 is all zeros, and the
weights of rank -r are the negated weights of rank r, so a half table of ranks 0 to (3^G - 1)/2 and a sign serve all.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.lookup import LookupMemory
from nomul.arith.target import Target
from nomul.shared_module import SharedModule

__all__ = ["Filler", "LookupTable", "Walk", "gray_walk", "index_codes", "walk_entries"]


def _weights(group: int, rank: int) -> list[int]:
    number = (3**group - 1) // 2 + rank
    digits = []
    for i in range(group):
        digit = number // 3**i % 3
        digits.append(digit - 1 if number // 3 ** (i + 1) % 2 == 0 else 1 - digit)
    return digits


def gray_walk(group: int) -> list[tuple[int, int]]:
    """Return, for each rank from 0 to (3^group - 1)/2 - 1, which weight changes on the way to the next, and by what."""
    moves = []
    for rank in range((3**group - 1) // 2):
        here, there = _weights(group, rank), _weights(group, rank + 1)
        ((i, change),) = [(i, b - a) for i, (a, b) in enumerate(zip(here, there, strict=True)) if a != b]
        moves.append((i, change))
    return moves


def index_codes(group: int, full: bool) -> list[int]:
    """Return the index of each ternary group in the weight stream: of weights w_i at place sum (w_i + 1) * 3^i.

    Of a full table the index is the rank in two's complement, of a half table its magnitude and a sign bit above.
    """
    largest = (3**group - 1) // 2
    sign = 1 << largest.bit_length()
    codes = [0] * 3**group
    for rank in range(-largest, largest + 1):
        place = sum((weight + 1) * 3**i for i, weight in enumerate(_weights(group, rank)))
        codes[place] = rank % (2 * sign) if full else abs(rank) + (sign if rank < 0 else 0)
    return codes


def walk_entries(group: int, full: bool) -> int:
    """Return how many entries are written for a table, one a cycle."""
    ranks = (3**group + 1) // 2
    return 2 * ranks if full else ranks


class Walk(Component):
    """The order in which entries are made, shared by all fillers.

    A half table is written at ranks 0, 1, ... R with R = (3^G - 1)/2; a full one at those and then, after a restart
    from zero, at 0, -1, ... -R in two's complement.

    Parameters
    ----------
    group : int
        Activations of a table (G).
    full : bool
        Whether negative ranks are written too.

    Members
    -------
    entry : In
        Number of the entry that is being written, from 0.
    rank : Out
        Its address.
    select : Out
        Which activation the next entry differs by.
    negate : Out(1)
        Whether it is subtracted.
    restart : Out(1)
        Whether the next entry is rank 0 again.
    """

    def __init__(self, group: int, full: bool) -> None:
        self.group, self.full = group, full
        self._moves = gray_walk(group)
        self.entries = walk_entries(group, full)
        super().__init__(
            {
                "entry": In(range(self.entries)),
                "rank": Out(len(self._moves).bit_length() + full),
                "select": Out(range(group)),
                "negate": Out(1),
                "restart": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the tables of moves and of addresses."""
        m = Module()
        ranks = len(self._moves) + 1
        with m.Switch(self.entry):
            for entry in range(self.entries):
                with m.Case(entry):
                    rank, second = entry % ranks, entry >= ranks
                    m.d.comb += self.rank.eq(-rank if second else rank)
                    if rank < len(self._moves):
                        which, change = self._moves[rank]
                        m.d.comb += [self.select.eq(which), self.negate.eq((change < 0) != second)]
                    elif self.full and not second:
                        m.d.comb += self.restart.eq(1)
        return m


class Filler(Component):
    """Makes the entries of one table at a time: word' = word + a[select] or word - a[select].

    Cycle schedule: `select` and `negate` at cycle t make the word of t + 2.

    Parameters
    ----------
    group, act_bits, width : int
        Activations of a table, their width, and the width of an entry.

    Members
    -------
    load : In(1)
        Take new activations; the choice of this cycle is still among the old ones.
    activations : In(signed(act_bits)).array(group)
    clear : In(1)
        Start again from zero: the next word.
    select, negate : In
        From `Walk`.
    word : Out(signed(width))
        The entry.
    """

    def __init__(self, group: int, act_bits: int, width: int) -> None:
        self.group, self.act_bits, self.width = group, act_bits, width
        super().__init__(
            {
                "load": In(1),
                "activations": In(signed(act_bits)).array(group),
                "clear": In(1),
                "select": In(range(group)),
                "negate": In(1),
                "word": Out(signed(width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the activation registers and the adder."""
        m = Module()
        held = [Signal(signed(self.act_bits), name=f"held{i}", reset_less=True) for i in range(self.group)]
        with m.If(self.load):
            m.d.sync += [register.eq(new) for register, new in zip(held, self.activations, strict=True)]
        choices: list[Value] = list(held)
        for bit in self.select:
            choices = [Mux(bit, pair[-1], pair[0]) for pair in (choices[i : i + 2] for i in range(0, len(choices), 2))]
        complement, negated = Signal(signed(self.act_bits), reset_less=True), Signal()
        m.d.sync += [
            complement.eq(choices[0] ^ ~self.negate.replicate(self.act_bits)),
            negated.eq(self.negate),
        ]
        with m.If(self.clear):
            m.d.sync += self.word.eq(0)
        with m.Else():
            # word + chosen + negated, as a difference, whose lowest column makes the carry-in.
            difference = Cat(negated, self.word).as_signed() - Cat(Const(1, 1), complement).as_signed()
            m.d.sync += self.word.eq(difference >> 1)
        return m


class LookupTable(SharedModule):
    """One table with a reader for each row of the engine, and the registers around it.

    Cycle schedule: an index at cycle t, delayed by `delay`, addresses the table at t + delay; the word and the sign are
    in their registers at t + delay + 1.

    Parameters
    ----------
    width : int
        Bits of an entry.
    rank_width : int
        Address bits of an entry.
    banks : int
        Copies of the table that are filled in turn.
    rows : int
        Readers.
    full : bool
        Whether the index is a rank alone; otherwise its top bit is a sign.
    delay : int
        Extra cycles before the look-up.
    target : Target
        The technology.

    Members
    -------
    write_enable, write_bank, write_rank, write_data : In
    bank : In(1)
        The bank that the indices of this cycle look up.
    indices : In(rank_width + 1 or rank_width).array(rows)
    words : Out(signed(width)).array(rows)
    signs : Out(1).array(rows)
    """

    def __init__(
        self, width: int, rank_width: int, banks: int, rows: int, full: bool, delay: int, target: Target
    ) -> None:
        self.width, self.rank_width, self.banks, self.rows = width, rank_width, banks, rows
        self.full, self.delay, self.target = full, delay, target
        super().__init__(
            {
                "write_enable": In(1),
                "write_bank": In(1),
                "write_rank": In(rank_width),
                "write_data": In(signed(width)),
                "bank": In(1),
                "indices": In(rank_width if full else rank_width + 1).array(rows),
                "words": Out(signed(width)).array(rows),
                "signs": Out(1).array(rows),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the memory and its registers."""
        m = Module()
        m.submodules.memory = memory = LookupMemory(self.width, self.banks << self.rank_width, self.rows, self.target)
        bank_bits = self.banks - 1
        m.d.comb += [
            memory.write_enable.eq(self.write_enable),
            memory.write_address.eq(Cat(self.write_rank, self.write_bank[:bank_bits])),
            memory.write_data.eq(self.write_data),
        ]
        bank = self._delayed(m, self.bank, "bank")
        for row in range(self.rows):
            index = self._delayed(m, self.indices[row], f"index{row}")
            m.d.comb += memory.addresses[row].eq(Cat(index[: self.rank_width], bank[:bank_bits]))
            m.d.sync += self.words[row].eq(memory.words[row])
            if not self.full:
                m.d.sync += self.signs[row].eq(index[-1])
        return m

    def _delayed(self, m: Module, value: Signal, name: str) -> Signal:
        for stage in range(self.delay):
            # With a reset, or synthesisers make shift-register look-up tables of the longer delays.
            register = Signal(value.shape(), name=f"{name}_delay{stage}")
            m.d.sync += register.eq(value)
            value = register
        return value
