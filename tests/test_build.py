"""`nomul build`: design files, their schemas, where what is wrong stands, and what is said to be proven."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomul.catalog import choose_variant, configure
from nomul.cli import main
from nomul.commands import build_core, build_machine
from nomul.commands.build_design import load_design
from nomul.commands.build_init import template
from nomul.commands.build_proof import Claim
from nomul.commands.build_schema import MACHINE, design_schema, named_schema
from nomul.commands.build_weights import write_random
from nomul.commands.grouped import read_grouped
from nomul.commands.operands import choose_operands
from nomul.cores.discover import cores, matmul_cores
from nomul.errors import InputError, MismatchError
from nomul.toml_lines import BYTES_MAX, key_lines, read_toml

NAMES = [*cores(), MACHINE]
SMALL = """design = "tint"
target = "ice40"
[fields]
lanes_in = 8
rows = 2
[weights]
random = 3
shape = "16x64"
[check]
tokens = 2
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run `nomul`; return its exit code, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def written(folder: Path, text: str) -> Path:
    file = folder / "design.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_what_init_writes_is_a_design_and_names_every_key(name: str, tmp_path: Path) -> None:
    text = template(name)
    design = load_design(written(tmp_path, text))
    assert design.name == name and max(map(len, text.splitlines())) <= 80
    jsonschema.validate(tomllib.loads(text), design_schema())
    whole = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    properties = dict(design.schema["properties"])
    if name == MACHINE:
        properties["engine_fields"] = design.schema["allOf"][0]["then"]["properties"]["engine_fields"]
    assert set(whole) == set(properties)
    for key, entry in properties.items():
        if entry.get("type") == "object":
            assert set(whole[key]) == set(entry["properties"])


@pytest.mark.parametrize("name", NAMES)
def test_the_commented_defaults_are_the_configurations(name: str, tmp_path: Path) -> None:
    """Of each field of a core alone; some do not go together with others' derived values."""
    text = template(name)
    table = text.partition("[fields]")[2].partition("\n[")[0]
    for line in re.findall(r"^# (\w+ = .*)$", table, flags=re.MULTILINE):
        if "an example" in line or line.startswith(("ports", "port_bits", "ring")):
            continue
        design = load_design(written(tmp_path, f'design = "{name}"\n[fields]\n{line}\n'))
        if name != MACHINE:
            engine, settings, _ = choose_variant(name, design.settings)
            assert configure(engine, settings) == configure(engine)


def test_schemas_are_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        jsonschema.Draft202012Validator.check_schema(named_schema(name))
    code, text, _ = said(capsys, "engines", "--schema")
    assert code == 0 and json.loads(text) == json.loads(json.dumps(design_schema()))
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    code, text, _ = said(capsys, "engines", "--schema", "TINT")
    assert code == 0 and json.loads(text)["title"] == "tint"
    assert said(capsys, "engines", "--schema", "tint", "tlmm")[0] == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('target = "ecp5"', "1: design is missing; it names what is built: .*"),
        ('\ndesign = "tnt"', "2: design is 'tnt', which Nomul does not have; did you mean tint.*"),
        ("design = 5", "1: design is 5, .*; allowed: .*"),
        ('design = "tint"\n\n# bus\nbuss = "axi"', r"4: a design of tint has no key 'buss'; did you mean bus\?"),
        ('design = "tint"\nbus = "axl"', "2: bus is 'axl'; allowed: stream, axi, axi-padded"),
        ('design = "tint"\nfields = 3', "2: fields is 3; allowed: a table"),
        ('design = "tint"\n[fields]\nlane_in = 3', r"3: \[fields\] of tint has no key 'lane_in'; did you mean .*"),
        ('design = "tint"\n[fields]\nrows = 0', "3: fields.rows is 0; allowed: 1 to 256"),
        ('design = "tint"\nfields.rows = 2.0', "2: fields.rows is '2.0'; allowed: 1 to 256"),
        ('design = "tint"\n[check]\nstall = nan', "3: check.stall is nan; allowed: a number that is finite"),
        ('design = "tint"\n[check]\ntokens = "4"', "3: check.tokens is '4'; allowed: 1 to .*"),
        ('design = "tint"\n[check]\nactivations = "no"', "3: check.activations is 'no', which is not there"),
        ('design = "tlmm"\n[fields]\ntables = 8\nfill_units = 3', "4: fields.fill_units is 3; allowed: .*"),
        ('design = "tlmm"\ntarget = "ice40"', "2: target is 'ice40'; allowed: .*"),
        ('design = "top_k"\n[weights]\nrandom = 1', "2: a design of top_k has no key 'weights'; .*"),
        ('design = "tint"\n[weights]\nlayer = "a"\nrandom = 1', "3: weights.layer goes with a checkpoint, .*"),
        ('design = "tint"\n[weights]\nshape = "8x8"', "3: weights.shape goes with weights.random only; .*"),
        ('design = "tint"\n[report]\nliberty = ["design.toml"]', "3: report.liberty goes with target = 'cells' only"),
        ('design = "tint"\ntarget = "cells"', "2: target cells needs report.liberty, .*"),
        (
            'design = "tint"\ntarget = "xcup"\n[report]\nplace_and_route = true',
            "4: report.place_and_route is not possible .*",
        ),
        ('design = "accelerator"\n[weights]\nrandom = 1', "3: weights.random goes with weights.shape, .*"),
        ('design = "accelerator"\n[engine_fields]\nlanes_in = 8', r"3: \[engine_fields\] of accelerator has no key .*"),
        ('design = "tint"\nbus = "axi', "2: this is no TOML: .*"),
        ('design = "tint"\nbus = ', "2: this is no TOML: .*"),
    ],
)  # fmt: skip
def test_a_message_says_the_line(text: str, sentence: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InputError) as refused:
        load_design(file)
    assert re.fullmatch(rf"{re.escape(str(file))}:{sentence}", str(refused.value)), refused.value


def test_the_engine_of_a_machine_says_which_fields_it_has(tmp_path: Path) -> None:
    text = 'design = "accelerator"\n[fields]\nengine = "tint"\n[engine_fields]\nlanes_in = 8\n'
    assert load_design(written(tmp_path, text)).settings == ("lanes_in=8",)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ('[weights]\nlayer = "none"\n', r"4: .* has no layer 'none'; .*"),
        ('[weights]\nmode = "int8"\n', r"4: .* no mode 'int8'.*"),
        ('top = "a__b"\n', r"3: top is 'a__b'; allowed: .*"),
    ],
)
def test_what_a_command_refuses_is_said_of_the_line(
    keys: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, f'design = "tint"\ntarget = "ice40"\n{keys}')
    code, out, error = said(capsys, "build", str(file), "-o", str(tmp_path / "out"))
    (line,) = [line for line in error.splitlines() if line.startswith("nomul: ")]
    assert code == 2 and not out and not (tmp_path / "out").exists()
    assert re.fullmatch(rf"nomul: {re.escape(str(file))}:{sentence}", line), line


def test_lines_of_keys() -> None:
    text = 'a = 1\n\n[b] # c\nd.e = [\n 1,\n]\nf = """\ng = 1\n"""\n"h i" = { j = 1 }\n[[k]]\nl = 1\n[b.m]\nn = 1\n'
    assert key_lines(text) == {
        ("a",): 1, ("b",): 3, ("b", "d"): 4, ("b", "d", "e"): 4, ("b", "f"): 7, ("b", "h i"): 10, ("b", "h i", "j"): 10,
        ("k",): 11, ("k", "l"): 12, ("b", "m"): 13, ("b", "m", "n"): 14,
    }  # fmt: skip


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.integers(0, 3)), unique_by=lambda x: x[0]))
def test_every_key_has_its_line(keys: list[tuple[str, int]]) -> None:
    lines, expected = [], {}
    for key, blank in keys:
        lines += [""] * blank + [f"{key} = [", "# no = 1", "]"]
        expected[(key,)] = len(lines) - 2
    assert key_lines("\n".join(lines)) == expected


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a = 1\nb = \xff\n", ":2: this is no text in UTF-8, .*"),
        (b"#" * (BYTES_MAX + 1), " has more than 65,536 bytes; .*"),
        (b"a = " + b"[" * 20_000, ": lists or tables are nested too deeply"),
    ],
)
def test_what_is_no_toml_is_refused(data: bytes, sentence: str, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_bytes(data)
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}{sentence}$"):
        read_toml(file)


@pytest.mark.parametrize("name", matmul_cores())
def test_random_weights_are_a_checkpoint(name: str, tmp_path: Path) -> None:
    core, file = cores()[name], tmp_path / "weights.safetensors"
    config = configure(name)
    for mode in config.modes:
        write_random(file, config, mode.name, (16, 128), 1, groups=core.in_groups({}))
        if core.in_groups({}):
            assert read_grouped(file, None).operands.shape == (16, 128)
        else:
            operands = choose_operands(name, config, file, mode=mode.name)
            assert operands.weight.shape == (16, 128) and operands.weight.unique().numel() > 1
    with pytest.raises(InputError, match="multiples of 8"):
        write_random(file, config, None, (3, 8), 1, groups=True)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "tint.toml")
    for _ in range(2):
        assert said(capsys, "build", "--init", "tint", "-o", file)[0] == 0
    code, _, error = said(capsys, "build", "--init", "tlmm", "-o", file)
    assert code == 2 and "is there already" in error


def test_a_claim_says_how_it_is_known() -> None:
    with pytest.raises(ValueError, match=r"'guessed'; allowed: modelled, simulated, .*"):
        Claim("LUT", "3", "guessed")


FIGURES: dict[str, Any] = {"outputs": 9, "mismatches": 0, "cycles": 8, "model_cycles": 8, "folder": "kept"}


@pytest.mark.parametrize(
    ("change", "stall", "passed"),
    [
        ({}, 0, [True, True]),
        ({"mismatches": 1}, 0, [False, True]),
        ({"cycles": 9}, 0, [True, False]),
        ({"cycles": 9}, 0.5, [True, None]),
        ({"job_cycles": 9}, 0, [True, False]),
    ],
)
def test_what_a_simulation_proves(change: dict[str, Any], stall: float, passed: list[bool], tmp_path: Path) -> None:
    design = load_design(written(tmp_path, f'design = "tint"\n[check]\nstall = {stall}\n'))
    assert [claim.passed for claim in build_core.simulated(design, FIGURES | change)] == passed


def test_a_machine_that_differs_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(self: Any) -> dict[str, Any]:
        raise MismatchError("layer 0 differs")

    monkeypatch.setattr(build_machine.MachineSteps, "simulate", simulate)
    monkeypatch.setattr(build_machine.MachineSteps, "verilog", lambda self, folder: {})
    file = written(tmp_path, 'design = "accelerator"\n')
    code, out, _ = said(capsys, "build", str(file), "-o", str(tmp_path / "out"), "--json")
    first = json.loads(out)["claims"][0]
    assert code == 1 and (first["what"], first["passed"], first["text"]) == ("values", False, "layer 0 differs")


@pytest.mark.parametrize("keys", ['[fields]\nmemory = "axi"', "[fields]\nqueries = 2", '[weights]\nshape = "tiny"'])
def test_a_machine_that_is_not_simulated_says_so(
    keys: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_machine.MachineSteps, "verilog", lambda self, folder: {})
    text = f'design = "accelerator"\n{keys}\n'
    code, out, _ = said(capsys, "build", str(written(tmp_path, text)), "-o", str(tmp_path / "out"))
    assert code == 0 and "not run" in out and "nothing was proven" in out
    file = written(tmp_path, f"{text}[check]\nsimulate = true\n")
    code, _, error = said(capsys, "build", str(file), "-o", str(tmp_path / "out"))
    assert code == 2 and f"{file}:5: check.simulate is true, but only a machine with" in error


@pytest.mark.bench
@pytest.mark.synth
def test_a_design_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, text, _ = said(capsys, "build", str(written(tmp_path, SMALL)), "-o", str(out))
    assert code == 0 and "passed: outputs, cycles" in text and "synthesised" in text
    proof, report = (json.loads((out / f"{name}.json").read_text()) for name in ("proof", "report"))
    claims = {claim["what"]: claim for claim in proof["claims"]}
    assert proof["passed"] and claims["outputs"]["value"] == 32 and claims["Fmax, MHz"]["known"] == "not run"
    assert claims["LUT"]["value"] == report["steps"]["report"]["lut"] > 0
    assert set(proof["files"]) == {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()} - {
        "proof.json",
        "report.json",
    }


@pytest.mark.bench
def test_what_init_writes_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = template("leading_one").replace("synthesise = true", "synthesise = false")
    code, out, _ = said(capsys, "build", str(written(tmp_path, text)), "-o", str(tmp_path / "out"), "--json")
    assert code == 0 and [claim["passed"] for claim in json.loads(out)["claims"]] == [True, True, None]


@pytest.mark.bench
def test_a_layer_in_groups_gives_the_verilog_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written is what was simulated: the group of the weights, not the default."""
    text = 'design = "mixpe"\n[fields]\nlanes_in = 8\nrows = 2\n[weights]\nrandom = 1\nshape = "8x128"\n'
    text += "[check]\ntokens = 1\n[report]\nsynthesise = false\n"
    assert said(capsys, "build", str(written(tmp_path, text)), "-o", str(tmp_path / "out"))[0] == 0
    packed = json.loads((tmp_path / "out" / "streams" / "pack.json").read_text())
    assert json.loads((tmp_path / "out" / "mixpe.json").read_text())["config"] == packed["config"]
    assert packed["config"]["group"] == 64
