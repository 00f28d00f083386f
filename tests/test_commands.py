"""The commands that make and check engines, as a user calls them: results as JSON, one sentence for a wrong input."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nomul.cli import main
from nomul.model import checkpoints

TINY = [
    "--set",
    "tables=4",
    "--set",
    "rows=2",
    "--set",
    "fill_units=2",
    "--set",
    "n_in_max=512",
    "--set",
    "n_out_max=512",
]


def nomul(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has its libraries; with another `path` for programs, in one of its own."""
    if path is not None:
        command = [sys.executable, "-m", "nomul.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": path}, timeout=300)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*arguments])
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


def refuses(pattern: str, *arguments: str, path: str | None = None) -> None:
    """The command ends with exit code 2, nothing on stdout, and one line on stderr that matches."""
    done = nomul(*arguments, path=path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("nomul: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.fullmatch(f"nomul: {pattern}", lines[0]), lines[0]


def test_engines_lists_every_field() -> None:
    engines = json.loads(nomul("engines", "--json").stdout)["engines"]
    assert engines["tlmm"]["fields"]["group"] == {
        "default": 3,
        "allowed": "2 to 5",
        "meaning": "activations per table (G)",
    }


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        (["group=9"], r"TlmmConfig field 'group' is 9; allowed: 2 to 5"),
        (["table=quarter"], r"TlmmConfig field 'table' is 'quarter'; allowed: half, full"),
        (["tables=8", "fill_units=3"], r"TlmmConfig field 'fill_units' is 3; allowed: a divisor of tables = 8"),
        (["rows=many"], r"field 'rows' is 'many'; allowed: 1 to 256"),
        (["rows"], r"setting 'rows' has no '='; write it as field=value, for example tables=16"),
        (["lanes=3"], r"engine tlmm has no field 'lanes'; its fields are group, tables, .*"),
        (
            ["total_bits=20"],
            r"TlmmConfig field 'total_bits' is 20; allowed: 21 or more, for sums of n_in_max = 4096 .*",
        ),
    ],
)
def test_a_wrong_configuration_is_refused(settings: list[str], pattern: str, tmp_path: Path) -> None:
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    refuses(pattern, "verilog", "tlmm", *arguments, "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_engine_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    refuses(r"no engine is called 'tlm'; the engines are tlmm.*; the units .*", "verilog", "tlm", "-o", str(tmp_path))


def test_verilog_is_written_once_and_its_manifest_names_its_ports(tmp_path: Path) -> None:
    for bus, top in (("stream", "tlmm"), ("axi", "tlmm_axi")):
        arguments = ["verilog", "tlmm", *TINY, "--bus", bus, "-o", str(tmp_path / bus), "--json"]
        assert json.loads(nomul(*arguments).stdout)["written"] == ["tlmm.v", "tlmm.json", "tlmm.vh"]
        assert json.loads(nomul(*arguments).stdout)["written"] == []
        text = (tmp_path / bus / "tlmm.v").read_text()
        description = json.loads((tmp_path / bus / "tlmm.json").read_text())
        body = re.search(rf"^module {top}\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
        assert body is not None
        found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body[0], re.MULTILINE)
        ports = {name: (port["direction"], port["width"]) for name, port in description["ports"].items()}
        assert {name: (direction, int(high or 0) + 1) for direction, high, name in found} == ports
        assert all(port["meaning"] for port in description["ports"].values())


@pytest.mark.bench
@pytest.mark.parametrize("bus", ["stream", "axi"])
def test_check_says_what_it_compared(bus: str) -> None:
    layer = "model.layers.1.self_attn.k_proj"
    done = nomul("check", "tlmm", *TINY, "--layer", layer, "--tokens", "3", "--bus", bus, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    expected = {"engine", "mode", "layer", "weights", "n_in", "n_out", "tokens", "outputs", "mismatches"}
    expected |= {"first_mismatch", "cycles", "activations", "jobs", "largest_job", "job_cycles"}
    expected |= {
        "model_cycles",
        "macs",
        "macs_per_cycle_peak",
        "utilization",
        "seed",
        "seconds",
        "differences",
        "folder",
    }
    assert result.keys() == expected
    assert (result["layer"], result["mismatches"], result["first_mismatch"]) == (layer, 0, None)
    assert result["outputs"] == result["n_out"] * 3
    if bus == "stream":
        assert result["cycles"] == result["model_cycles"]


def test_a_layer_that_does_not_exist_is_refused() -> None:
    refuses(r".*has no layer 'model.layers.9.q'.*", "check", "tlmm", *TINY, "--layer", "model.layers.9.q")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    file.write_bytes(checkpoints.path().read_bytes()[:5000])
    refuses(rf".*{file.name}.*", "check", "tlmm", *TINY, "--checkpoint", str(file))


def test_activations_out_of_range_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "activations.npy"
    values = np.zeros((2, 160), dtype=np.int64)
    values[1, 7] = 128
    np.save(file, values)
    pattern = r"activation 7 of token 1 is 128; allowed: -128 to 127 \(act_bits = 8\)"
    refuses(pattern, "check", "tlmm", *TINY, "--activations", str(file))
    np.save(file, values.astype(np.float32))
    refuses(r".*holds float32 \[2, 160\]; activations are integers \[tokens, n_in\]", "check", "tlmm", *TINY,
            "--activations", str(file))  # fmt: skip
    np.save(file, np.zeros((2, 7), dtype=np.int64))
    refuses(r"activations have shape \[2, 7\]; .*", "check", "tlmm", *TINY, "--activations", str(file))
    file.write_bytes(b"not an array")
    refuses(r".*is not an \.npy file of numbers", "check", "tlmm", *TINY, "--activations", str(file))


def test_a_layer_longer_than_the_engine_is_refused() -> None:
    refuses(r"n_in is 160; this core takes 1 to 64; set n_in_max to 160 or more", "check", "tlmm", *TINY,
            "--set", "n_in_max=64")  # fmt: skip


def test_a_missing_simulator_is_named(tmp_path: Path) -> None:
    refuses(r"Icarus Verilog \(iverilog\) is not installed; .*", "check", "tlmm", *TINY, "--sim", "icarus",
            path=str(tmp_path))  # fmt: skip


def test_a_mode_that_does_not_exist_is_refused() -> None:
    refuses(
        r"engine boothflex so configured has no mode 'int5'; its modes are int8, ternary",
        "check",
        "boothflex",
        "--mode",
        "int5",
    )
    refuses(r"model.layers.0.input_layernorm.weight has shape \[160\]; a layer's weights are a matrix",
            "check", "baseline", "--layer", "model.layers.0.input_layernorm")  # fmt: skip
    refuses(r".*has no layer 'model.embed_tokens'.*", "check", "tlmm", "--layer", "model.embed_tokens")


@pytest.mark.bench
@pytest.mark.parametrize(
    ("engine", "mode", "weights"),
    [
        ("baseline", "int8", "quantised to -128 to 127 with one scale"),
        ("boothflex", "int8", "quantised to -128 to 127 with one scale"),
        ("boothflex", "ternary", "ternary, as they are"),
        ("boothflex_bs", "int4", "quantised to -8 to 7 with one scale"),
    ],
)
def test_check_draws_weights_that_suit_the_mode(engine: str, mode: str, weights: str) -> None:
    small = ["--set", "lanes_in=8", "--set", "rows=2", "--tokens", "2"]
    done = nomul("check", engine, "--mode", mode, *small, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["mode"], result["weights"], result["mismatches"]) == (mode, weights, 0)
    assert result["layer"] == ("model.embed_tokens" if "quantised" in weights else "model.layers.0.self_attn.q_proj")
    assert result["cycles"] == result["model_cycles"]
