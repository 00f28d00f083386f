"""What every command's `--help` has beyond its own text: defaults, the names that it takes, and examples.

It also lets a command speak as its user does: options may be given their values in any case, and a message about a
parameter calls it by its option.
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import click

from nomul.errors import InputError

__all__ = ["EXAMPLES", "prepare"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "accelerator report": (
        "nomul accelerator report --checkpoint tiny --target ecp5 --no-synthesis",
        "nomul accelerator report --shape bitnet-0.73b --memory axi --ring 4096 --target xcup --no-synthesis",
    ),
    "accelerator verilog": (
        "nomul accelerator verilog --checkpoint tiny -o machine",
        "nomul accelerator verilog --shape tiny --memory axi --ports 2 --port-bits 64 -o machine_axi",
    ),
    "bitstream": (
        "nomul bitstream ulx3s",
        "nomul bitstream icebreaker --engine tint -o engine.bin",
    ),
    "build": (
        "nomul build --init tint -o tint.toml",
        "nomul build tint.toml -o tint",
        "nomul build --init accelerator -o machine.toml",
    ),
    "calibrate": ("nomul calibrate model.safetensors --text text.txt -o calibrated.safetensors",),
    "check": (
        "nomul check tlmm",
        "nomul check tint --layer model.layers.0.mlp.down_proj --tokens 8 --set lanes_in=16 --stall 0.2",
        "nomul check top_k --tokens 20 --sim icarus",
        "nomul check tlmm --waves waves.vcd",
    ),
    "convert": ("nomul convert model.safetensors bitnet",),
    "doctor": ("nomul doctor",),
    "engines": ("nomul engines", "nomul engines tlmm top_k", "nomul engines --schema tint"),
    "eval": ("nomul eval --checkpoint tiny --text text.txt",),
    "explore": (
        "nomul explore --model tiny --target ulx3s --synthesise 0",
        "nomul explore --model 2B-4T --target KV260 --phase prefill",
    ),
    "export axi-ip": (
        "nomul export axi-ip tlmm --set rows=8 --target xcup -o ip",
        "nomul export axi-ip machine --shape tiny --memory axi -o machine_ip",
    ),
    "export kv260": ("nomul export kv260 --checkpoint tiny -o kv260",),
    "generate": (
        'nomul generate --prompt "ROMEO:"',
        'nomul generate --prompt "ROMEO:" --backend rtl --tokens 40',
    ),
    "import": ("nomul import folder", "nomul import model.gguf", "nomul import folder -o model.safetensors"),
    "report": (
        "nomul report tlmm --target xcup",
        "nomul report tint --target ecp5 --set rows=4 --pnr",
        "nomul report --all --size small",
    ),
    "selftest": ("nomul selftest sim", "nomul selftest /dev/ttyUSB1"),
    "talk": ('nomul talk sim --prompt "ROMEO:" --tokens 20', "nomul talk /dev/ttyUSB0"),
    "trace": ("nomul trace --tokens 8 -o trace.safetensors",),
    "train": ("nomul train --text text.txt --size tiny -o mine.safetensors",),
    "pack": ("nomul pack tint --tokens 1 -o vectors", "nomul pack absmax --bus axi -o vectors"),
    "verilog": ("nomul verilog tlmm --set rows=8 -o verilog", "nomul verilog tint --bus axi --target ecp5 -o verilog"),
}
"""Examples of each command."""


def _names(command: str) -> dict[str, list[str]]:
    """Return what a command's ENGINE, BOARD and NAME may be, by those words."""
    from nomul.cores.discover import cores, matmul_cores

    engines = list(matmul_cores())
    units = [name for name in cores() if name not in engines]

    if command in ("bitstream", "selftest", "talk"):
        from nomul.board_designs import BOARDS

        return {"BOARD": list(BOARDS)} | ({} if command == "talk" else {"ENGINE": engines})
    if command in ("check", "pack", "verilog", "report", "engines"):
        word = "NAME" if command == "engines" else "ENGINE"
        return {word: engines, f"{word}, a unit": units}
    if command == "build":
        return {"NAME": ["accelerator", *engines], "NAME, a unit": units}
    if command == "export axi-ip":
        return {"NAME": ["machine", *engines], "NAME, a unit": units}
    return {"ENGINE": engines} if command == "explore" else {}


def _machine_defaults(command: str) -> dict[str, Any]:
    """Return what fields of a machine are if their options are absent, for the commands that make one."""
    if command.partition(" ")[0] not in ("accelerator", "export", "generate"):
        return {}
    from nomul.accelerators.config import AcceleratorConfig

    found = {field.name: field.default for field in dataclasses.fields(AcceleratorConfig) if field.type is int}
    return found | ({"ports": 4} if command == "export kv260" else {})


def _spoken(message: str, command: click.Command) -> str:
    """Return a message whose subject is a parameter of a command with the option in its place."""
    found = re.match(r"(?:\w+ field '(\w+)'|(\w+)) is ", message)
    name = (found[1] or found[2]) if found else None
    for option in command.params:
        if found and isinstance(option, click.Option) and option.name == name:
            return f"{max(option.opts, key=len)} is {message[found.end() :]}"
    return message


def _speaking(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command's function, whose errors speak of its options."""

    @functools.wraps(callback)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except InputError as error:
            raise InputError(_spoken(str(error), click.get_current_context().command)) from error

    return wrapper


def prepare(command: click.Command, path: str) -> click.Command:
    """Return a copy of a command, or a group, that is called by `path` after `nomul`: one whose help is complete."""
    command = copy.copy(command)
    if isinstance(command, click.Group):
        command.commands = {name: prepare(inner, f"{path} {name}") for name, inner in command.commands.items()}
        return command
    command.context_settings = {**command.context_settings, "show_default": True}
    command.params = [copy.copy(option) for option in command.params]
    # click would cut it.
    command.short_help = (command.help or "").partition("\n\n")[0].replace("\n", " ")
    defaults = _machine_defaults(path)
    for option in command.params:
        if isinstance(option.type, click.Choice):
            option.type = click.Choice(option.type.choices, case_sensitive=False)
        if isinstance(option, click.Option) and option.name in defaults and not option.show_default:
            option.show_default = str(defaults[option.name])
    if command.callback is not None:
        command.callback = _speaking(command.callback)
    parts = [f"{word}: {', '.join(names)}" for word, names in _names(path).items()]
    if examples := EXAMPLES.get(path):
        # \b keeps click from filling the lines.
        parts.append("\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)]))
    command.epilog = "\n\n".join(parts)
    return command
