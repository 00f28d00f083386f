"""The manifest beside the Verilog of a core: everything that a user would otherwise have to guess."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, Out

from nomul.bus.axi import AxiCore
from nomul.bus.axi_lite import Register
from nomul.bus.job_registers import job_registers
from nomul.contract import CoreConfig
from nomul.cores.discover import find_core

__all__ = ["manifest", "register_entry"]

MEANINGS = {
    "clk": "clock; everything happens at its rising edge",
    "rst": "synchronous reset, active high",
    "fault": "the last job was illegal and did nothing",
}
"""Meaning of each port of a bare core that is no stream."""

AXI_MEANINGS = {
    "aclk": "clock; everything happens at its rising edge",
    "aresetn": "synchronous reset, active low",
    "irq": "interrupt, as the register CONTROL enables it",
    "s_axi_": "AXI4-Lite, the registers",
}
"""Meaning of the pins of the AXI form, by the beginning of their names."""


def manifest(name: str, config: Any, component: Component, top: str) -> dict[str, Any]:
    """Return the manifest of a core and its top module, ready to be printed as JSON.

    `ports` lists direction, width and meaning of every port of the Verilog module; a stream NAME is NAME__payload,
    NAME__valid and NAME__ready, and a transfer happens in each cycle in which valid and ready are both high. `streams`
    says how much memory bandwidth each takes at most.
    """
    core = find_core(name)
    meanings = port_meanings(config)
    axi = isinstance(component, AxiCore)
    ports: dict[str, dict[str, Any]] = {} if axi else {pin: _port(False, 1, meanings[pin]) for pin in ("clk", "rst")}
    layouts: dict[str, Any] = {}
    for port, member in component.signature.members.items():
        outward = member.flow == Out
        if member.is_port:
            ports[port] = _port(outward, Shape.cast(member.shape).width, _meaning(port, meanings))
            continue
        assert isinstance(member.signature, stream.Signature)
        shape = member.signature.members["payload"].shape
        ports[f"{port}__payload"] = _port(outward, Shape.cast(shape).width, meanings[port])
        ports[f"{port}__valid"] = _port(outward, 1, f"{port}: the sender offers a transfer")
        ports[f"{port}__ready"] = _port(not outward, 1, f"{port}: the receiver takes it")
        layouts[port] = _layout(shape)
    return {
        "engine": name,
        "top": top,
        "summary": core.gateware.summary,
        "config": dataclasses.asdict(config),
        "derived": {
            f"{config.work_unit}s_per_cycle": config.work_per_cycle,
            "job_limits": config.job_limits,
            "lanes": {port.name: port.lanes for port in (*config.inputs, *config.outputs)},
            "value_bits": {port.name: port.shape.width for port in (*config.inputs, *config.outputs)},
        },
        "latency": {
            "cycles_one_block": config.cycles(**dict.fromkeys(config.job_limits, 1)),
            "meaning": "cycles from the transfer of a job whose fields are all 1 to its result",
        },
        **({"weight_packing": config.packing} if config.packing else {}),
        "ports": ports,
        "payloads": layouts,
        "streams": {stream: _stream(port["width"]) for stream, port in _data(ports)},
        "registers": [register_entry(register) for register in (job_registers(config) if axi else ())],
        "versions": {package: importlib.metadata.version(package) for package in ("nomul", "amaranth")},
    }


def port_meanings(config: CoreConfig) -> dict[str, str]:
    """Return the meaning of each port of a core: its streams by name, its pins by the beginning of their names."""
    fields = [*config.job_limits, *(["mode"] if len(config.modes) > 1 else [])]
    meanings = MEANINGS | AXI_MEANINGS
    meanings["jobs"] = f"one job: {', '.join(fields)}, the first in the lowest bits; sizes are 1 or more"
    for prefix, ports in (("s_axis", config.inputs), ("m_axis", config.outputs)):
        for port in ports:
            lanes = "one value" if port.lanes == 1 else f"{port.lanes} values, the first in the lowest bits"
            last = "" if prefix == "s_axis" else "; above them `last`, which ends a vector"
            meanings[port.name] = f"{port.meaning}: {lanes} a transfer{last}"
            meanings[f"{prefix}_{port.name}_"] = f"AXI4-Stream: {port.meaning}, a value in {port.container} bits"
    return meanings


def _meaning(name: str, meanings: dict[str, str]) -> str:
    """Return what a port is for; a pin of an AXI bus by the bus."""
    if name in meanings:
        return meanings[name]
    return meanings[next(bus for bus in sorted(meanings, key=len, reverse=True) if name.startswith(bus))]


def register_entry(register: Register) -> dict[str, Any]:
    """Return a register as JSON, with its single bits: `write_1` says what writing 1 to a bit does."""
    bits = []
    for place, bit in enumerate(register.bits):
        name, _, meaning = bit.partition(": ")
        clears = name in register.cleared
        access = "r" if register.cleared and not clears else register.access
        entry = {"name": name, "bit": place, "access": access, "meaning": meaning}
        bits.append(entry | ({"write_1": "clears"} if clears else {}))
    return {
        "name": register.name,
        "offset": register.offset,
        "access": register.access,
        "meaning": register.meaning,
        "bits": bits,
    }


def _data(ports: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each stream's name and the port of its data."""
    for name, port in ports.items():
        for end in ("__payload", "_tdata"):
            if name.endswith(end):
                yield name.removesuffix(end), port


def _stream(bits: int) -> dict[str, Any]:
    """Return what a stream moves at full use, a transfer a cycle; the same number is its MB/s for each MHz of clock."""
    return {"bits_per_transfer": bits, "bytes_per_cycle": bits / 8, "mb_per_s_for_each_mhz": bits / 8}


def _layout(shape: Any) -> dict[str, Any]:
    """Return where each field of a payload lies: bit offset, width, whether signed; arrays as count and element."""
    if isinstance(shape, data.ArrayLayout):
        return {"count": shape.length, "element": _layout(shape.elem_shape)}
    if isinstance(shape, data.StructLayout):
        return {name: {"offset": field.offset} | _layout(field.shape) for name, field in shape}
    cast = Shape.cast(shape)
    return {"width": cast.width, "signed": cast.signed}


def _port(outward: bool, width: int, meaning: str) -> dict[str, Any]:
    return {"direction": "output" if outward else "input", "width": width, "meaning": meaning}
