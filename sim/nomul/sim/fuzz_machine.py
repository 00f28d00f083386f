"""Random small machines: tokens against the integer model, with stalls, refused jobs, resets and failing memory."""

import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.memory_map import MemoryMap
from nomul.model.integer import IntegerModel
from nomul.sim.accelerator import build_machine, run_jobs
from nomul.sim.draw_machine import KINDS, MachineJobs, draw_jobs, draw_machine

__all__ = ["find_machine_fault", "machines"]

TIMEOUT = 150_000
"""Cycles in which the slowest small machine makes a token."""


def machines(seed: int, simulator: str) -> str | None:
    """Simulate the machine of a seed; return its fault in one line, or None."""
    torch.set_num_threads(1)
    dice = random.Random(seed)
    config: AcceleratorConfig | None = None
    try:
        model, config = draw_machine(dice)
        fault = find_machine_fault(dice, model, config, simulator)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    return fault and " ".join(f"seed {seed}: {config}: {fault}".split())


def find_machine_fault(
    dice: random.Random,
    model: IntegerModel,
    config: AcceleratorConfig,
    simulator: str,
    kinds: Sequence[str] = KINDS,
) -> str | None:
    """Run drawn jobs on a machine, and perhaps with failing memory; return what is wrong, or None."""
    built = build_machine(config, simulator=simulator)
    try:
        work = draw_jobs(dice, model, TIMEOUT, kinds)
        memory = {"stall": dice.choice((0, 0, 60, 160))}
        with tempfile.TemporaryDirectory(prefix="nomul-machine-") as name:
            said = run_jobs(built, model, config, work.jobs, Path(name), dice.randrange(1 << 30), memory)
        fault = _compare(work, said)
        if fault is None and config.memory == "axi" and dice.random() < 0.4:
            fault = _failing(dice, model, config, built, work)
        return fault
    finally:
        shutil.rmtree(built.folder, ignore_errors=True)
        Path(f"{built.folder}.lock").unlink(missing_ok=True)


def _compare(work: MachineJobs, said: dict[str, Any]) -> str | None:
    for number, (job, tokens, got) in enumerate(zip(work.jobs, work.tokens, said["jobs"], strict=True)):
        if got["error"] or got["tokens"] != (tokens or []) or got["fault"] != (tokens is None):
            return f"job {number}, {job}: expected {tokens}, got {got}"
    for name in ("violation", "mismatch", "memory_error"):
        if said.get(name):
            return f"{name} is {said[name]}"
    return None


def _failing(
    dice: random.Random, model: IntegerModel, config: AcceleratorConfig, built: Any, work: MachineJobs
) -> str | None:
    """Let a few bytes of memory answer with an error: a job ends, with its tokens or with those before and a status."""
    job, tokens = next((job, tokens) for job, tokens in zip(work.jobs, work.tokens, strict=True) if tokens)
    low = dice.randrange(MemoryMap(config).end) * config.port_bits // 8
    memory = {"error_low": low, "error_high": low + dice.choice((8, 64, 4096))}
    with tempfile.TemporaryDirectory(prefix="nomul-machine-") as name:
        said = run_jobs(built, model, config, [{**job, "reset_after": 0}], Path(name), memory=memory)
    (got,) = said["jobs"]
    whole, begun = got["tokens"] == tokens, got["tokens"] == tokens[: len(got["tokens"])]
    refused = got["error"] == "the job is not taken"  # the memory failed before it
    if said["violation"] or not begun or (got["error"] and not refused) or not (whole or said["memory_error"]):
        return f"memory {memory}, job {job}: expected {tokens}, got {said}"
    return None
