"""`nomul build`: everything about a core or a machine that one design file says, and what was proven of it."""

import contextlib
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from nomul.commands.accelerator_verilog import json_file
from nomul.commands.build_core import build_core
from nomul.commands.build_design import Design, load_design
from nomul.commands.build_init import template
from nomul.commands.build_machine import build_machine
from nomul.commands.build_proof import Claim, as_json, failed, show
from nomul.commands.build_schema import MACHINE
from nomul.console import json_option, print_json, stdout
from nomul.cores.discover import find_core
from nomul.errors import InputError
from nomul.files import write_atomically, write_folder
from nomul.names import canonical
from nomul.options import Output

__all__ = ["build", "command"]


def build(design: Design, output: Path) -> tuple[list[Claim], dict[str, Any]]:
    """Build a design into a folder, each file only if it changes; return what is known of it, and its proof.json.

    Nothing is written if the design or an option in it is refused.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-build-") as temporary:
        folder = Path(temporary) / "design"
        folder.mkdir()
        claims, said = (build_core if design.is_core else build_machine)(design, folder)
        files = {
            str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
        }
    operands = {name: said.get("streams", {}).get(name) for name in ("layer", "weights", "activations")}
    for step in said.values():
        # Of the folder that is gone; proof.json has the files.
        for name in ("files", "written"):
            step.pop(name, None)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    facts = {"design": design.name, "target": design.get("target"), "operands": operands, "files": digests}
    proof = as_json(claims, facts)
    files["report.json"] = json_file({"design": design.name, "target": design.get("target"), "steps": said})
    files["proof.json"] = json_file(proof)
    write_folder(output, files)
    return claims, proof


@click.command()
@click.argument("file", required=False, metavar="[DESIGN.toml]", type=click.Path(path_type=Path))
@click.option("--init", metavar="NAME", help="Write a design file with every key: of a core, or of an accelerator.")
@click.option("-o", "--output", type=Output(file=True, folder=True), help="Folder; with --init, the file to write.")
@json_option
def command(file: Path | None, init: str | None, output: Path | None, as_json: bool) -> None:
    """Build what a design file describes, check it, and say what was proven and how each figure is known.

    The folder gets the Verilog, its manifest, the packed weights, report.json with all figures, and proof.json with
    what was compared with PyTorch; exit code 1 if a comparison failed. `nomul build --init tint` prints a design file
    to begin with.
    """
    torch.set_num_threads(1)
    if init is not None:
        if file is not None:
            raise InputError(f"--init writes a design file; leave out {str(file)!r}, or leave out --init to build it")
        _init(init, output, as_json)
        return
    for name, given in (("DESIGN.toml", file), ("--output", output)):
        if given is None:
            raise InputError(f"{name} is missing; nomul build DESIGN.toml -o FOLDER, or --init NAME for a file to edit")
    assert file is not None and output is not None
    if output.is_file():
        raise InputError(f"{output} cannot be written: it is a file")
    design = load_design(file)
    claims, proof = build(design, output)
    if as_json:
        print_json({**proof, "folder": str(output)})
    else:
        show(f"{design.name} for {design.get('target')}", claims)
        if on := ", ".join(f"{name} {words}" for name, words in proof["operands"].items() if words):
            stdout.print(f"compared on {on}", highlight=False)
        stdout.print(f"{output}: {', '.join([*_short(proof['files']), 'report.json', 'proof.json'])}", highlight=False)
    if failed(claims):
        sys.exit(1)


def _short(files: dict[str, str]) -> list[str]:
    """Return files by name, those of a folder within as the folder."""
    return list(dict.fromkeys(f"{name.partition('/')[0]}/" if "/" in name else name for name in files))


def _init(name: str, output: Path | None, as_json: bool) -> None:
    """Print a design file, or write it where there is none yet."""
    known = canonical(name, [MACHINE])
    text = template(known if known == MACHINE else find_core(name).name)
    if output is not None:
        if output.is_dir():
            raise InputError(f"{output} cannot be written: it is a folder")
        with contextlib.suppress(FileNotFoundError):
            if output.read_bytes() != text.encode():
                raise InputError(f"{output} is there already, and is not replaced; name another file")
        write_atomically(output, text.encode())
    if as_json:
        print_json({"design": known, "file": None if output is None else str(output), "text": text})
    elif output is None:
        sys.stdout.write(text)
    else:
        stdout.print(
            f"{output}: written; build it with: nomul build {output} -o FOLDER", highlight=False, soft_wrap=True
        )
