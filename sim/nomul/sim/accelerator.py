"""Runs a machine in a simulator, and compares every value that it makes with the integer model's."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from torch import Tensor

from nomul.accelerator_image import cache_image, dram_image, write_images
from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.machine import Machine
from nomul.accelerators.memory_map import MemoryMap
from nomul.accelerators.weights import ADDRESS_BITS
from nomul.errors import MismatchError, ToolError
from nomul.export.rtlil import verilog
from nomul.golden.attention import KVCache
from nomul.model.integer import IntegerModel
from nomul.sim.accelerator_trace import compare
from nomul.sim.dram import Dram, DramConfig, attach, verilog_with_dram
from nomul.sim.runner import Simulator, build

__all__ = ["MachineWithDram", "build_machine", "generate", "run_jobs", "stripe_bytes", "write_dram"]

TOP = "machine"


class MachineWithDram(Component):
    """A machine whose memory is DRAM, with the DRAM: its streams are those of the machine.

    Further members
    ---------------
    stall, error_low, error_high : In
        As of `nomul.sim.dram.Dram`; `error_low` and `error_high` are set before anything is read.
    violation, mismatch, memory_error : Out(1)
    read_beats, write_beats : Out(64)
    """

    def __init__(self, config: AcceleratorConfig, dram: DramConfig) -> None:
        self.machine, self.dram = Machine(config), Dram(dram)
        shared = ("jobs", "prompt", "results", "logits_valid", "logits", "busy", "step", "layer", "fault")
        members = dict(self.machine.signature.members)
        super().__init__(
            {
                **{name: members[name] for name in (*shared, "mismatch", "memory_error")},
                "stall": In(8),
                "error_low": In(ADDRESS_BITS),
                "error_high": In(ADDRESS_BITS),
                "violation": Out(1),
                "read_beats": Out(64),
                "write_beats": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect them."""
        m = Module()
        m.submodules.machine, m.submodules.dram = machine, dram = self.machine, self.dram
        attach(m, dram, machine)
        connect(m, flipped(self.jobs), machine.jobs)
        connect(m, flipped(self.prompt), machine.prompt)
        connect(m, machine.results, flipped(self.results))
        stride = stripe_bytes(machine.config)
        m.d.comb += [base.eq(port * stride) for port, base in enumerate(machine.bases)]
        m.d.comb += [
            *(getattr(self, name).eq(getattr(machine, name))
              for name in ("logits_valid", "logits", "busy", "step", "layer", "fault", "mismatch", "memory_error")),
            *(getattr(dram, name).eq(getattr(self, name)) for name in ("stall", "error_low", "error_high")),
            *(getattr(self, name).eq(getattr(dram, name)) for name in ("violation", "read_beats", "write_beats")),
        ]  # fmt: skip
        return m


def stripe_bytes(config: AcceleratorConfig) -> int:
    """Return the distance of the ports' stripes in DRAM: what each needs, in whole pages."""
    words = MemoryMap(config).end
    return -(-words * config.port_bits // 8 // 4096) * 4096


def build_machine(config: AcceleratorConfig, dram: DramConfig | None = None, simulator: str = "verilator") -> Simulator:
    """Generate a machine and build a simulator of it; its parameters come later, from files.

    A machine whose memory is DRAM gets one, with the sizes of its ports whatever `dram` says.
    """
    if config.memory == "block":
        return build(verilog(Machine(config), TOP), TOP, simulator, config.engine_config.target)
    sizes = {"ports": config.ports, "port_bits": config.port_bits, "size": config.ports * stripe_bytes(config)}
    component = MachineWithDram(config, dataclasses.replace(dram or DramConfig(), **sizes))
    return build(verilog_with_dram(component, TOP), TOP, simulator, config.engine_config.target)


def write_dram(
    model: IntegerModel, config: AcceleratorConfig, file: Path, caches: Sequence[KVCache] | None = None
) -> None:
    """Write the contents of a machine's DRAM: the stripes of its ports, one after the other.

    With `caches`, one for each layer, keys and values of a text are in it.
    """
    image, stride, width = dram_image(model, config), stripe_bytes(config), config.port_bits // 8
    if caches is not None:
        image = np.concatenate([image, cache_image(model, config, caches)])
    with file.open("wb") as out:
        for port in range(config.ports):
            out.seek(port * stride)
            out.write(np.ascontiguousarray(image[:, port * width : (port + 1) * width]).tobytes())
        out.truncate(config.ports * stride)


def run_jobs(
    simulator: Simulator,
    model: IntegerModel,
    config: AcceleratorConfig,
    jobs: Sequence[dict[str, Any]],
    folder: Path,
    seed: int = 0,
    memory: dict[str, int] | None = None,
    image: bytes | None = None,
    steps: bool = False,
) -> dict[str, Any]:
    """Run jobs in a simulator, in a folder to which the parameters and the traces are written.

    `memory` says `stall`, `error_low` and `error_high` of `nomul.sim.dram.Dram`; `image` is its contents, if not the
    model's. With `steps` each job's outcome has the cycles of each step (`nomul.accelerators.sequencer.Step`).
    """
    if config.memory == "block":
        write_images(model, config, folder)
    elif image is None:
        write_dram(model, config, folder / "dram.bin")
    else:
        (folder / "dram.bin").write_bytes(image)
    case: dict[str, Any] = {"jobs": list(jobs), "tokens_file": str(folder / "tokens.txt"), "seed": seed, "steps": steps}
    if config.memory == "axi":
        case["memory"] = {"stall": 0, "error_low": 0, "error_high": 0, **(memory or {})}
        case["read"] = ["violation", "mismatch", "memory_error", "read_beats", "write_beats"]
    return simulator.run("nomul.sim.accelerator_bench", case, folder=folder)


def generate(
    simulator: Simulator, model: IntegerModel, config: AcceleratorConfig, prompt: Tensor, tokens: int
) -> Iterator[tuple[int, int]]:
    """Yield each token and its cycle as the simulated machine makes it.

    Raises
    ------
    MismatchError
        With `config.trace`, if a value differs from the integer model's; the message says which is the first.
    ToolError
        If the simulator or the machine stops.
    """
    with tempfile.TemporaryDirectory(prefix="nomul-machine-") as name:
        folder = Path(name)
        job = {"prompt": prompt.tolist(), "tokens": tokens, "timeout": 20_000_000}
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome.update(run_jobs(simulator, model, config, [job], folder))
            except BaseException as error:
                outcome["raised"] = error

        worker = threading.Thread(target=work)
        worker.start()
        seen, file = 0, folder / "tokens.txt"
        while True:
            alive = worker.is_alive()
            lines = file.read_text().splitlines(keepends=True) if file.exists() else []
            for line in lines[seen:]:
                if line.endswith("\n"):
                    seen += 1
                    token, cycle = line.split()
                    yield int(token), int(cycle)
            if not alive:
                break
            time.sleep(0.02)
        if "raised" in outcome:
            raise outcome["raised"]
        (said,) = outcome["jobs"]
        if config.trace:
            difference = compare(model, config, prompt, said["tokens"], folder)
            if difference is not None:
                raise MismatchError(str(difference))
        if said["error"] or said["fault"]:
            raise ToolError(f"the machine stopped after {len(said['tokens'])} tokens: {said['error'] or 'fault'}")
