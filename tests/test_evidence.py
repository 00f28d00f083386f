"""What `nomul check` says and keeps when gateware is broken on purpose."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from click.testing import CliRunner, Result

from nomul.commands.check import command
from nomul.vector import absmax
from tests.test_mutations import one_accumulator_bit

pytestmark = pytest.mark.bench

ROWS = 2
QUICKEST = "icarus" if shutil.which("iverilog") else "verilator"
TLMM = [
    "tlmm",
    "--sim",
    QUICKEST,
    "--set",
    "group=2",
    "--set",
    "tables=4",
    "--set",
    f"rows={ROWS}",
    "--set",
    "fill_units=4",
]


@pytest.fixture
def check(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Run a check that must find a difference; remove what it kept."""
    kept: list[Path] = []

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 1
        if "--json" in arguments:
            kept.append(Path(json.loads(result.stdout)["folder"]))
        else:
            kept.append(Path(result.stdout.partition("design and log are in ")[2].partition(";")[0]))
        return result

    yield run
    for folder in kept:
        shutil.rmtree(folder)


def lanes(line: str, width: int, count: int) -> list[int]:
    """Return the values of a transfer that was written in hexadecimal."""
    payload, sign = int(line, 16), 1 << (width - 1)
    return [((payload >> lane * width & (1 << width) - 1) ^ sign) - sign for lane in range(count)]


def test_an_engine(check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one_accumulator_bit(monkeypatch)
    waves = tmp_path / "waves.vcd"
    said: dict[str, Any] = json.loads(check(*TLMM, "--tokens", "2", "--waves", str(waves), "--json").stdout)
    folder = Path(said["folder"])
    weights, activations, expected = (
        np.load(folder / f"{name}.npy") for name in ("weights", "activations", "expected")
    )
    assert (activations @ weights.astype(np.int64).T == expected).all()
    assert expected.shape == (2, said["n_out"])

    differences = said["differences"]
    assert differences[0] == said["first_mismatch"] and len({one["row"] for one in differences}) == 8
    for one in differences:
        assert one["expected"] == expected[one["token"], one["row"]] and one["tile"] == one["row"] // ROWS
        assert one["got"] != one["expected"]
    assert json.loads((folder / "differences.json").read_text()) == differences

    lines = {name: (folder / f"results_{name}.hex").read_text().split() for name in ("got", "expected")}
    blocks = said["n_out"] // ROWS
    width = next(width for width in range(8, 64) if lanes(lines["expected"][0], width, 2) == list(expected[0, :2]))
    got = np.zeros_like(expected)
    for token in range(2):
        for block in range(blocks):
            wanted = expected[token, block * ROWS : (block + 1) * ROWS]
            right, wrong = (lines[name][token * blocks + block] for name in ("expected", "got"))
            assert lanes(right, width, ROWS) == wanted.tolist()
            got[token, block * ROWS : (block + 1) * ROWS] = lanes(wrong, width, ROWS)
            assert int(right, 16) >> ROWS * width == int(wrong, 16) >> ROWS * width == (block == blocks - 1)
    assert (got != expected).sum() == said["mismatches"]
    assert all(got[one["token"], one["row"]] == one["got"] for one in differences)
    assert "module tlmm" in (folder / "design.v").read_text()
    assert {"weights.hex", "activations.hex", "log.txt"} <= {file.name for file in folder.iterdir()}
    written = waves.read_text()
    assert "$enddefinitions" in written and "results__payload" in written

    shown = check(*TLMM, "--tokens", "2").stdout
    first = differences[0]
    assert (
        f"token {first['token']}, row {first['row']}, tile {first['tile']}: expected {first['expected']}, got" in shown
    )
    assert shown.count(": expected ") == 8 and "replay with --seed 0" in shown


def test_a_unit(check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    honest = absmax.Absmax.elaborate

    def elaborate(unit: absmax.Absmax, platform: object) -> Module:
        """Bit 0 of the first lane's codes is inverted on its way out."""
        m = Module()
        m.submodules.honest = inner = absmax.Absmax(unit.config)
        inner.elaborate = lambda platform: honest(inner, platform)  # type: ignore[method-assign]
        for name, member in unit.signature.members.items():
            mine, its = getattr(unit, name), getattr(inner, name)
            into = member.flow.name == "In"
            if member.is_port:
                m.d.comb += its.eq(mine) if into else mine.eq(its)
                continue
            give, take = (mine, its) if into else (its, mine)
            payload = Value.cast(give.payload) ^ int(name == "results")
            m.d.comb += [Value.cast(take.payload).eq(payload), take.valid.eq(give.valid), give.ready.eq(take.ready)]
        return m

    monkeypatch.setattr(absmax.Absmax, "elaborate", elaborate)
    waves = tmp_path / "waves.vcd"
    arguments = ["absmax", "--set", "lanes=2", "--tokens", "3", "--sim", QUICKEST]
    said = json.loads(check(*arguments, "--waves", str(waves), "--json").stdout)
    folder = Path(said["folder"])
    assert len(said["differences"]) == 8 and {one["output"] for one in said["differences"]} == {"results"}
    for one in said["differences"]:
        assert (one["got"], one["index"] % 2) == (one["expected"] ^ 1, 0)
    right, wrong = ((folder / f"results_{name}.hex").read_text().split() for name in ("expected", "got"))
    assert [int(line, 16) ^ 1 for line in right] == [int(line, 16) for line in wrong]
    assert (folder / "maxima_expected.hex").read_text() == (folder / "maxima_got.hex").read_text()
    assert {"values.npy", "values.hex", "jobs.hex", "design.v", "log.txt"} <= {file.name for file in folder.iterdir()}
    assert "results__payload" in waves.read_text()
    shown = check(*arguments).stdout
    assert "output results, job 0, vector 0, index 0, transfer 0: expected" in shown and shown.count(": expected ") == 8
