"""Boards as the host sees them: which there are, the machine that each takes, and the number of a model."""

import dataclasses
import importlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component
from torch import Tensor

from nomul.accelerator_image import machine_config
from nomul.accelerators.config import AcceleratorConfig
from nomul.boards.board import Board
from nomul.boards.engine_top import EngineTop
from nomul.boards.machine_top import MachineTop
from nomul.bus.job_registers import config_hash
from nomul.catalog import configure, pack_activations, pack_weights
from nomul.cores.discover import cores, find_core
from nomul.engines.serial_commands import check_behind_serial
from nomul.errors import InputError
from nomul.export.machine_manifest import memory_of
from nomul.fpga.bitstream import Design
from nomul.memory.rom import rom_model
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import load_model, load_tokenizer
from nomul.model.tokenizer import CharacterTokenizer
from nomul.names import canonical

__all__ = [
    "BOARDS",
    "EngineDesign",
    "board_design",
    "engine_design",
    "engine_words",
    "find_board",
    "machine_for",
    "machine_top",
    "model_number",
    "open_model",
    "refuse_too_large",
]

BOARDS = {
    "icebreaker": "nomul.boards.icebreaker",
    "tang_nano_20k": "nomul.boards.tang_nano_20k",
    "ulx3s": "nomul.boards.ulx3s",
}
"""The module of each board."""


def find_board(name: str) -> Board:
    """Return a board; InputError if there is none of that name."""
    name = canonical(name, BOARDS)
    if name not in BOARDS:
        raise InputError(f"no board is called {name!r}; the boards are {', '.join(BOARDS)}")
    board: Board = importlib.import_module(BOARDS[name]).BOARD
    return board


def board_design(board: Board, top: Component, files: Mapping[str, str]) -> Design:
    """Return a board's design with its pins, ready for synthesis; `files` are the contents of its memories, by name."""
    plan = board.platform().prepare(board.pins(top), "top")
    texts = {file: text if isinstance(text, str) else text.decode() for file, text in plan.files.items()}
    rtlil = texts["top.il"]
    return Design(
        board=board.name,
        top="top",
        rtlil=rtlil,
        constraints=next(text for file, text in texts.items() if file.endswith((".lpf", ".pcf", ".cst"))),
        files={"rom.v": rom_model(rtlil), **files} if files else {},
        target=board.target,
        device=board.device,
        options=board.options,
        clock_mhz=board.clock_hz / 1e6,
        budget=board.budget,
        lutram_words=board.lutram_words,
        anchors=board.anchors,
    )


def model_number(path: Path) -> int:
    """Return the number by which a board and its host know that they mean the same model: CRC-32 of its file."""
    return zlib.crc32(path.read_bytes())


def open_model(path: Path) -> tuple[IntegerModel, str]:
    """Return the integer model of a checkpoint, and its characters."""
    model, config = load_model(path)
    tokenizer = load_tokenizer(path)
    if not isinstance(tokenizer, CharacterTokenizer):
        raise InputError(f"{path} has tokens of its own; a board's terminal takes models whose tokens are characters")
    return IntegerModel(model, Positions.from_config(config, model.config.layers, str(path))), tokenizer.characters


def machine_for(board: Board, model: IntegerModel) -> AcceleratorConfig:
    """Return the machine that fits a board; InputError if the board takes none, or not this model."""
    if board.machine is None:
        raise InputError(f"{board.title} is too small for a language model; give it an engine with --engine")
    engine, settings, lanes, tile = board.machine
    return machine_config(model, engine, settings, lanes=lanes, tile=tile)


def refuse_too_large(board: Board, config: AcceleratorConfig, name: str) -> None:
    """Refuse a machine whose parameters do not fit the block RAM of a board, before anything is synthesised."""
    bits = sum(file["width"] * file["depth"] for file in memory_of(config)["files"].values())
    most = board.budget["bram"] * board.bram_bits
    if bits > most:
        raise InputError(
            f"{name} does not fit {board.name}: its parameters take {bits / 1e6:.1f} Mbit, and the block RAM of the "
            f"chip has {most / 1e6:.1f}"
        )


def machine_top(board: Board, config: AcceleratorConfig, number: int, characters: str) -> Component:
    """Return the design of a board with a machine; InputError if a model is too large for the serial line."""
    try:
        return MachineTop(config, board.clock_hz, board.baud, number, characters)
    except ValueError as error:
        raise InputError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class EngineDesign:
    """The demonstration of an engine on a board."""

    board: Board
    name: str
    config: Any
    depth: int
    """Words of weights that it keeps."""

    kind: str
    """Of the memory that it keeps them in."""

    @property
    def number(self) -> int:
        """What the board says that it holds."""
        return config_hash(self.config)

    def top(self) -> EngineTop:
        """Return the design."""
        board, component = self.board, find_core(self.name).gateware.component(self.config)
        return EngineTop(component, self.config, board.clock_hz, board.baud, self.number, self.depth, self.kind)


def engine_design(board: Board, engine: str | None, settings: Sequence[str]) -> EngineDesign:
    """Return the demonstration of a board with an engine; by default the board's own.

    Raises
    ------
    InputError
        If the board takes none, or not this one, or it cannot stand behind a serial line.
    """
    if board.engine is None:
        raise InputError(f"{board.title} has no demonstration of an engine; it takes a language model")
    name, own, depth, kind = board.engine
    engine = engine and find_core(engine).name
    if engine is not None and not find_core(engine).streams_products:
        able = [name for name, core in cores().items() if core.streams_products]
        raise InputError(f"{engine} has other streams than a board's demonstration; take one of {', '.join(able)}")
    config = configure(engine or name, [*(own if engine in (None, name) else ()), *settings])
    try:
        check_behind_serial(config)
    except ValueError as error:
        raise InputError(str(error)) from None
    return EngineDesign(board, engine or name, config, depth, kind)


def engine_words(name: str, config: Any, weight: Tensor, activations: Tensor) -> tuple[list[bytes], bytes]:
    """Return the words of a matrix and the octets of a vector, as `nomul.host.serial.EngineBoard` takes them."""
    words = [bytes(word) for word in pack_weights(name, config, weight, 0)]
    return words, pack_activations(config, activations[None]).tobytes()
