"""The figures of a core, on a small component whose counts are known, and the command around them."""

import json
import re

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nomul.errors import InputError, ToolError
from nomul.export.rtlil import convert
from nomul.fpga.targets import TARGETS
from nomul.fpga.yosys import tally
from nomul.report.figures import Elaborated, Report, Work, report

KEYS = [
    *("engine", "config", "target", "lut", "lutram_as_lut", "ff", "carry", "dsp", "bram", "uram", "macs_per_cycle"),
    *("utilization", "lut_per_mac", "lut_per_sustained_mac", "fmax_mhz", "tool_versions", "seconds"),
]


class Accumulator(wiring.Component):
    """Adds or subtracts an operand: one ternary product a cycle."""

    weight: In(signed(2))
    a: In(signed(8))
    y: Out(signed(16))

    def elaborate(self, platform):
        m = Module()
        product = Signal(signed(9))
        with m.Switch(self.weight):
            with m.Case(1):
                m.d.sync += product.eq(self.a)
            with m.Case(-1):
                m.d.sync += product.eq(-self.a)
            with m.Default():
                m.d.sync += product.eq(0)
        m.d.sync += self.y.eq(self.y + product)
        return m


@pytest.mark.synth
def test_figures_of_a_component(tmp_path):
    steps = []
    work = Work(per_cycle=1, utilization=0.8)
    core = Elaborated(convert(Accumulator(), "acc"), "acc", {"bits": 8}, work)
    result = report(core, "ecp5", pnr=True, cache=tmp_path, progress=steps.append)
    figures = result.as_json()
    assert list(figures)[: len(KEYS)] == KEYS
    assert json.loads(json.dumps(figures)) == figures | {
        "place_and_route": json.loads(json.dumps(figures["place_and_route"]))
    }
    assert figures["engine"] == "acc"
    assert figures["config"] == {"bits": 8}
    assert figures["ff"] == 9 + 16
    assert 16 + 9 <= figures["lut"] <= 60
    assert figures["lut_per_mac"] == figures["lut"]
    assert figures["lut_per_sustained_mac"] == pytest.approx(figures["lut"] / 0.8)
    assert (figures["dsp"], figures["bram"], figures["uram"], figures["lutram_as_lut"]) == (0, 0, 0, 0)
    assert 150 < figures["fmax_mhz"] < 600
    placed = figures["place_and_route"]
    assert placed["device"] == "ecp5-85k"
    assert placed["cells"]["TRELLIS_FF"] == figures["ff"]
    assert placed["cells_per_mac"] == placed["logic_cells"]
    assert figures["tool_versions"][0].startswith("Yosys ")
    assert figures["tool_versions"][1].startswith("nextpnr-ecp5 ")
    assert [step.split()[0] for step in steps] == ["synthesising", "placing"]
    again = report(core, "ecp5", pnr=True, cache=tmp_path)
    assert again.as_json() == figures  # from the cache, to the last digit


@pytest.mark.synth
def test_without_place_and_route_there_is_no_frequency():
    figures = report(Elaborated(convert(Accumulator(), "acc"), "acc", {}, Work(1, 1.0)), "ice40", cache=None).as_json()
    assert figures["fmax_mhz"] is None
    assert figures["place_and_route"] is None
    assert figures["seconds"] > 0


def test_ratios():
    found = tally({"LUT6": 60, "RAM32M16": 5, "FDRE": 7}, TARGETS["xcup"], "t", seconds=2)
    result = Report("t", {}, Work(40, 0.5), found, None)
    assert (result.lut_per_work, result.lut_per_sustained_work, result.cells_per_work) == (2.5, 5.0, None)


@pytest.mark.parametrize("target", ["xcup", "xc7"])
def test_place_and_route_is_refused_before_anything_is_built(target):
    steps = []
    expected = rf"^--pnr is not possible for target '{target}'; nextpnr supports ecp5, ice40, gowin$"
    with pytest.raises(InputError, match=expected):
        report(Elaborated("", "acc", {}, Work(1, 1.0)), target, pnr=True, cache=None, progress=steps.append)
    assert steps == []


@pytest.mark.synth
def test_a_component_that_computes_nothing_is_refused():
    class Wire(wiring.Component):
        a: In(4)
        y: Out(4)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.y.eq(self.a)
            return m

    with pytest.raises(ToolError, match=r"^synthesis of wire_only for ecp5 left no logic at all; "):
        report(Elaborated(convert(Wire(), "wire_only"), "wire_only", {}, Work(1, 1.0)), "ecp5", cache=None)


@pytest.mark.parametrize(("macs", "utilization"), [(0, 0.5), (1, 0), (1, 1.01), (1, -0.5)])
def test_impossible_work(macs, utilization):
    with pytest.raises(ValueError, match=r"^(per_cycle|utilization) is .*; allowed: "):
        Work(macs, utilization)


# The command, on the smallest TLMM.
SETTINGS = ("tables=2", "rows=2", "fill_units=1", "n_in_max=64", "n_out_max=64")
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


def nomul(*arguments):
    pytest.importorskip("nomul.catalog", reason="needs the engines", exc_type=ImportError)
    from click.testing import CliRunner

    from nomul.commands.report import command

    return CliRunner(catch_exceptions=False).invoke(command, arguments)


@pytest.mark.synth
def test_command(tmp_path, monkeypatch):
    monkeypatch.setenv("NOMUL_CACHE", str(tmp_path / "build" / "cache"))
    done = nomul("tlmm", "--target", "ecp5", *SMALL, "--portable", "--json")
    figures = json.loads(done.stdout)
    assert list(figures)[: len(KEYS)] == KEYS
    assert figures["config"]["target"] == "portable"
    assert figures["macs_per_cycle"] == 2 * 3 * 2
    assert 0.5 < figures["utilization"] <= 1
    assert figures["layer"] == {"n_out": 64, "n_in": 64}
    assert figures["lut"] > 100
    assert (tmp_path / "build" / "cache" / "synthesis").is_dir()
    done = nomul("tlmm", "--target", "ecp5", *SMALL, "--portable")
    assert f"{figures['lut']:,}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nosuch", "--target", "ecp5"), r"^no engine is called 'nosuch'"),
        (("tlmm", "--target", "ecp5", "--layer", "0x5"), r"^layer '0x5' is not N_OUTxN_IN with two numbers from 1 up"),
        (("tlmm", "--target", "xcup", "--pnr"), r"^--pnr is not possible for target 'xcup'"),
        (
            ("tlmm", "--target", "ecp5", "--pnr", "--once"),
            r"^--once goes neither with --pnr, which needs a flat netlist",
        ),
        (("tlmm", "--target", "ecp5", "--set", "rows=x"), r"^field 'rows' is 'x'; allowed: "),
    ],
)
def test_command_with_wrong_input(arguments, message):
    with pytest.raises(InputError, match=message):
        nomul(*arguments)


def test_unknown_target_of_the_command():
    done = nomul("tlmm", "--target", "virtex")
    assert done.exit_code == 2
    assert re.search(r"'virtex' is not one of 'xcup', 'xc7', 'ecp5', 'gowin', 'ice40'", done.output)
