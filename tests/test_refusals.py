"""What is wrong is refused at once, in one line that names it: numbers, files, places, options without effect."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

import sim.conftest as benches
from nomul.cli import main
from nomul.console import progress, status, stdout
from nomul.errors import InputError
from nomul.jobs.cache import Cache, place
from tests.cli_files import LONG, fill

TALK = ["talk", "sim", "--prompt", "ROMEO:"]
CHECK = ["check", "tint", "--set", "lanes_in=8"]
DEVICE = "is a device, a pipe or a socket"

REFUSED = [
    ([*CHECK, "--stall", "nan"], r"--stall is 'nan'; allowed: a number, 0 to 0\.9"),
    ([*CHECK, "--stall", "0.95"], r"--stall is 0\.95; allowed: 0 to 0\.9"),
    ([*CHECK, "--tokens", "\u0663"], r"--tokens is '\u0663'; allowed: a whole number, 1 to 65535"),
    ([*CHECK, "--tokens", "1_0"], r"--tokens is '1_0'; allowed: a whole number, 1 to 65535"),
    ([*CHECK, "--seed", str(1 << 64)], r"--seed is 18446744073709551616; allowed: -\d+ to 18446744073709551615"),
    ([*CHECK, "--set", "rows=1_0"], r"field 'rows' is '1_0'; allowed: 1 to \d+"),
    ([*CHECK, "--set", "rows=\uff11"], r"field 'rows' is '\uff11'; allowed: 1 to \d+"),
    ([*CHECK, "--layer", ""], r".* has no layer ''; it has .*"),
    ([*CHECK, "--checkpoint", "pipe"], r"pipe is not a file; a safetensors file is needed"),
    ([*CHECK, "--activations", "pipe"], rf"pipe {DEVICE}; a file is needed"),
    ([*CHECK, "--activations", "huge.npy"], r"huge\.npy is cut short, or is not an \.npy file of numbers"),
    ([*CHECK, "--checkpoint", LONG], r"File name too long: x{900,} \.\.\. x+"),
    (["check", "absmax", "--mode", "zzz"], r"--mode is 'zzz', but absmax has no modes; leave it out"),
    (["check", "mixpe", "--mode", "zzz"], r"engine mixpe so configured has no mode 'zzz'; its modes are int4"),
    (["check", "mixpe", "--layer", ""], r".* has no layer ''; it has .*"),
    (["eval", "--text", "zero"], rf"zero {DEVICE}; a file is needed"),
    (["verilog", "tint", "-o", "full"], rf"full cannot be written: it {DEVICE}"),
    (["verilog", "tint", "-o", "text"], r"text cannot be written: it is a file"),
    (["trace", "-o", "folder"], r"folder cannot be written: it is a folder"),
    (["trace", "-o", "text/below"], r"text/below cannot be written: Not a directory"),
    (["trace", "-o", "loop"], r"loop cannot be written: Too many levels of symbolic links"),
    (["trace", "-o", LONG], r"x+ \.\.\. x+ cannot be written: File name too long"),
    (["trace", "-o", ""], r"-o is empty; it must be a path"),
    (["bitstream", "icebreaker", "-o", "null"], rf"null cannot be written: it {DEVICE}"),
    (["bitstream", "icebreaker", "--engine", "absmax"], r"absmax has other streams than a board.s demonstration; .*"),
    (["bitstream", "ulx3s", "--checkpoint", "small"], r"small does not fit ulx3s: its parameters take 15\.9 Mbit, .*"),
    (["selftest", "sim", "--engine", "absmax"], r"absmax has other streams than a board.s demonstration; .*"),
    (["selftest", "sim", "--baud", "3"], r"--baud is 3; allowed: 9600, .*"),
    (["talk", "sim", "--prompt", "a#b"], r"the character '#' at position 1 is not one of the model's 65: .*"),
    (["talk", "sim", "--prompt", ""], r"the prompt has 0 characters; the board takes 1 to 256, its context"),
    (["talk", "sim", "--prompt", "a" * 257], r"the prompt has 257 characters; the board takes 1 to 256, its context"),
    ([*TALK, "--baud", "0"], r"--baud is 0; allowed: 1 or more"),
    ([*TALK, "--baud", "7"], r"--baud is 7; allowed: 9600, .*"),
    ([*TALK, "--timeout", "nan"], r"--timeout is 'nan'; allowed: a number, above 0"),
    ([*TALK, "--timeout", "0"], r"--timeout is 0; allowed: above 0"),
    ([*TALK, "--port", "/dev/x"], r"the port is 'sim' and --port is '/dev/x'; give one of them"),
    (["talk", "/dev/x", "--board", "ulx3s"], r"--board goes with port sim only, which simulates it"),
    (["train", "--text", "text", "-o", "m", "--weight-decay", "nan"], r"--weight-decay is 'nan'; allowed: .*"),
    (["report", "tint", "--target", "ecp5", "-o", "x"], r"-o goes with --all only; the figures of one engine .*"),
    (["report", "--all", "--layer", "8x8"], r"--layer goes without --all only, which takes layers of its own"),
    (["report", "tint", "--target", "ecp5", "--layer", "\u0663x8"], r"layer '\u0663x8' is not N_OUTxN_IN .*"),
    (["generate", "--prompt", "a", "--lanes", "4"], r"--lanes goes with --backend rtl only, not integer"),
    (["generate", "--prompt", "a", "--seed", "9" * 30], r"--seed is 9{30}; allowed: .*"),
    (["accelerator", "verilog", "--shape", "tiny", "--random", "9" * 30, "-o", "x"], r"--random is 9{30}; allowed: .*"),
    (["explore", "--model", "tiny", "--target", "ecp5", "--budget", "lut=1_0"], r"budget 'lut=1_0' is not .*"),
    (["check", "a[/]b"], r"no engine is called 'a\[/\]b'; the engines are .*"),
    (["check", "a\nb\x1b[31m"], r"no engine is called 'a\\nb\\x1b\[31m'; the engines are .*"),
    (["check"], r"missing argument 'ENGINE'; see nomul check --help"),
    (["check", "tint", "--nosuch"], r"no such option '--nosuch'; see nomul check --help"),
    (["nosuch"], r"no such command 'nosuch'; see nomul --help"),
]  # fmt: skip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of every kind; whatever takes minutes fails the test."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, b"none")

    def reached(*arguments: object, **named: object) -> None:
        pytest.fail("work was begun")

    for work in (
        "nomul.sim.runner.build",
        "nomul.sim.check.build",
        "nomul.sim.board.build",
        "nomul.sim.board.verilog",
        "nomul.board_designs.MachineTop",
    ):
        monkeypatch.setattr(work, reached)
    return tmp_path


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("arguments,sentence", REFUSED, ids=[" ".join(given)[:60] for given, _ in REFUSED])
def test_it_is_refused_at_once(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert re.fullmatch(rf"nomul: {sentence}\n", said.err), said.err


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a[/]b [red]x :smile:"
    table = Table(title=name, caption=name)
    table.add_column(name)
    table.add_row(name)
    stdout.print(table)
    stdout.print(name)
    assert capsys.readouterr().out.count(name) == 5
    with progress(name, 1), status(name) as say:
        say(name)


def test_only_one_module_knows_a_console() -> None:
    """So that text is never taken for markup: bars, spinners and consoles are made in sw/nomul/console.py."""
    root = Path(__file__).parent.parent
    made = re.compile(r"\b(Console|Progress|Status|track|from_markup)\(|\bstderr\.status\(|\bstdout\.status\(")
    for folder in ("sw", "sim", "boards", "benchmarks", "hw"):
        for file in (root / folder).rglob("*.py"):
            if file != root / "sw" / "nomul" / "console.py" and "rich" in (text := file.read_text()):
                assert not made.search(text), file


@pytest.mark.parametrize("arguments", [["engines", "--json"], ["engines"], ["--help"]])
def test_an_output_that_takes_nothing(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "nomul.cli", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "nomul: reading or writing failed: No space left on device\n")


def test_an_output_that_is_closed() -> None:
    command = [sys.executable, "-m", "nomul.cli", "engines"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
    sentence = "nomul: the standard output is closed; the result has nowhere to go\n"
    assert (done.returncode, done.stderr) == (2, sentence)


def test_a_result_that_is_nested_too_deeply_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.path("key").write_text("[" * 100_000 + "]" * 100_000)
    assert cache.get("key") is None
    cache.put("key", {"a": 1})
    assert cache.get("key") == {"a": 1}


def test_the_place_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMUL_CACHE", str(tmp_path / "there"))
    assert place() == tmp_path / "there" and Cache(Path("x")).folder == tmp_path / "there" / "x"
    monkeypatch.delenv("NOMUL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert place() == tmp_path / "nomul"
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOMUL_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^the cache .*/file/jobs cannot be written: .*; name another folder in .*"):
        Cache(Path("jobs")).get("key")


@pytest.mark.parametrize("variable", ["ENGINE", "SIM"])
def test_a_bench_that_is_not_there_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NOMUL_{variable}", "nosuch")
    with pytest.raises(pytest.UsageError, match=rf"^{variable} is 'nosuch'; allowed: .*(tlmm|icarus)"):
        benches.pytest_configure()
    monkeypatch.setenv(f"NOMUL_{variable}", "tlmm" if variable == "ENGINE" else "icarus")
    benches.pytest_configure()
