"""The wheel: one import name, no test, and at home in a project that has folders of the same names as ours."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
USE = """from nomul.engines.tlmm import Tlmm, TlmmConfig

CONFIG: TlmmConfig = TlmmConfig(rows=8)
CORE: Tlmm = Tlmm(CONFIG)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel and what it needs, but not this checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    # A folder that a .pth file names is searched, but .pth files in it, as an editable install's, are not read.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project with folders called as ours are, and a file that takes a core."""
    for name in ("hw", "sw", "sim", "boards"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the folder of the user was imported')\n")
    (tmp_path / "mine.py").write_text(USE)
    return tmp_path


def test_the_wheel_has_one_name_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"nomul"}
    assert not [name for name in names if "test_" in name or "conftest" in name]
    assert "nomul/__init__.py" not in names
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = {name.partition("/")[2] for name in tracked if name.split("/")[1:2] == ["nomul"]}
    assert ours <= set(names), "a file of the packages is not in the wheel"


def test_it_works_beside_folders_of_the_same_names(python: Path, project: Path) -> None:
    subprocess.run([python, "mine.py"], cwd=project, check=True)
    command = [python, "-m", "nomul.cli", "verilog", "tint", "--set", "lanes_in=4", "--set", "rows=2", "-o", "out"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert (project / "out" / "tint.v").exists()


def test_types_resolve(python: Path, project: Path) -> None:
    (project / "wrong.py").write_text(USE.replace("rows=8", "rows='8'"))
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python), "mine.py", "wrong.py"]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True).stdout
    assert 'wrong.py:3: error: Argument "rows" to "TlmmConfig" has incompatible type "str"' in said
    assert "mine.py" not in said, said
