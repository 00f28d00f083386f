"""The `nomul` command.

Each subcommand is a file of `nomul.commands`, imported only when it is called, so that `nomul --help` and
`nomul engines` do not wait for PyTorch.
"""

import functools
import importlib
import sys
from typing import Any

import click

from nomul.console import guarded
from nomul.help import prepare

COMMANDS = {
    "accelerator": "Write a machine that runs a whole language model, or report what it costs.",
    "bitstream": "Make the file that a board loads, and say what it takes and how fast it is.",
    "build": "Build, check and measure what one design file describes, and say what was proven.",
    "calibrate": "Choose the fixed-point positions of a ternary character model.",
    "check": "Simulate the RTL of an engine or a unit and compare every output with PyTorch.",
    "convert": "Convert ternary weights between the Hugging Face BitNet layout and the dense file.",
    "doctor": "Check every tool that Nomul drives.",
    "engines": "List the engines and units and their configuration fields.",
    "eval": "Measure a character model on a text, in floating point and in integers.",
    "explore": "Search the engine and configuration that serve a model on a device best.",
    "export": "Write a folder for a vendor's tools: an IP-XACT component, or a project for the KV260.",
    "generate": "Continue a prompt with a character model, in floating point or in integers.",
    "import": "Say what a Hugging Face model holds, and write a ternary one as a dense file.",
    "pack": "Write what goes over a core's streams for a layer, and its results, as .hex files.",
    "report": "Synthesise an engine and report its resources and timing.",
    "trace": "Record every intermediate of the integer model by name.",
    "selftest": "Compare an engine on a board, or on a simulated one, with PyTorch.",
    "talk": "Talk with the language model on a board, or on a simulated one.",
    "train": "Train a character model on a text.",
    "verilog": "Write an engine as Verilog, with a manifest.",
}


@functools.cache
def _prepared(name: str) -> click.Command:
    return prepare(importlib.import_module(f"nomul.commands.{name}").command, name)


class LazyGroup(click.Group):
    """A click group whose commands are modules of `nomul.commands`, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand, or None for a name that is not one."""
        if cmd_name not in COMMANDS:
            return None
        return _prepared(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup)
@click.version_option(package_name="nomul")
def cli() -> None:
    """Generate, prove and cost multiplier-free hardware for low-bit LLM inference."""


@guarded
def main(argv: list[str] | None = None) -> Any:
    """Run the `nomul` command; exit code 0 is success, 1 a failed check, 2 a wrong input or a missing tool."""
    sys.exit(cli.main(args=argv, prog_name="nomul", standalone_mode=False) or 0)


if __name__ == "__main__":
    main()
