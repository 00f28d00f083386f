"""Benches of a machine behind its registers, with the host's driver, against the integer model."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.export.c_header import c_header
from nomul.export.machine_manifest import machine_manifest
from nomul.model.generation import generate_integer
from nomul.model.integer import IntegerModel
from nomul.sim.accelerator import stripe_bytes, write_dram
from nomul.sim.axi_machine import build_axi_machine
from nomul.sim.axi_machine_bench import LEFT_STEPS
from sim.test_machine import SETUPS, SHAPE, model_of

SETUP = SETUPS["axi"]
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
OKAY, SLVERR = 0, 2


HOST = """#define NOMUL_ACCESS
#include <stdint.h>
static uint32_t (*reader)(uint32_t);
static void (*writer)(uint32_t, uint32_t);
static uint32_t nomul_read(volatile uint32_t *registers, uint32_t offset) { (void)registers; return reader(offset); }
static void nomul_write(volatile uint32_t *registers, uint32_t offset, uint32_t value) {
    (void)registers;
    writer(offset, value);
}
#include "machine.h"
void reach(uint32_t (*read)(uint32_t), void (*write)(uint32_t, uint32_t)) { reader = read; writer = write; }
int is_ours(void) { return nomul_is_ours(0); }
uint32_t start(const uint32_t *prompt, uint32_t length, uint32_t tokens) {
    return nomul_start(0, prompt, length, tokens, 0);
}
uint32_t stop(void) { return nomul_stop(0); }
int token(uint32_t *token) { return nomul_token(0, token); }
"""


def machine_of() -> tuple[IntegerModel, AcceleratorConfig]:
    """Return the model of `SETUP`, and its machine."""
    model = model_of(SETUP)
    settings: dict[str, Any] = {"lanes": SETUP.lanes, "tile": SETUP.tile, **dict(SETUP.fields)}
    return model, machine_config(model, SETUP.engine, SETUP.settings, **settings)


def run(work: str, folder: Path, image: bytes | None = None, **case: Any) -> dict[str, Any]:
    """Run a part of the bench on the machine of `SETUP`, or on another image."""
    model, config = machine_of()
    manifest = json.loads(json.dumps(machine_manifest(config)))
    write_dram(model, config, folder / "dram.bin")
    if image is not None:
        stored = bytearray((folder / "dram.bin").read_bytes())
        stored[: len(image)] = image
        (folder / "dram.bin").write_bytes(stored)
    bases = [port * stripe_bytes(config) for port in range(config.ports)]
    whole = {"work": work, "manifest": manifest, "bases": bases, "prompt": PROMPT, "context": SHAPE.context, **case}
    return build_axi_machine(config).run("nomul.sim.axi_machine_bench", whole, folder=folder)


def compile_header(folder: Path) -> str:
    """Compile the functions of machine.h, over any registers, to a library; return its file."""
    (folder / "machine.h").write_text(c_header(json.loads(json.dumps(machine_manifest(machine_of()[1])))))
    (folder / "host.c").write_text(HOST)
    file = folder / "host.so"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(file), str(folder / "host.c")], check=True, timeout=60)
    return str(file)


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
    header: dict[str, Any] = {"header": compile_header(tmp_path)} if shutil.which("cc") and not stall else {}
    said = run(
        "whole", tmp_path, stall=stall, tokens=tokens, illegal=illegal, wrong_bases=wrong_bases, accesses=accesses,
        reset_step=611, left_step=1777, more=more, **header,
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
    assert "not ready" in said["busy_start"]
    assert said["undisturbed"] == [[True, lost, chosen[:2], 0] for lost in (False, True)]
    *stopped, left, after_left, gone_on = said["left"]
    assert stopped == [[True, chosen[:2]]] * LEFT_STEPS
    assert [left, after_left, gone_on] == [[True, chosen[:1]], [True, chosen[:2]], [True, chosen[2:4]]]
    assert said["untaken"] == chosen[:2] and said["stopped_idle"]
    if header:
        refused = 1 << list(said["before"]).index("refused")
        ended = [0, 1, chosen[0], 0, chosen[1]]
        assert said["header"] == [1, [0, 1, chosen[0]], refused, 0, ended, 0]
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
