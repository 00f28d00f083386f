"""JSON schemas of configurations: every field with its type, range, default and meaning."""

import dataclasses
from typing import Any

from nomul.cores.api import Core

__all__ = ["DRAFT", "core_schema", "field_schema"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def field_schema(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    """Return the schema of one field of a configuration (`nomul.config.parameter`)."""
    metadata = field.metadata
    kind: dict[str, Any]
    if metadata["choices"]:
        kind = {"enum": list(metadata["choices"])}
    else:
        kind = {"type": "integer", "minimum": metadata["low"], "maximum": metadata["high"]}
    # A field without a default is derived; a file leaves it out.
    default = {} if field.default is None else {"default": field.default}
    return {"description": metadata["doc"], **kind, **default}


def core_schema(core: Core) -> dict[str, Any]:
    """Return the schema of a core's configuration, the fields of its variants included."""
    fields = {field.name: field_schema(field) for field in dataclasses.fields(core.gateware.config)}
    variants = {
        name: {"description": "chooses a variant of the core", "enum": list(values), "default": next(iter(values))}
        for name, values in core.variants.items()
    }
    return {
        "$schema": DRAFT,
        "title": core.name,
        "description": core.gateware.summary,
        "type": "object",
        "properties": fields | variants,
        "additionalProperties": False,
    }
