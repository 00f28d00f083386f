"""The surgery on ECP5 carry chains: the same function, proven by SAT on the vendor's models, in fewer cells."""

import copy
import itertools
import json
import random

import pytest
from amaranth.hdl import Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nomul.errors import ToolError
from nomul.export.rtlil import convert
from nomul.fpga.ecp5_carry import trim_carries
from nomul.fpga.yosys import synthesise
from nomul.jobs.yosys_run import run_yosys

ADD = "1001011010101010"  # what Yosys' adders have: f = A ^ B ^ C, g = A
MODELS = "read_verilog -overwrite +/lattice/cells_sim_ecp5.v\n"


class Design:
    """A netlist in Yosys' JSON, made of random carry chains."""

    def __init__(self):
        self.nets = 1
        self.cells, self.ports = {}, {}

    def net(self):
        self.nets += 1
        return self.nets

    def port(self, direction, bit):
        self.ports[f"p{bit}"] = {"direction": direction, "bits": [bit]}
        return bit

    def chain(self, rng, length, carry_in, inits, read_sum, read_carry):
        name = f"chain{len(self.cells)}"
        carry = {"net": lambda: self.port("input", self.net())}.get(carry_in, lambda: carry_in)()
        for index in range(length):
            ports = {"CIN": carry}
            for number in (0, 1):
                for letter in "ABCD":
                    fixed = rng.choice(["0", "1", None, None])
                    ports[f"{letter}{number}"] = fixed or self.port("input", self.net())
                ports[f"S{number}"] = self.net()
                if read_sum(index, number):
                    self.port("output", ports[f"S{number}"])
            ports["COUT"] = carry = self.net()
            if index == length - 1 and read_carry:
                self.port("output", carry)
            outputs = ("S0", "S1", "COUT")
            self.cells[f"{name}_{index}"] = {
                "hide_name": 0,
                "type": "CCU2C",
                "parameters": {
                    "INIT0": inits[2 * index],
                    "INIT1": inits[2 * index + 1],
                    "INJECT1_0": rng.choice(["NO", "NO", "YES"]),
                    "INJECT1_1": "NO",
                },
                "attributes": {},
                "port_directions": {port: "output" if port in outputs else "input" for port in ports},
                "connections": {port: [bit] for port, bit in ports.items()},
            }

    def json(self):
        module = {"attributes": {"top": "1"}, "ports": self.ports, "cells": self.cells, "netnames": {}}
        return {"creator": "test", "modules": {"top": module}}


def prove(gold, gate):
    """Prove by SAT that two netlists of CCU2C and LUT4 do the same, whatever an open input reads."""
    text = "".join(
        f"read_json {name}.json\n{MODELS}hierarchy -top top\nproc\nflatten\nopt_clean\nsetundef -undriven -anyseq\n"
        f"rename top {name}\ndesign -stash {name}\n"
        for name in ("gold", "gate")
    )
    text += (
        "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "miter -equiv -flatten -make_outputs gold gate miter\nhierarchy -top miter\n"
        "tee -o proof.txt sat -verify -prove trigger 0 -set-def-inputs miter\n"
    )
    files = {"gold.json": json.dumps(with_dangling_outputs(gold)), "gate.json": json.dumps(with_dangling_outputs(gate))}
    assert "SUCCESS!" in run_yosys(text, files, ["proof.txt"]).files["proof.txt"]


def with_dangling_outputs(netlist):
    """Give each open output a net that nothing reads: nextpnr wants "x" there, Yosys does not take it."""
    netlist = copy.deepcopy(netlist)
    fresh = itertools.count(1_000_000)
    for cell in netlist["modules"]["top"]["cells"].values():
        for port, direction in cell["port_directions"].items():
            if direction == "output" and cell["connections"][port] == ["x"]:
                cell["connections"][port] = [next(fresh)]
    return netlist


def trimmed(netlist):
    changed = copy.deepcopy(netlist)
    saved = trim_carries(changed, "top")
    return changed, saved


def ends(netlist):
    """Return the CIN of each first cell and the COUT of each last cell, by what they are connected to."""
    cells = [cell["connections"] for cell in netlist["modules"]["top"]["cells"].values() if cell["type"] == "CCU2C"]
    carries_in = {cell["CIN"][0] for cell in cells}
    carries_out = {cell["COUT"][0] for cell in cells}
    linked = {bit for bit in carries_in & carries_out if isinstance(bit, int)}
    return carries_in - linked, carries_out - linked


def random_init(rng):
    return rng.choice([ADD, ADD, "0" * 16, "0000000000001111", f"{rng.randrange(1 << 16):016b}"])


@pytest.mark.parametrize("seed", range(6))
def test_random_chains_keep_their_function(seed):
    rng = random.Random(seed)
    design = Design()
    for _ in range(40):
        length = rng.randrange(1, 4)
        last_read = rng.random() < 0.5
        all_read = rng.random() < 0.7
        design.chain(
            rng,
            length,
            rng.choice(["0", "1", "net"]),
            [random_init(rng) for _ in range(2 * length)],
            lambda index, number, n=length, last=last_read, every=all_read: (
                last if (index, number) == (n - 1, 1) else every or (index, number) == (0, 0)
            ),
            rng.random() < 0.3,
        )
    gold = design.json()
    gate, saved = trimmed(gold)
    assert saved > 0
    assert ends(gate) == ({"x"}, {"x"})
    prove(gold, gate)


def test_the_proof_can_fail():
    design = Design()
    design.chain(random.Random(1), 2, "1", [ADD] * 4, lambda index, number: (index, number) != (1, 1), False)
    gold = design.json()
    gate, _ = trimmed(gold)
    prove(gold, gate)
    first = next(iter(gate["modules"]["top"]["cells"].values()))
    assert first["parameters"]["INIT0"] == "0000000000001111"
    first["parameters"]["INIT0"] = "0" * 16  # a carry-in of 0 instead of 1
    with pytest.raises(ToolError, match="proof did fail"):
        prove(gold, gate)


def plain(length, carry_in, *, spare, carry_read=False):
    """A chain of plain adders, with or without a spare half-cell at its end."""
    design = Design()
    no_constants = random.Random()
    no_constants.choice = lambda options: options[-1] if None in options else options[0]
    read = lambda index, number: not (spare and (index, number) == (length - 1, 1))  # noqa: E731
    design.chain(no_constants, length, carry_in, [ADD] * (2 * length), read, carry_read)
    netlist = design.json()
    for cell in netlist["modules"]["top"]["cells"].values():  # as Yosys maps an adder
        for number in (0, 1):
            for letter, bit in (("C", "0"), ("D", "1")):
                netlist["modules"]["top"]["ports"].pop(f"p{cell['connections'][letter + str(number)][0]}")
                cell["connections"][letter + str(number)] = [bit]
    return netlist


@pytest.mark.parametrize(
    ("length", "carry_in", "spare", "carry_read", "saved", "cells"),
    [
        (3, "0", True, False, 4, {"CCU2C": 3}),  # shifted into the spare half-cell: nothing is added at either end
        (3, "1", True, False, 4, {"CCU2C": 3}),
        (3, "net", True, False, 4, {"CCU2C": 3}),
        (3, "0", False, False, 3, {"CCU2C": 3, "LUT4": 1}),  # the first sum bit moves to a LUT of its own
        (3, "1", False, False, 3, {"CCU2C": 3, "LUT4": 1}),
        (3, "net", False, False, 2, {"CCU2C": 4}),  # the feed-in is needed; nextpnr would add the same
        (3, "0", False, True, 2, {"CCU2C": 4}),  # one cell feeds in and out, where nextpnr takes two
    ],
)
def test_what_is_saved(length, carry_in, spare, carry_read, saved, cells):
    gold = plain(length, carry_in, spare=spare, carry_read=carry_read)
    gate, counted = trimmed(gold)
    kinds = [cell["type"] for cell in gate["modules"]["top"]["cells"].values()]
    assert {kind: kinds.count(kind) for kind in kinds} == cells
    assert counted == saved
    prove(gold, gate)


def test_trimming_twice_changes_nothing_more():
    once, _ = trimmed(plain(3, "0", spare=True))
    again, saved = trimmed(once)
    assert saved == 0
    assert again == once


def test_a_chain_that_kills_its_carry_only_loses_the_connection():
    """What an engine instantiates: the first half-cell makes the carry, its sum is not read, CIN and COUT left out."""

    class Killed(wiring.Component):
        a: In(3)
        b: In(3)
        y: Out(3)

        def elaborate(self, platform):
            m = Module()
            carry = Signal()
            init = Const(0x96AA, 16)
            zero = {f"i_{letter}0": Const(0) for letter in "ABCD"}
            ports = {f"i_{letter}{number}": Const(int(letter == "D")) for letter in "CD" for number in (0, 1)}
            m.submodules.low = Instance(
                "CCU2C",
                p_INIT0=Const(0, 16),
                p_INIT1=init,
                p_INJECT1_0="NO",
                p_INJECT1_1="NO",
                o_S1=self.y[0],
                o_COUT=carry,
                **(ports | zero | {"i_A1": self.a[0], "i_B1": self.b[0]}),
            )
            m.submodules.high = Instance(
                "CCU2C",
                p_INIT0=init,
                p_INIT1=init,
                p_INJECT1_0="NO",
                p_INJECT1_1="NO",
                i_CIN=carry,
                o_S0=self.y[1],
                o_S1=self.y[2],
                **(ports | {"i_A0": self.a[1], "i_B0": self.b[1], "i_A1": self.a[2], "i_B1": self.b[2]}),
            )
            return m

    result = synthesise(convert(Killed(), "top"), "top", "ecp5", netlist=True, cache=None)
    assert result.cells == {"CCU2C": 2}
    netlist = json.loads(result.netlist)
    gate, saved = trimmed(netlist)
    assert ends(gate) == ({"x"}, {"x"})
    assert saved == 4  # Yosys connects both open ends to nets of its own
    parameters = [cell["parameters"] for cell in gate["modules"]["top"]["cells"].values()]
    assert [(p["INIT0"], p["INIT1"]) for p in parameters] == [("0" * 16, f"{0x96AA:016b}"), (f"{0x96AA:016b}",) * 2]


@pytest.mark.synth
def test_an_adder_of_yosys_keeps_its_function():
    class Sum(wiring.Component):
        a: In(signed(9))
        b: In(signed(9))
        c: In(signed(9))
        y: Out(signed(11))
        z: Out(signed(10))
        carry: Out(9)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += [
                self.y.eq(self.a + self.b - self.c),
                self.z.eq(self.a - self.b),
                self.carry.eq(self.a.as_unsigned()[:8] + self.b.as_unsigned()[:8]),
            ]
            return m

    result = synthesise(convert(Sum(), "top"), "top", "ecp5", netlist=True, cache=None)
    gold = json.loads(result.netlist)
    gold["modules"] = {"top": gold["modules"]["top"]}
    gate, saved = trimmed(gold)
    assert saved >= 8
    prove(gold, gate)
