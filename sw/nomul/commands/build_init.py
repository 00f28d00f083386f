"""The design file that `nomul build --init` writes: every key of a design's schema, with what it means and allows."""

import textwrap
from collections.abc import Mapping
from typing import Any

from nomul.commands.build_schema import allowed, schema_of

__all__ = ["template"]

WIDTH = 80

ACTIVE = ("design", "target", "bus", "simulate", "tokens", "prompt", "synthesise", "checkpoint")
"""Keys that stand in the file; the others are behind a '#', with their defaults."""


def template(name: str) -> str:
    """Return a design file of a core, or of a machine, in TOML; what it leaves out is commented with its default."""
    schema = schema_of(name)
    lines = [*_comment(f"{schema['title']}: {schema['description']}."), "#"]
    lines += _comment(
        f"Build it with: nomul build {name}.toml -o {name}. Keys behind a '#' have the values that they have by "
        "default, or an example where the default is derived; take the '#' away to change one. Files are looked for "
        "from the folder of this file."
    )
    tables = []
    for key, entry in schema["properties"].items():
        if entry.get("type") == "object":
            tables.append((key, entry))
        else:
            lines += ["", *_key(key, entry)]
    for key, entry in tables:
        # The fields of a machine's engine depend on which it is.
        fields = entry.get("properties") or _first_rule(schema)
        lines += ["", "", *_comment(f"{entry['description']}."), f"[{key}]"]
        for field, inner in fields.items():
            lines += ["", *_key(field, inner)]
    return "\n".join(lines) + "\n"


def _first_rule(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of the engine that is taken where none is named."""
    fields: Mapping[str, Any] = schema["allOf"][0]["then"]["properties"]["engine_fields"]["properties"]
    return fields


def _key(key: str, entry: Mapping[str, Any]) -> list[str]:
    """Return a key with its value, and what it means before it."""
    meaning = entry["description"]
    default = entry.get("default", entry.get("const"))
    note = f"{meaning[:1].upper()}{meaning[1:]}." + ("" if "const" in entry else f" Allowed: {allowed(entry)}.")
    value = _toml(_example(entry) if default is None else default)
    derived = "" if default is not None else "  # an example; derived if absent"
    shown = key in ACTIVE and default is not None
    return [*_comment(note), f"{key} = {value}" if shown else f"# {key} = {value}{derived}"]


def _example(entry: Mapping[str, Any]) -> Any:
    """Return a value that a key without a default allows."""
    if "examples" in entry:
        return entry["examples"][0]
    if "enum" in entry:
        return entry["enum"][0]
    return max(1, entry.get("minimum", 1))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
