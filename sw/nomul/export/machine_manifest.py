"""The manifest beside the Verilog of a machine: ports, registers, and where everything lies in its memory."""

import dataclasses
import importlib.metadata
from typing import Any, cast

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from nomul.accelerators.axi_top import axi_machine_members
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.lm_head import logit_bits
from nomul.accelerators.machine import FILES
from nomul.accelerators.memory_map import DIGEST_BITS, MemoryMap, digest
from nomul.accelerators.norms import gain_words
from nomul.accelerators.registers import COUNTERS, MAGIC, VERSION, has_logits, machine_registers
from nomul.accelerators.scale_programs import CONSTANTS
from nomul.export.manifest import register_entry

__all__ = ["TOP", "machine_manifest", "memory_of"]

TOP = "machine_axi"
"""Name of the top module."""

PINS = {
    "aclk": "clock; everything happens at its rising edge",
    "aresetn": "synchronous reset of the machine and of the buses, active low",
    "irq": "interrupt, active high, by level, as the register INTERRUPT enables it",
    "s_axi": "AXI4-Lite slave, the registers",
    "m_axi": "AXI4 master of memory port {}",
}


def machine_manifest(config: AcceleratorConfig, top: str = TOP) -> dict[str, Any]:
    """Return the manifest of a machine of which `top` is the top module, ready to be printed as JSON."""
    ports, engine_config = {}, dataclasses.asdict(cast(Any, config.engine_config))
    for name, member in axi_machine_members(config).items():
        bus = name.split("_")[:2]
        meaning = PINS.get(name) or PINS["_".join(bus).rstrip("0123456789")].format(bus[-1].removeprefix("axi"))
        direction = "output" if member.flow == Out else "input"
        ports[name] = {"direction": direction, "width": Shape.cast(member.shape).width, "meaning": meaning}
    return {
        "top": top,
        "summary": f"a language model of {config.shape.layers} layers; projections by {config.engine.name}",
        "id": MAGIC,
        "version": VERSION,
        "engine_number": config.engine.number,
        "digest": f"{digest(config):0{DIGEST_BITS // 4}x}",
        "config": config.as_dict(),
        "engine_config": engine_config,
        "derived": {
            "macs_per_cycle": config.engine_config.macs_per_cycle,
            "sum_bits": config.sum_bits,
            "logit_bits": logit_bits(config),
            "logits_readable": has_logits(config),
        },
        "counters": list(COUNTERS),
        "ports": ports,
        "registers": [register_entry(register) for register in machine_registers(config)],
        "memory": memory_of(config),
        "versions": {name: importlib.metadata.version(name) for name in ("nomul", "amaranth")},
    }


def memory_of(config: AcceleratorConfig) -> dict[str, Any]:
    """Return what a machine's memory holds, and in which files it is written."""
    shape = config.shape
    if config.memory == "block":
        rows = shape.vocabulary * config.words(shape.width)
        sizes = {
            "weights": (config.engine_config.weight_width, config.weight_depth),
            "embedding": (8 * config.lanes, rows),
            "gains": (8 * config.lanes, gain_words(config)),
            "constants": (26, shape.layers * CONSTANTS),
        }
        files = {f"{name}.hex": dict(zip(("width", "depth"), sizes[name], strict=True)) for name in FILES}
        return {"kind": "block", "files": files}
    place = MemoryMap(config)
    starts = {
        "header": 0,
        "constants": place.constants,
        "gains": place.gains,
        "embedding": place.embedding,
        "weights": place.weights,
        "lm_head": place.weights + place.layers_words,
        "cache": place.cache,
    }
    ends = [*list(starts.values())[1:], place.end]
    stripe = config.port_bits // 8
    regions = {
        name: {"word": start, "words": end - start, "offset": start * stripe}
        for (name, start), end in zip(starts.items(), ends, strict=True)
    }
    return {
        "kind": "axi",
        "ports": config.ports,
        "port_bits": config.port_bits,
        "word_bytes": place.word_bytes,
        "stripe": f"bytes {stripe} * p to {stripe} * p + {stripe - 1} of word w lie at BASEp + {stripe} * w",
        "regions": regions,
        "image_bytes_per_port": place.cache * stripe,
        "bytes_per_port": -(-place.end * stripe // 4096) * 4096,
        "files": [f"port{port}.bin" for port in range(config.ports)],
    }
