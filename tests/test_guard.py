"""The guard of key figures: it notices what got worse, and the committed baseline has today's cycles."""

import json

from benchmarks import guard
from nomul.cores.discover import matmul_cores


def test_the_baseline_has_every_engine_and_todays_cycles():
    before = json.loads(guard.BASELINE.read_text())
    for engine in matmul_cores():
        assert any(name.startswith(f"{engine} ") and name.endswith("gate equivalents") for name in before), engine
    assert not guard.worse({name: value for name, value in before.items() if name.endswith("cycles")}, guard.cycles())


def test_what_got_worse_is_found():
    before = {"a, LUT": 100, "b, LUT": 100, "c, cycles": 100, "d, cycles": 100, "e, area": 50, "f, LUT": 10}
    now = {"a, LUT": 103, "b, LUT": 104, "c, cycles": 100, "d, cycles": 101, "e, area": 40}
    assert guard.worse(before, now) == {"b, LUT": (100, 104), "d, cycles": (100, 101), "f, LUT": (10, None)}


def test_it_fails_with_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(guard, "measure_key_figures", lambda: {"tint, LUT": 100.0, "tint, cycles": 10.0})
    assert guard.main(["--update"]) == 0
    assert guard.main([]) == 0
    monkeypatch.setattr(guard, "measure_key_figures", lambda: {"tint, LUT": 104.0, "tint, cycles": 11.0})
    assert guard.main([]) == 1
    said = capsys.readouterr().out
    assert "2 key figures: 2 worse, 0 better, 0 new" in said
    assert "+4.0%" in said and "+10.0%" in said
