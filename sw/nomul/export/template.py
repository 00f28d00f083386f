"""An instantiation template: the wires of a core's ports, and its instance, to be copied into a design."""

from collections.abc import Mapping
from typing import Any

__all__ = ["template"]


def template(manifest: Mapping[str, Any]) -> str:
    """Return the wires and the instance of the core that a manifest describes, as Verilog to be copied."""
    ports = manifest["ports"]
    widest = max(map(len, ports))
    lines = [f"// An instance of {manifest['top']}. Replace the names in brackets, and drive the wires of its inputs."]
    for name, port in ports.items():
        size = f"[{port['width'] - 1}:0]" if port["width"] > 1 else ""
        lines.append(f"wire {size:>9} {name:{widest}};  // {port['direction']}: {port['meaning']}")
    connections = ",\n".join(f"    .{name:{widest}}({name})" for name in ports)
    return "\n".join([*lines, "", f"{manifest['top']} {manifest['top']}_instance (", f"{connections}", ");", ""])
