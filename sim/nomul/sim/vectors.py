"""What goes over every stream of a core for given jobs, and what must come out: for testbenches and files."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nomul.bus.axi_unit import container_bits
from nomul.catalog import pack_activations, pack_weights
from nomul.cores.discover import find_core
from nomul.engines.matmul import TOKENS_MAX
from nomul.formats.job import UnitJob, pack_lanes
from nomul.sim.check import Product, expect, fits, padded, random_product, rows_beyond
from nomul.sim.unit_check import random_jobs

__all__ = ["Transfers", "Vectors", "product_vectors", "small_vectors", "unit_vectors"]


@dataclasses.dataclass(frozen=True)
class Transfers:
    """The payloads of a stream, and where its lanes lie in them, lane 0 in the lowest bits."""

    payloads: list[int]
    lanes: int
    """0 if a payload has no lanes that a bus would set apart."""
    width: int
    signed: bool
    container: int
    """Bits of a lane on an AXI4-Stream."""
    framed: bool = False
    """Whether the bit above the lanes says that a vector ends."""

    def bits(self, bus: str) -> int:
        """Return the bits of a transfer on a bus, without `tlast`."""
        if bus == "stream":
            return self.lanes * self.width + self.framed if self.lanes else self.width
        whole = self.lanes * self.container if self.lanes else -(-self.width // 8) * 8
        return 1 << (whole - 1).bit_length() if bus == "axi-padded" else whole

    def on_axi(self) -> tuple[list[int], list[int]]:
        """Return the data of the same transfers on an AXI4-Stream, and the `tlast` of each."""
        if not self.lanes:
            return self.payloads, [0] * len(self.payloads)
        contained = []
        for payload in self.payloads:
            data = 0
            for lane in range(self.lanes):
                value = payload >> lane * self.width & (1 << self.width) - 1
                if self.signed and value >> (self.width - 1):
                    value += (1 << self.container) - (1 << self.width)
                data |= value << lane * self.container
            contained.append(data)
        return contained, [payload >> self.lanes * self.width for payload in self.payloads]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Jobs, all that goes in, and all that must come out, by the names of the streams."""

    jobs: list[dict[str, int]]
    widths: dict[str, int]
    """Bits of each field of a job, the first in the lowest."""
    inputs: dict[str, Transfers]
    outputs: dict[str, Transfers]
    cycles: int
    """That the jobs take where nothing waits."""

    def job_payloads(self) -> list[int]:
        """Return the transfers of the stream `jobs`."""
        payloads = []
        for job in self.jobs:
            payload, offset = 0, 0
            for field, width in self.widths.items():
                payload |= job.get(field, 0) << offset
                offset += width
            payloads.append(payload)
        return payloads


def product_vectors(engine: str, config: Any, products: Sequence[Product]) -> Vectors:
    """Return the vectors of an engine that multiplies some matrices, one after the other."""
    activations: list[int] = []
    weights: list[int] = []
    results: list[int] = []
    for product in products:
        fits(config, product)
        activations += _integers(pack_activations(config, padded(config, product)))
        weights += _integers(pack_weights(engine, config, product.weight, product.mode)) * len(product.activations)
        expected = expect(engine, config, product)
        missing = -expected.shape[1] % config.rows
        beyond = rows_beyond(engine, config, product)[:, None].expand(-1, missing)
        blocks = torch.cat([expected, beyond], dim=1).reshape(len(expected), -1, config.rows)
        last = (torch.arange(blocks.shape[1]) == blocks.shape[1] - 1).expand(len(blocks), -1)
        lanes = blocks.reshape(-1, config.rows).numpy()
        results += _integers(pack_lanes(lanes, config.total_width, last.reshape(-1).numpy()))
    sizes = {"n_in": config.n_in_max, "n_out": config.n_out_max, "tokens": TOKENS_MAX, "mode": len(config.modes) - 1}
    activation, result = 8 if config.act_bits <= 8 else 16, 32 if config.total_width <= 32 else 64
    return Vectors(
        [product.job for product in products],
        {name: most.bit_length() for name, most in sizes.items()},
        {
            "activations": Transfers(activations, config.activation_lanes, config.act_bits, True, activation),
            "weights": Transfers(weights, 0, config.weight_width, False, config.weight_width),
        },
        {"results": Transfers(results, config.rows, config.total_width, True, result, True)},
        sum(config.cycles(**product.job) for product in products),
    )


def unit_vectors(config: Any, jobs: Sequence[UnitJob]) -> Vectors:
    """Return the vectors of a unit that does some jobs, one after the other."""

    def transfers(port: Any, parts: list[npt.NDArray[np.uint8]], framed: bool) -> Transfers:
        payloads = [number for part in parts for number in _integers(part)]
        return Transfers(payloads, port.lanes, port.shape.width, port.shape.signed, container_bits(port), framed)

    inputs, outputs = {}, {}
    for port in config.inputs:
        parts = [pack_lanes(job.inputs[port.name], port.shape.width) for job in jobs]
        inputs[port.name] = transfers(port, parts, False)
    for port in config.outputs:
        parts = [pack_lanes(values, port.shape.width, last) for values, last in (j.outputs[port.name] for j in jobs)]
        outputs[port.name] = transfers(port, parts, True)
    widths = {name: limit.bit_length() for name, limit in config.job_limits.items()}
    return Vectors(
        [job.fields for job in jobs], widths, inputs, outputs, sum(config.cycles(**job.fields) for job in jobs)
    )


def small_vectors(core: str, config: Any, seed: int = 1) -> Vectors:
    """Return the vectors of two small random jobs, of an engine's first and last mode; whole rows of results."""
    if not find_core(core).multiplies:
        return unit_vectors(config, random_jobs(core, config, 2, seed))
    n_in = min(config.n_in_max, 2 * config.activation_lanes + 1)
    n_out = min(2, max(1, config.n_out_max // config.rows)) * config.rows
    modes = (0, len(config.modes) - 1)
    shapes = [(n_in, min(n_out, config.n_out_max), 2), (min(3, n_in), min(config.rows, config.n_out_max), 1)]
    products = [
        random_product(*shape, config, seed + number, mode)
        for number, (shape, mode) in enumerate(zip(shapes, modes, strict=True))
    ]
    return product_vectors(core, config, products)


def _integers(rows: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]
