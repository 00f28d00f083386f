"""What commands say of themselves, the names that they take, and how their errors speak."""

import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console

from nomul import console
from nomul.board_designs import BOARDS, find_board
from nomul.catalog import choose_variant, configure
from nomul.cli import cli, main
from nomul.commands.shapes import find_shape
from nomul.cores.discover import cores, matmul_cores
from nomul.help import EXAMPLES
from nomul.names import canonical
from nomul.report.shapes import DEVICES, find_device


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every command and group."""
    context, found = click.Context(group), []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


PATHS = commands(cli)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run `nomul`; return its exit code, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_is_whole(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = said(capsys, *path, "--help")
    assert code == 0 and "..." not in text.partition("Commands:")[2].partition("Examples:")[0]
    assert max(map(len, text.partition("Examples:")[0].splitlines())) <= 80
    if "Commands:" in text:
        return
    words = " ".join(text.split())
    for example in EXAMPLES[" ".join(path)]:
        assert f"\n    {example}\n" in text and example.startswith(f"nomul {' '.join(path)}")
    usage = text.partition("Options:")[0]
    if "ENGINE" in usage.splitlines()[0]:
        assert (
            f"ENGINE: {', '.join(matmul_cores())}" in words
            and f"ENGINE, a unit: {', '.join(name for name in cores() if name not in matmul_cores())}" in words
        )
    if "BOARD" in usage or "--board" in text:
        assert f"BOARD: {', '.join(BOARDS)}" in words


def test_defaults_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(said(capsys, "accelerator", "verilog", "--help")[1].split())
    for default in (
        "AXI4 ports. [default: (1);",
        "on the chip. [default: (1024);",
        "[tlmm|tint|boothflex] [default: tlmm]",
    ):
        assert default in text
    assert "[default: 0]" in " ".join(said(capsys, "check", "--help")[1].split())


def test_one_engine_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = said(capsys, "engines", "TINT", "top-k")
    assert code == 0 and "tint: " in text and "top_k: " in text and "tlmm" not in text
    found = json.loads(said(capsys, "engines", "Tint", "--json")[1])
    assert list(found["engines"]) == ["tint"] and not found["units"]
    code, _, error = said(capsys, "engines", "tin")
    assert code == 2 and error.startswith("nomul: no engine is called 'tin'; the engines are tlmm, ")


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (("ulx3s", "ULX3S", "ULX3S-85F", "ulx3s_85f"), "ulx3s"),
        (("tang_nano_20k", "TangNano20K", "Tang Nano 20K"), "tang_nano_20k"),
        (("icebreaker", "iCEBreaker"), "icebreaker"),
        (("kv260", "KV260"), "kv260"),
    ],
)
def test_a_board_has_one_name(spellings: tuple[str, ...], name: str) -> None:
    for spelling in spellings:
        assert find_device(spelling).name == name
        assert name not in BOARDS or find_board(spelling).name == name
    assert {*BOARDS, "kv260"} == set(DEVICES)


def test_a_shape_has_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    for spelling in ("0.73B", "0.73b", "bitnet-0.73b", "BitNet 0.73B"):
        assert find_shape(spelling).name == "bitnet-0.73b"
    assert find_shape("2b-4T").name == find_shape("bitnet_2B_4T").name == "bitnet-2b-4t"
    assert find_shape("TINY-bwta").name == "tiny_bwta"
    machine = ["--memory", "AXI", "--ring", "4096", "--target", "XCUP", "--no-synthesis", "--json"]
    answers: list[dict[str, Any]] = []
    for shape in ("0.73B", "bitnet-0.73b"):
        code, text, _ = said(capsys, "accelerator", "report", "--shape", shape, *machine)
        assert code == 0
        answers.append(json.loads(text))
    assert answers[0] == answers[1] and answers[0]["model"] == "bitnet-0.73b" and answers[0]["target"] == "xcup"


def test_an_engine_and_a_model_have_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert configure("BoothFlex-BS") == configure("boothflex_bs")
    assert choose_variant("MixPE", ("activation=fp16",))[0] == "mixpe_fp16"
    assert canonical("engine", matmul_cores()) == "engine"
    tiny = said(capsys, "generate", "--checkpoint", "TINY", "--prompt", "A", "--tokens", "3", "--json")
    assert tiny[0] == 0 and Path(json.loads(tiny[1])["checkpoint"]).name == "tiny.safetensors"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("accelerator verilog --shape tiny --memory axi --ring 4 -o x", r"--ring is 4; allowed: \d+ or more, .*"),
        ("accelerator verilog --shape tiny --lanes 7 -o x", r"--lanes is 7; allowed: an even number from 2 up"),
        ("accelerator report --shape tiny --tile 999 --target ecp5", r"--tile is 999; allowed: 1 to the context, 256"),
        ("accelerator verilog --shape tiny --set group=9 -o x", r"TlmmConfig field 'group' is 9; allowed: 2 to 5"),
        ("export kv260 --shape tiny --memory axi --clock-mhz 5 -o x", r"--clock-mhz is 5; allowed on a KV260: .*"),
        ("export kv260 --shape tiny --memory axi --port-bits 256 -o x", r"--port-bits is 256; an HP port of .*"),
        ("export axi-ip tlmm --ip-version a,b -o x", r"--ip-version is 'a,b'; allowed: letters, .*"),
        ("generate --prompt A --backend rtl --lanes 7", r"--lanes is 7; allowed: an even number from 2 up"),
        ("train --text text.txt --size tiny --learning-rate 0 -o y", r"--learning-rate is 0; allowed: above 0"),
    ],
)  # fmt: skip
def test_a_message_names_the_option(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("to be or not to be\n" * 200)
    code, _, error = said(capsys, *arguments.split())
    assert code == 2 and re.fullmatch(f"nomul: {sentence}\n", error)
    assert not Path("x").exists()


def test_progress_is_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written, clock = io.StringIO(), itertools.count()
    monkeypatch.setattr(console, "stderr", Console(file=written, width=40, **console.PLAIN))
    with console.status("elaborating a[/]b") as say:
        say("writing")
    bar = console.progress_bar(get_time=lambda: float(next(clock)))
    with bar:
        task = bar.add_task("Reading", total=100)
        for _ in range(100):
            bar.advance(task)
    lines = written.getvalue().splitlines()
    assert lines[:3] == ["elaborating a[/]b", "writing", "Reading"]
    assert lines[3:] == [f"Reading: {tenth} %" for tenth in range(10, 101, 10)]
    written.truncate(0)
    with console.progress("Fast", 1000) as advance:
        for _ in range(1000):
            advance()
    assert written.getvalue().strip("\0") == "Fast\n"
