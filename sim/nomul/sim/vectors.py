"""What goes over every stream of a core for given jobs, and what must come out: for testbenches and files."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nomul.contract import Port
from nomul.cores.discover import find_core
from nomul.formats.job import Job, pack_lanes
from nomul.sim.check import as_job, random_jobs
from nomul.sim.fields import field_bits, pack_fields
from nomul.sim.product import Product, random_product

__all__ = ["StreamTransfers", "Vectors", "make_vectors", "small_vectors"]


@dataclasses.dataclass(frozen=True)
class StreamTransfers:
    """The payloads of a stream."""

    payloads: list[int]
    port: Port
    framed: bool = False
    """Whether the bit above the lanes says that a vector ends."""

    def bits(self, bus: str) -> int:
        """Return the bits of a transfer on a bus, without `tlast`."""
        if bus == "stream":
            return self.port.width + self.framed
        whole = self.port.lanes * self.port.container
        return 1 << (whole - 1).bit_length() if bus == "axi-padded" else whole

    def on_axi(self) -> tuple[list[int], list[int]]:
        """Return the data of the same transfers on an AXI4-Stream, and the `tlast` of each."""
        width, container, signed = self.port.shape.width, self.port.container, self.port.shape.signed
        contained = []
        for payload in self.payloads:
            data = 0
            for lane in range(self.port.lanes):
                value = payload >> lane * width & (1 << width) - 1
                if signed and value >> (width - 1):
                    value += (1 << container) - (1 << width)
                data |= value << lane * container
            contained.append(data)
        return contained, [payload >> self.port.width for payload in self.payloads]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Jobs, all that goes in, and all that must come out, by the names of the streams."""

    jobs: list[dict[str, int]]
    widths: dict[str, int]
    """Bits of each field of a job, the first in the lowest."""
    inputs: dict[str, StreamTransfers]
    outputs: dict[str, StreamTransfers]
    cycles: int
    """That the jobs take where nothing waits."""

    def job_payloads(self) -> list[int]:
        """Return the transfers of the stream `jobs`."""
        return [pack_fields(job, self.widths) for job in self.jobs]


def make_vectors(core: str, config: Any, jobs: Sequence[Job | Product]) -> Vectors:
    """Return the vectors of a core that does some jobs, one after the other."""
    made = [as_job(core, config, job) for job in jobs]
    inputs, outputs = {}, {}
    for port in config.inputs:
        words = [job.words(port.name, port.shape.width) for job in made]
        payloads = [number for word in words for number in _integers(word.rows) * word.times]
        inputs[port.name] = StreamTransfers(payloads, port)
    for port in config.outputs:
        packed = [pack_lanes(job.outputs[port.name][0], port.shape.width, job.outputs[port.name][1]) for job in made]
        outputs[port.name] = StreamTransfers(
            [number for rows in packed for number in _integers(rows)], port, framed=True
        )
    cycles = sum(config.cycles(**job.fields) for job in made)
    return Vectors([job.fields for job in made], field_bits(config), inputs, outputs, cycles)


def small_vectors(core: str, config: Any, seed: int = 1) -> Vectors:
    """Return the vectors of two small random jobs; of products in the first and last mode, in whole rows of results."""
    if not find_core(core).streams_products:
        return make_vectors(core, config, random_jobs(core, config, 2, seed))
    n_in = min(config.n_in_max, 2 * config.activation_lanes + 1)
    n_out = min(2, max(1, config.n_out_max // config.rows)) * config.rows
    modes = (0, len(config.modes) - 1)
    shapes = [(n_in, min(n_out, config.n_out_max), 2), (min(3, n_in), min(config.rows, config.n_out_max), 1)]
    products = [
        random_product(*shape, config, seed + number, mode)
        for number, (shape, mode) in enumerate(zip(shapes, modes, strict=True))
    ]
    return make_vectors(core, config, products)


def _integers(rows: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]
