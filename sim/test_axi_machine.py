"""Benches of a machine behind its registers, with the host's driver, against the integer model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sim.accelerator import stripe_bytes, write_dram
from sim.axi_machine import build_axi_machine
from sim.test_machine import SETUPS, SHAPE, model_of
from sw.accelerators import machine_config
from sw.flow.machine_manifest import machine_manifest
from sw.model.generation import generate_integer

SETUP = SETUPS["axi"]
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
OKAY, SLVERR = 0, 2


def run(work: str, folder: Path, image: bytes | None = None, **case: Any) -> dict[str, Any]:
    """Run a part of the bench on the machine of `SETUP`, or on another image."""
    model = model_of(SETUP)
    fields = dict(SETUP.fields)
    config = machine_config(model, SETUP.engine, SETUP.settings, lanes=SETUP.lanes, tile=SETUP.tile, **fields)
    manifest = json.loads(json.dumps(machine_manifest(config)))
    write_dram(model, config, folder / "dram.bin")
    if image is not None:
        stored = bytearray((folder / "dram.bin").read_bytes())
        stored[: len(image)] = image
        (folder / "dram.bin").write_bytes(stored)
    bases = [port * stripe_bytes(config) for port in range(config.ports)]
    whole = {"work": work, "manifest": manifest, "bases": bases, "prompt": PROMPT, "context": SHAPE.context, **case}
    return build_axi_machine(config).run("sim.axi_machine_bench", whole, folder=folder)


def expected(prompt: list[int], tokens: int) -> list[int]:
    """Return what the integer model says."""
    return list(generate_integer(model_of(SETUP), torch.tensor(prompt), tokens, 0.0, 0))


@pytest.mark.bench
@pytest.mark.parametrize("stall", [0, 100])
def test_a_host_runs_the_machine(stall: int, tmp_path: Path) -> None:
    illegal = [
        {"prompt": [], "tokens": 1},
        {"prompt": [1], "tokens": 0},
        {"prompt": [1] * SHAPE.context, "tokens": 2},
        {"prompt": [1], "tokens": 1, "position": SHAPE.context},
        {"prompt": [1], "tokens": 1, "position": 0xFFFFFFFF},
        {"prompt": [1], "tokens": 0xFFFFFFFF},
        {"prompt": [1], "tokens": 1 << 20},
        {"prompt": [1, SHAPE.vocabulary, 2], "tokens": 1},
        {"prompt": [0xFFFFFFFF], "tokens": 1},
    ]
    wrong_bases = [[], [0], [0, 0x800], [0, 1 << 32], [0, 0, 0]]
    accesses = [[0x00, None], [0x00, 1], [0x2C, None], [0xFC, None], [0xFC, 5], [0x54, 255]]
    more, tokens = [7, 0, 7], 5
    said = run(
        "whole", tmp_path, stall=stall, tokens=tokens, illegal=illegal, wrong_bases=wrong_bases, accesses=accesses,
        reset_step=611, more=more,
    )  # fmt: skip
    assert not any(said["before"].values())
    assert "not ready" in said["start_in_reset"]
    assert ["base address" in message for message in said["wrong_bases"]] == [True] * len(wrong_bases)
    assert [name for name, up in said["ready"].items() if up] == ["ready"]
    assert said["base"] == [True, True]
    assert said["answers"] == [OKAY, SLVERR, SLVERR, SLVERR, SLVERR, OKAY]

    chosen = expected(PROMPT, tokens)
    assert said["tokens"] == chosen and said["generated"] == tokens
    assert said["irq"] == [0, 0, 1, 0]
    assert [name for name, up in said["after"].items() if up] == ["ready", "done"]
    model = model_of(SETUP)
    caches = model.caches()
    logits = model.forward(torch.tensor([PROMPT + chosen[:-1]]), caches, lambda name, value: None)[0][0, -1]
    assert said["logits"] == logits.tolist()

    counters = said["counters"]
    steps = {name: cycles for name, cycles in counters.items() if name not in ("TOTAL", "FIRST_TOKEN")}
    assert sum(steps.values()) == counters["TOTAL"] and min(steps.values()) > 0
    assert counters["TOTAL"] / 10 < counters["FIRST_TOKEN"] < counters["TOTAL"]

    for message, irq, status in said["illegal"]:
        assert "refused a prompt of" in message and irq == 1 and not status["busy"]
    assert ["does not exist" in message for message, _, _ in said["illegal"]] == [False] * 7 + [True] * 2
    assert said["after_illegal"] == [[chosen[:1], 0]] * len(illegal)
    assert said["no_prompt"]["illegal"] and not said["no_prompt"]["busy"]
    assert said["full"] == [SHAPE.context, True] and said["emptied"] == [0, True]
    assert "not ready" in said["busy_start"] and said["undisturbed"] == chosen[:2]
    assert said["waiting"] == [1, 2, True] and said["late"] == [chosen[:2], 0, 0]
    for clean, tokens_after in said["reset"]:
        assert clean == [0, 0] and tokens_after == chosen[:2]
    assert said["position"] == expected([*PROMPT, chosen[0], *more], 2)
    assert said["violation"] == 0


@pytest.mark.bench
def test_another_machines_image_is_refused(tmp_path: Path) -> None:
    said = run("wrong_image", tmp_path, image=b"\x55" * 8)
    assert "image in memory" in said["message"] and said["irq"] == 1
    assert said["status"]["mismatch"] and not said["status"]["busy"]
    assert "image in memory" in said["again"]


@pytest.mark.bench
@pytest.mark.parametrize("after", [500, 9000])
def test_an_error_of_the_memory_ends_the_job(after: int, tmp_path: Path) -> None:
    said = run("memory_error", tmp_path, errors_after=after, errors=[0, 0xFFFF_FFFF])
    assert "memory answered with an error" in said["message"] and "memory answered" in said["refused"]
    assert said["status"]["memory_error"] and not said["status"]["busy"] and not said["status"]["done"]
    assert said["tokens"] == expected(PROMPT, 3) and said["violation"] == 0
