# amaranth: UnusedElaboratable=no
"""The units through the commands: what they list, write and compare, and one sentence for a wrong input."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nomul.attention.bwta_attention import BwtaAttentionConfig
from nomul.bus.axi import AxiCore
from nomul.bus.job_registers import job_registers
from nomul.cores.discover import cores, find_core
from nomul.errors import InputError
from nomul.formats.bwta_attention import bwta_attention_job
from nomul.fpga.targets import TARGETS
from tests.test_commands import nomul, refuses

SMALL = {
    "absmax": ["--set", "lanes=4", "--set", "length_max=64"],
    "top_k": ["--set", "lanes=4", "--set", "scores_max=64", "--set", "score_bits=8"],
    "leading_one": ["--set", "lanes=4", "--set", "length_max=32", "--set", "keys_max=100"],
    "systolic": [
        "--set",
        "rows=2",
        "--set",
        "columns=3",
        "--set",
        "group=8",
        "--set",
        "n_in_max=32",
        "--set",
        "n_out_max=20",
        "--set",
        "tokens_max=9",
        "--set",
        "scale_bits=4",
    ],
    "bwta_attention": [
        "--set",
        "lanes_in=8",
        "--set",
        "rows=4",
        "--set",
        "size_max=20",
        "--set",
        "keys_max=40",
    ],
}


UNITS = {name: core for name, core in cores().items() if not core.streams_products}


def test_engines_lists_the_units() -> None:
    units = json.loads(nomul("engines", "--json").stdout)["units"]
    assert [*units] == [name for name in UNITS if not find_core(name).multiplies]
    assert units["leading_one"]["fields"]["predictor"]["allowed"] == "symmetric, asymmetric"


def test_names_and_numbers_are_unique() -> None:
    numbers = [core.gateware.number for core in cores().values()]
    assert len(set(numbers)) == len(numbers)
    assert all(name == core.name for name, core in cores().items())


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("bus", ["stream", "axi"])
def test_verilog_and_its_manifest(unit: str, bus: str, tmp_path: Path) -> None:
    assert nomul("verilog", unit, *SMALL[unit], "--bus", bus, "-o", str(tmp_path)).returncode == 0
    text = (tmp_path / f"{unit}.v").read_text()
    description = json.loads((tmp_path / f"{unit}.json").read_text())
    top = unit if bus == "stream" else f"{unit}_axi"
    body = re.search(rf"^module {top}\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body[0], re.MULTILINE)
    ports = {name: (port["direction"], port["width"]) for name, port in description["ports"].items()}
    assert {name: (direction, int(high or 0) + 1) for direction, high, name in found} == ports
    assert all(port["meaning"] for port in description["ports"].values())
    limits = description["derived"]["job_limits"]
    names = [register["name"] for register in description["registers"]]
    assert names == [] if bus == "stream" else {name.upper() for name in limits} <= set(names)


@pytest.mark.bench
@pytest.mark.parametrize("unit", UNITS)
def test_check_says_what_it_compared(unit: str) -> None:
    done = nomul("check", unit, *SMALL[unit], *LAYER.get(unit, ()), "--tokens", "12", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    if unit in LAYER:
        assert (result["mismatches"], result["job_cycles"]) == (0, result["model_cycles"])
        assert (result["outputs"], result["jobs"], result["layer"]) == (12 * 160, 1, "model.layers.0.self_attn.q_proj")
        return
    assert result.keys() == {
        "engine", "jobs", "outputs", "mismatches", "first_mismatch", "cycles", "values", "values_per_cycle_peak",
        "utilization", "largest_job", "job_cycles", "model_cycles", "seed", "seconds",
        "differences", "folder",
    }  # fmt: skip
    assert (result["engine"], result["jobs"], result["mismatches"], result["first_mismatch"]) == (unit, 12, 0, None)
    assert result["outputs"] > 12
    assert result["job_cycles"] == result["model_cycles"]


LAYER = {
    "systolic": [f"--set={field}" for field in ("n_in_max=160", "n_out_max=160", "group=80", "tokens_max=12",
                                                "scale_bits=8")],
}  # fmt: skip
"""Fields with which a core that multiplies takes a layer of the committed model."""

FP16 = [*SMALL["systolic"], "--set", "activation=fp16", "--set", "fraction_bits=9"]


def test_the_fp16_form_says_the_unit_of_its_results(tmp_path: Path) -> None:
    assert nomul("verilog", "systolic", *FP16, "-o", str(tmp_path)).returncode == 0
    ports = json.loads((tmp_path / "systolic.json").read_text())["ports"]
    assert "in units of 2^-9" in ports["results__payload"]["meaning"]
    assert ports["vectors__payload"]["width"] == 3 * 16


@pytest.mark.bench
def test_check_of_the_fp16_form_behind_axi() -> None:
    done = nomul("check", "systolic", *FP16, "--set", "dataflow=weight", "--bus", "axi", *LAYER["systolic"], "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["mismatches"], result["job_cycles"]) == (0, result["model_cycles"])


@pytest.mark.synth
def test_report_of_the_fp16_form() -> None:
    done = nomul("report", "systolic", *FP16, "--target", "ecp5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["config"]["activation"] == "fp16"
    assert result["lut"] > 1000 and result["dsp"] == 0


@pytest.mark.bench
def test_absmax_takes_vectors_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npy"
    np.save(file, np.arange(-60, 60).reshape(3, 40) * 1000)
    done = nomul("check", "absmax", *SMALL["absmax"], "--activations", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_job"] == {"length": 40, "vectors": 3}


@pytest.mark.synth
@pytest.mark.parametrize("unit", UNITS)
def test_report_counts_values(unit: str) -> None:
    done = nomul("report", unit, *SMALL[unit], "--target", "ice40", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["engine"] == unit
    assert result["lut"] > 100 and result["dsp"] == 0
    mine, other = ("mac", "value") if find_core(unit).multiplies else ("value", "mac")
    assert {f"{mine}s_per_cycle", f"lut_per_{mine}", f"lut_per_sustained_{mine}", "job", "utilization"} <= result.keys()
    assert not any(other in name for name in result)
    assert "ice40" in TARGETS


@pytest.mark.parametrize(
    ("unit", "settings", "pattern"),
    [
        ("absmax", ["lanes=0"], r"AbsmaxConfig field 'lanes' is 0; allowed: 1 to 256"),
        ("absmax", ["vectors_waiting=9"], r"AbsmaxConfig field 'vectors_waiting' is 9; allowed: 12 or more, for .*"),
        ("top_k", ["lanes=6"], r"TopKConfig field 'lanes' is 6; allowed: multiples of 4 from 4 to 128"),
        ("top_k", ["score_bits=1"], r"TopKConfig field 'score_bits' is 1; allowed: 2 to 64"),
        (
            "bwta_attention",
            ["rows=3"],
            r"BwtaAttentionConfig field 'lanes_in' is 64; allowed: multiples of 4 and of .*",
        ),
        ("bwta_attention", ["lanes_in=6", "rows=3"], r"BwtaAttentionConfig .* is 6; allowed: multiples of 4 and of .*"),
        (
            "bwta_attention",
            ["size_max=50", "keys_max=60"],
            r"BwtaAttentionConfig field 'lanes_in' is 64; allowed: at most 60, the larger of size_max and keys_max",
        ),
        (
            "bwta_attention",
            ["target=cells", "queue=16"],
            r"BwtaAttentionConfig field 'queue' is 16; allowed: none for target 'cells', .*",
        ),
        ("systolic", ["activation=bf16"], r"SystolicConfig field 'activation' is 'bf16'; allowed: int8, fp16"),
        (
            "systolic",
            ["activation=fp16", "fraction_bits=30"],
            r"SystolicConfig field 'fraction_bits' is 30; allowed: -2 to 22, 27 being exact, for results of 64 bits .*",
        ),
        ("leading_one", ["predictor=none"], r"LeadingOneConfig field 'predictor' is 'none'; allowed: symmetric, .*"),
        ("leading_one", ["tables=3"], r"unit leading_one has no field 'tables'; its fields are predictor, .*"),
    ],
)
def test_a_wrong_configuration_is_refused(unit: str, settings: list[str], pattern: str, tmp_path: Path) -> None:
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    refuses(pattern, "verilog", unit, *arguments, "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_a_unit_cannot_take_is_refused(tmp_path: Path) -> None:
    refuses(r"--layer is 'x', but top_k has no weights; leave it out", "check", "top_k", "--layer", "x")
    refuses(r"--checkpoint is 'x', but absmax has no weights; leave it out", "check", "absmax", "--checkpoint", "x")
    refuses(
        r"--activations is 'x.npy', but top_k takes random jobs only; .*", "check", "top_k", "--activations", "x.npy"
    )
    refuses(r"file not found: .*absent.npy", "check", "absmax", "--activations", str(tmp_path / "absent.npy"))
    file = tmp_path / "vectors.npy"
    values = np.zeros((2, 40), dtype=np.int64)
    values[1, 7] = 1 << 19
    np.save(file, values)
    refuses(r"value 7 of vector 1 is 524288; allowed: -524288 to 524287 \(word_bits = 20\)", "check", "absmax",
            *SMALL["absmax"], "--activations", str(file))  # fmt: skip
    np.save(file, np.zeros((2, 65), dtype=np.int64))
    refuses(r"length is 65; this unit takes 1 to 64; set length_max to 65 or more", "check", "absmax",
            *SMALL["absmax"], "--activations", str(file))  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"query": torch.zeros(5)},
            r"^the query has shape \[5\] and the values \[9, 6\]; these keys want \[6\] and \[9, 6\]$",
        ),
        (
            {"values": torch.zeros(9, 5)},
            r"^the query has shape \[6\] and the values \[9, 5\]; these keys want \[6\] .*$",
        ),
        ({"query": torch.tensor([0, 0, 128, 0, 0, 0])}, r"^element 2 is 128; allowed: -128 to 127 \(query_bits = 8\)$"),
        ({"keys": torch.full((9, 6), 2)}, r"^.*\b2\b.*$"),
        ({"keys": torch.zeros(9, 21)}, r"^size is 21; this unit takes 1 to 20; set size_max to 21 or more$"),
        ({"keys": torch.zeros(41, 6)}, r"^keys is 41; this unit takes 1 to 40; set keys_max to 41 or more$"),
        ({"query_scale": 0}, r"^query_scale is 0; this unit takes 1 to 255$"),
        ({"query_scale": 256}, r"^query_scale is 256; this unit takes 1 to 255$"),
        ({"score_scale": 41}, r"^score_scale is 41; this unit takes 1 to 40$"),
    ],
)
def test_attention_that_does_not_fit_is_refused(wrong: dict, message: str) -> None:
    config = BwtaAttentionConfig(lanes_in=8, rows=4, size_max=20, keys_max=40)
    operands = {"query": torch.zeros(6), "keys": torch.zeros(9, 6), "values": torch.zeros(9, 6)} | wrong
    tensors = {name: value.to(torch.int64 if name == "query" else torch.int8)
               for name, value in operands.items() if isinstance(value, torch.Tensor)}  # fmt: skip
    with pytest.raises(InputError, match=message):
        bwta_attention_job(config, **({"query_scale": 3, "score_scale": 3} | operands | tensors))


def test_a_number_that_does_not_fit_its_register_is_refused() -> None:
    spec = UNITS["absmax"].gateware
    config = spec.config()
    assert [register.offset for register in job_registers(config)][4:6] == [0x10, 0x14]
    with pytest.raises(ValueError, match=r"^core number -1 is not one of 0 to 4294967295$"):
        AxiCore(spec.component(config), config, -1)


def test_a_job_has_four_registers_at_most() -> None:
    limits = dict.fromkeys("abcd", 7)
    offsets = {each.name: each.offset for each in job_registers(SimpleNamespace(job_limits=limits, modes=()))}
    assert [offsets[name.upper()] for name in limits] == [0x10, 0x14, 0x18, 0x34] and "MODE" not in offsets
    with pytest.raises(ValueError, match=r"^a job has 5 fields; allowed: 4 at most$"):
        job_registers(SimpleNamespace(job_limits=limits | {"e": 1}, modes=()))
