"""JSON schemas of design files: one for each core, one for a machine, and the one of them all."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from nomul.accelerators.config import AcceleratorConfig
from nomul.commands import check as checking
from nomul.cores.api import Core
from nomul.cores.discover import cores, find_core
from nomul.cores.schema import DRAFT, core_schema
from nomul.fpga.targets import TARGETS
from nomul.machines import ENGINES, FIELDS, SHAPES, add_options
from nomul.model import checkpoints
from nomul.names import canonical
from nomul.options import Integer, Number

__all__ = ["CELLS", "MACHINE", "allowed", "design_schema", "machine_schema", "named_schema", "schema_of"]

MACHINE = "accelerator"
"""What a design file calls a machine, in place of a core's name."""

CELLS = "cells"
"""The target that is a library of standard cells."""

MEANINGS = {
    "engine": "Core that multiplies",
    "memory": "Where weights, keys and values are: block memory on the chip, or DRAM behind AXI4 ports",
}
"""Of a machine's options that have no words of their own."""

FOLLOWS = ("rows", "n_in_max", "n_out_max", "target")
"""Fields of an engine that follow from the machine around it."""

COUNT = {"type": "integer", "minimum": 1}
ABOVE_0 = {"type": "number", "exclusiveMinimum": 0}
FLAG = {"type": "boolean"}
TEXT = {"type": "string"}


def _kind(option: click.Parameter) -> dict[str, Any]:
    """Return the schema of what an option of a command takes."""
    kind = option.type
    if isinstance(kind, click.Choice):
        return {"enum": list(kind.choices)}
    if isinstance(kind, Integer | Number):
        bounds = {"minimum": kind.min, "maximum": kind.max}
        numbers = "integer" if isinstance(kind, Integer) else "number"
        return {"type": numbers} | {name: bound for name, bound in bounds.items() if bound is not None}
    return FLAG if isinstance(kind, click.types.BoolParamType) else TEXT


CHECK = {option.name: (_kind(option), option.default) for option in checking.command.params}
"""What the options of `nomul check` take, and what they are if absent."""

SEED = CHECK["seed"][0]


def _key(description: str, kind: Mapping[str, Any], default: Any = None, **more: Any) -> dict[str, Any]:
    """Return the schema of a key; one without a default may be left out, and the description says what that means."""
    return {"description": description, **kind, **({} if default is None else {"default": default}), **more}


def _size(description: str, default: str | None = None) -> dict[str, Any]:
    kind = {"type": "string", "pattern": "^[1-9][0-9]{0,9}x[1-9][0-9]{0,9}$"}
    return _key(description, kind, default, examples=["256x160"])


def _table(description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "type": "object", "properties": properties, "additionalProperties": False}


def _design(name: str, summary: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    chosen = _key("What is built: a core of `nomul engines` by its name, or a machine: accelerator", {"const": name})
    return _table(summary, {"design": chosen, **properties}) | {"title": name, "required": ["design"]}


def _common(targets: list[str]) -> dict[str, Any]:
    return {
        "target": _key("What it is made for, and reported on", {"enum": targets}, "ecp5"),
        "portable": _key("Take plain operators in place of the target's own arithmetic forms", FLAG, False),
        "top": _key(
            "Name of the top module, of its files, and first part of all others'; Nomul's own if absent",
            {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            examples=["my_core"],
        ),
    }


def model_of(core: Core) -> str:
    """Return the committed model whose layers a core takes if no other is named: one of the arithmetic it serves."""
    names = [f"{checkpoints.DEFAULT}_{kind}" for kind in core.serves]
    return next((name for name in names if name in checkpoints.NAMES), checkpoints.DEFAULT)


def _core_weights(core: Core) -> dict[str, Any]:
    return {
        "checkpoint": _key(
            "File of a model, or the name of one that comes with Nomul: " + ", ".join(checkpoints.NAMES),
            TEXT,
            model_of(core),
        ),
        "layer": _key(
            "Layer of the checkpoint; its first, or the head for INT8 and wider, if absent",
            TEXT,
            examples=["model.layers.0.mlp.down_proj"],
        ),
        "mode": _key("What to multiply, of a core with several modes; its first if absent", TEXT, examples=["ternary"]),
        "random": _key("Seed of random weights, in place of a checkpoint", SEED),
        "shape": _size("Size of random weights, N_OUTxN_IN; 64x256 if absent"),
    }


def _core_check(core: Core) -> dict[str, Any]:
    what = "Vectors to multiply" if core.multiplies else "Random jobs to run"
    vectors = _key(
        "File .npy of integers [vectors, length]; those of the model, or random ones, if absent",
        TEXT,
        examples=["vectors.npy"],
    )
    return {
        "simulate": _key("Simulate the RTL, and compare every output with PyTorch", FLAG, True),
        "tokens": _key(what, *CHECK["tokens"]),
        **({"activations": vectors} if core.multiplies or core.vectors is not None else {}),
        "simulator": _key("What simulates", *CHECK["simulator"]),
        "stall": _key("Chance that a stream waits, in each cycle", *CHECK["stall"]),
        "seed": _key("Of stalls, random vectors and random jobs", *CHECK["seed"]),
    }


def _core_report(core: Core) -> dict[str, Any]:
    layer = {"layer": _size("Layer for the utilisation, N_OUTxN_IN", "1536x1536")} if core.multiplies else {}
    return {
        "synthesise": _key("Synthesise for the target with Yosys (seconds to minutes)", FLAG, True),
        "place_and_route": _key("Place and route too, with nextpnr, for the clock (minutes)", FLAG, False),
        **layer,
        "liberty": _key(
            "Target cells: files of libraries of standard cells",
            {"type": "array", "items": TEXT, "minItems": 1},
            examples=[["cells.lib"]],
        ),
        "clock_ns": _key("Target cells: clock period in ns that is aimed at; the least area if absent", ABOVE_0),
    }


def _core_design(core: Core) -> dict[str, Any]:
    config = core_schema(core)
    fields = {name: entry for name, entry in config["properties"].items() if name != "target"}
    targets = [name for name in (*TARGETS, CELLS) if not core.lacks(name)]
    weights = {"weights": _table("What it multiplies in the simulation", _core_weights(core))}
    return _design(
        core.name,
        core.gateware.summary,
        {
            **_common(targets),
            "bus": _key("Bare streams, or AXI4-Stream with AXI4-Lite registers", *CHECK["bus"]),
            "testbench": _key("Write a self-checking testbench in plain Verilog too", FLAG, False),
            "fields": _table("The core's configuration", fields),
            **(weights if core.multiplies else {}),
            "check": _table("What is proven", _core_check(core)),
            "report": _table("What is measured", _core_report(core)),
        },
    )


@click.command()
@add_options
def _machine(**_: Any) -> None:
    """Have the options that describe a machine."""


def machine_schema() -> dict[str, Any]:
    """Return the schema of a machine's configuration: what `nomul accelerator verilog` takes, without its model."""
    defaults = {field.name: field.default for field in dataclasses.fields(AcceleratorConfig)}
    properties: dict[str, Any] = {}
    for option in _machine.params:
        name = option.name or ""
        if name not in ("engine", *FIELDS):
            continue
        help_text = getattr(option, "help", None) or MEANINGS[name]
        default = ENGINES[0] if name == "engine" else defaults[name]
        properties[name] = _key(help_text.rstrip("."), _kind(option), default)
    table = _table("A machine that runs a whole language model", properties)
    return {"$schema": DRAFT, "title": MACHINE, **table}


def _engine_fields(name: str) -> dict[str, Any]:
    properties = core_schema(find_core(name))["properties"]
    fields = {field: entry for field, entry in properties.items() if field not in FOLLOWS}
    return _table("Further fields of the engine", fields)


def _machine_design() -> dict[str, Any]:
    machine = machine_schema()
    weights = {
        "checkpoint": _key(
            "Character model: a file, or the name of one that comes with Nomul: tiny, small",
            TEXT,
            checkpoints.DEFAULT,
        ),
        "shape": _key("Shape of a model, in place of a checkpoint", {"enum": list(SHAPES)}),
        "random": _key("Seed of random weights for the shape; without it, it has none", SEED),
    }
    check = {
        "simulate": _key("Simulate the RTL on a prompt, and compare every value with the integer model", FLAG, True),
        "prompt": _key("Text to continue", {**TEXT, "minLength": 1}, "ROMEO:"),
        "tokens": _key("Characters to generate", COUNT, 8),
    }
    report = {
        "synthesise": _key("Synthesise for the target with Yosys (minutes)", FLAG, False),
        "place_and_route": _key("Place and route too, with nextpnr, for the clock", FLAG, False),
        "clock_mhz": _key("Clock for tokens a second; Fmax if routed, else 250 on xcup and 100, if absent", ABOVE_0),
        "bandwidth": _key("Of the memory, GB/s", ABOVE_0, 17.1),
        "context": _key("Tokens that a decoded one sees; 512, or all, if absent", {**COUNT, "minimum": 2}),
    }
    schema = _design(
        MACHINE,
        "A machine that runs a whole language model",
        {
            **_common(list(TARGETS)),
            "fields": _table("The machine's configuration", machine["properties"]),
            "engine_fields": {"description": "Further fields of the engine", "type": "object"},
            "weights": _table("The model that it runs", weights),
            "check": _table("What is proven", check),
            "report": _table("What is measured", report),
        },
    )
    return schema | {"allOf": [_engine_rule(name) for name in ENGINES]}


def _engine_rule(name: str) -> dict[str, Any]:
    """Return the rule that the engine says which further fields there are; the first one is the default."""
    chosen: dict[str, Any] = {"properties": {"engine": {"const": name}}}
    rule: dict[str, Any] = {"properties": {"fields": chosen}}
    if name != ENGINES[0]:
        chosen["required"], rule["required"] = ["engine"], ["fields"]
    return {"if": rule, "then": {"properties": {"engine_fields": _engine_fields(name)}}}


def schema_of(name: str) -> dict[str, Any]:
    """Return the schema of the design files of a core, or of a machine."""
    return _machine_design() if name == MACHINE else _core_design(find_core(name))


def design_schema() -> dict[str, Any]:
    """Return the schema of all design files, for editors."""
    names = [*cores(), MACHINE]
    return {
        "$schema": DRAFT,
        "title": "Nomul design file",
        "description": "What nomul build builds",
        "type": "object",
        "required": ["design"],
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": {name: schema_of(name) for name in names},
    }


def named_schema(name: str) -> dict[str, Any]:
    """Return the schema of the configuration of a core, or of a machine; InputError if there is none of the name."""
    return machine_schema() if canonical(name, [MACHINE]) == MACHINE else core_schema(find_core(name))


def allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what the schema of a key allows, for example '1 to 8' or 'stream, axi'."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        if "exclusiveMinimum" in schema:
            return f"a number above {schema['exclusiveMinimum']}"
        low, high = schema.get("minimum"), schema.get("maximum")
        return f"{low} or more" if high is None else f"{low} to {high}"
    words = {"boolean": "true or false", "array": "a list of texts", "object": "a table"}
    example = f" such as {schema['examples'][0]}" if "pattern" in schema else ""
    return words.get(kind or "", f"a text{example}")
