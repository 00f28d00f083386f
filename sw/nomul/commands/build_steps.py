"""The commands that `nomul build` runs, each in this process, with what it prints for programs as its result.

Nothing else of `nomul build` knows of them: a design's keys become options here.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from nomul.commands import accelerator_report, accelerator_verilog, check, generate, pack, report, verilog
from nomul.commands.build_design import Design

__all__ = ["CoreSteps", "MachineSteps", "run"]


def run(command: click.Command, name: str, words: Iterable[str]) -> dict[str, Any]:
    """Run a command, by its name after `nomul`, with `--json`; return what it says, whether or not a check failed.

    Raises what the command raises.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            command.main([*words, "--json"], prog_name=f"nomul {name}", standalone_mode=False)
        except SystemExit as ended:
            if ended.code != 1:
                raise
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


def _options(values: Mapping[str, Any]) -> list[str]:
    """Return options as words, those without a value left out; True is a flag, and a list is an option repeated."""
    words: list[str] = []
    for name, value in values.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is True:
                words.append(f"--{name}")
            elif each is not None and each is not False:
                words.append(f"--{name}={each}")
    return words


class _Steps:
    """The options that all steps of a design share."""

    def __init__(self, design: Design) -> None:
        self.design = design

    def arithmetic(self, command: click.Command) -> str | None:
        """Return the technology whose forms are taken, of those that a command's `--target` knows."""
        design = self.design
        (option,) = [each for each in command.params if each.name == "target"]
        assert isinstance(option.type, click.Choice)
        known = not design.get("portable") and design.get("target") in option.type.choices
        return design.get("target") if known else None

    def checkpoint(self) -> str | None:
        """Return the checkpoint: a file, seen from the folder of the design file, or the name of a committed model."""
        named, file = self.design.get("weights", "checkpoint"), self.design.file_of("weights", "checkpoint")
        return file if file is not None and Path(file).exists() else named


class CoreSteps(_Steps):
    """The steps of a core.

    Parameters
    ----------
    design : Design
    weights : Path, optional
        A checkpoint in place of the design's.
    """

    def __init__(self, design: Design, weights: Path | None) -> None:
        super().__init__(design)
        self.settings = list(design.settings)
        self.weights = weights

    def _operands(self) -> dict[str, Any]:
        design = self.design
        found = {"tokens": design.get("check", "tokens"), "seed": design.get("check", "seed")}
        found["activations"] = design.file_of("check", "activations")
        names = ("layer", "mode")
        found |= {name: design.get("weights", name) for name in names if design.given("weights", name)}
        if "weights" in design.schema["properties"]:
            found["checkpoint"] = self.weights or self.checkpoint()
        return found

    def _core(self, command: click.Command) -> dict[str, Any]:
        return {"set": self.settings, "target": self.arithmetic(command)}

    def pack(self, folder: Path) -> dict[str, Any]:
        """Write the streams of the simulation and what must come out."""
        options = {**self._core(pack.command), **self._operands(), "bus": self.design.get("bus"), "output": folder}
        return run(pack.command, "pack", [self.design.name, *_options(options)])

    def verilog(self, folder: Path) -> dict[str, Any]:
        """Write the Verilog."""
        options = {
            **self._core(verilog.command), "bus": self.design.get("bus"), "name": self.design.get("top"),
            "testbench": self.design.get("testbench"), "output": folder,
        }  # fmt: skip
        return run(verilog.command, "verilog", [self.design.name, *_options(options)])

    def check(self) -> dict[str, Any]:
        """Simulate."""
        design = self.design
        options = {
            **self._core(check.command), **self._operands(), "bus": design.get("bus"),
            "sim": design.get("check", "simulator"), "stall": design.get("check", "stall"),
        }  # fmt: skip
        return run(check.command, "check", [design.name, *_options(options)])

    def report(self) -> dict[str, Any]:
        """Synthesise."""
        design = self.design
        options = {
            "set": self.settings, "target": design.get("target"), "portable": design.get("portable"),
            "pnr": design.get("report", "place_and_route"), "layer": design.get("report", "layer"),
            "liberty": [str(design.file.parent / file) for file in design.get("report", "liberty") or ()],
            "clock-ns": design.get("report", "clock_ns"),
        }  # fmt: skip
        return run(report.command, "report", [design.name, *_options(options)])


class MachineSteps(_Steps):
    """The steps of a machine."""

    def _fields(self) -> dict[str, Any]:
        return {name.replace("_", "-"): value for name, value in self.design.values.get("fields", {}).items()}

    def _machine(self) -> dict[str, Any]:
        design = self.design
        shape = design.get("weights", "shape")
        checkpoint = None if shape and not design.given("weights", "checkpoint") else self.checkpoint()
        model = {"checkpoint": checkpoint, "shape": shape, "random": design.get("weights", "random")}
        return {**model, **self._fields(), "set": design.settings}

    def verilog(self, folder: Path) -> dict[str, Any]:
        """Write the machine, and the image of its weights if it has any."""
        command = accelerator_verilog.command
        options = {
            **self._machine(), "target": self.arithmetic(command), "name": self.design.get("top"), "output": folder,
        }  # fmt: skip
        return run(command, "accelerator verilog", _options(options))

    def simulate(self) -> dict[str, Any]:
        """Simulate it on a prompt; raise `MismatchError` if a value differs."""
        design, fields = self.design, self._fields()
        target = self.arithmetic(accelerator_verilog.command)
        options = {
            "backend": "rtl", "checkpoint": self._machine()["checkpoint"],
            "prompt": design.get("check", "prompt"), "tokens": design.get("check", "tokens"),
            "engine": design.get("fields", "engine"), "lanes": fields.get("lanes"), "tile": fields.get("tile"),
            "set": [*design.settings, *([f"target={target}"] if target else [])],
        }  # fmt: skip
        return run(generate.command, "generate", _options(options))

    def report(self, *, synthesise: bool, prompt: int | None) -> dict[str, Any]:
        """Return the model of its cycles, and with `synthesise` what it takes."""
        design = self.design
        options = {
            **self._machine(), "target": design.get("target"), "portable": design.get("portable"),
            "no-synthesis": not synthesise, "pnr": synthesise and design.get("report", "place_and_route"),
            "clock": design.get("report", "clock_mhz"), "bandwidth": design.get("report", "bandwidth"),
            "context": design.get("report", "context"), "prompt": prompt,
        }  # fmt: skip
        return run(accelerator_report.command, "accelerator report", _options(options))
