"""Bitstreams: a small design on a real board's chip, what is refused, and memories moved to look-up tables."""

import dataclasses
import itertools
import json
import re

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, Out

from nomul.board_designs import BOARDS, engine_design, find_board, machine_for
from nomul.boards import ulx3s
from nomul.boards.icebreaker import BOARD
from nomul.cli import main
from nomul.errors import InputError, ToolError
from nomul.export.rtlil import convert
from nomul.fpga.bitstream import Design, anchor, make_bitstream, synthesise_design
from nomul.fpga.lutram import distribute


class Counter(Elaboratable):
    """Counts, and shows it."""

    def elaborate(self, platform):
        m = Module()
        count = Signal(24)
        m.d.sync += count.eq(count + 1)
        m.submodules.light = light = io.Buffer("o", platform.request("led_g", 0, dir="-"))
        m.d.comb += light.o.eq(count[-1])
        return m


@pytest.fixture(scope="module")
def counter():
    plan = BOARD.platform().prepare(Counter(), "top")
    texts = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
    return Design(
        board="icebreaker",
        top="top",
        rtlil=texts["top.il"],
        constraints=texts["top.pcf"],
        files={},
        target=BOARD.target,
        device=BOARD.device,
        options=BOARD.options,
        clock_mhz=12,
        budget=BOARD.budget,
    )


@pytest.mark.synth
def test_a_design_becomes_a_bitstream(counter):
    result = make_bitstream(counter, seeds=(4,))
    assert b"\x7e\xaa\x99\x7e" in result.data[:200]  # the preamble of iCE40 bitstreams (Project IceStorm)
    assert result.synthesis.ff >= 24
    assert result.run.seed == 4 and result.run.met and result.run.achieved_mhz > 12


@pytest.mark.synth
def test_a_slow_design_is_packed_only_when_told(counter):
    fast = dataclasses.replace(counter, clock_mhz=900, constraints=counter.constraints.replace("set_frequency", "# "))
    with pytest.raises(
        ToolError,
        match=r"^the design misses its clock on icebreaker: [\d.]+ MHz of 900 with the best of 2 seeds; "
        r"the longest path goes from .+ to .+; --allow-timing-fail writes it all the same$",
    ):
        make_bitstream(fast, seeds=(1, 2))
    result = make_bitstream(fast, seeds=(1,), allow_timing_fail=True)
    assert not result.run.met and result.data


@pytest.mark.synth
def test_a_design_that_is_too_large_is_refused_by_its_scarcest_resource(counter):
    small = dataclasses.replace(counter, budget={"lut": 20, "ff": 5, "bram": 0})
    with pytest.raises(
        ToolError, match=r"^the design does not fit icebreaker: it takes \d+ flip-flops, and the chip has 5$"
    ):
        synthesise_design(small)


class Memories(Component):
    """A small memory, a large one, and one that is only read."""

    sums: Out(8)

    def elaborate(self, platform):
        m = Module()
        for name, depth, init in (("small", 64, []), ("large", 512, []), ("table", 64, range(64))):
            m.submodules[name] = memory = Memory(shape=8, depth=depth, init=init, attrs={"ram_style": "block"})
            read = memory.read_port()
            m.d.sync += [read.addr.eq(read.data), self.sums.eq(self.sums + read.data)]
            if name != "table":
                write = memory.write_port()
                m.d.sync += [write.addr.eq(write.addr + 1), write.data.eq(read.data), write.en.eq(1)]
        return m


def test_small_memories_that_are_written_become_lookup_tables():
    text = convert(Memories(), "memories")
    assert text.count('"block"') == 3
    styles = {}
    lines = distribute(text, 64).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  memory "):
            styles[line.split()[-1]] = lines[number - 1].split()[-1]
    assert sorted(styles.values()) == ['"block"', '"block"', '"distributed"']
    assert next(name for name, style in styles.items() if style == '"distributed"').startswith("\\small")
    assert distribute(text, 0) == text


def test_cells_are_placed_by_hand_by_the_number_in_their_names():
    cells = {f"top.lane{lane}_P": {"type": "MULT18X18D"} for lane in range(3)} | {"top.lane0_Q": {"type": "TRELLIS_FF"}}
    assert anchor({"cells": cells}, [(r"^MULT18X18D .*lane(\d+)_", ("here", "there"))]) == 2
    placed = {name: cell["attributes"]["BEL"] for name, cell in cells.items() if "attributes" in cell}
    assert placed == {"top.lane0_P": "here", "top.lane1_P": "there"}
    assert anchor({"cells": cells}, []) == 0
    with pytest.raises(
        ToolError, match=r"^no cell of the design is called .*row.*; the board's anchors are out of date$"
    ):
        anchor({"cells": cells}, [(r"row(\d)", ("here",))])


def test_the_lanes_of_an_ulx3s_lie_apart():
    sites = ulx3s.spread(32)
    columns = [int(re.match(r"X(\d+)/Y(10|34|58)/MULT18_[0145]$", site)[1]) for site in sites]
    assert len(set(sites)) == 32
    assert min(abs(a - b) for a, b in itertools.pairwise(columns)) >= 8


def test_boards_that_are_none(capsys):
    with pytest.raises(InputError, match=r"^no board is called 'de10'; the boards are " + ", ".join(BOARDS) + "$"):
        find_board("de10")
    with pytest.raises(
        InputError, match=r"^1BitSquared iCEBreaker .* is too small for a language model; give it an engine"
    ):
        machine_for(BOARD, None)
    with pytest.raises(
        InputError, match=r"^Radiona ULX3S .* has no demonstration of an engine; it takes a language model$"
    ):
        engine_design(find_board("ulx3s"), None, [])
    with pytest.raises(InputError, match=r"^activation_lanes is 6; allowed behind a serial line: a power of two$"):
        engine_design(BOARD, None, ["lanes_in=6"])
    with pytest.raises(SystemExit) as ended:
        main(["bitstream", "icebreaker", "--checkpoint", "x", "--engine", "tint"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        "nomul: a bitstream holds a language model or an engine: give --checkpoint"
    )


def test_talk_refuses_what_it_cannot_do(capsys):
    for arguments, message in (
        (["talk"], "nomul: port is missing; give a serial port such as /dev/ttyUSB0, or sim\n"),
        (["talk", "sim", "--tokens", "0"], "nomul: --tokens is 0; allowed: 1 or more\n"),
        (["talk", "sim", "--json"], "nomul: --json wants one prompt: give it with --prompt\n"),
        (["talk", "/dev/nothing"], "nomul: port /dev/nothing cannot be opened: No such file or directory\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err == message


def test_every_board_has_what_its_design_needs():
    for name in BOARDS:
        board = find_board(name)
        assert board.name == name
        assert (board.machine is None) != (board.engine is None)
        assert "{file}" in board.loader
        json.dumps(board.budget)
