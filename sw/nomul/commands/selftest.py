"""`nomul selftest`: an engine on a board multiplies, and every result is compared with PyTorch's."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from nomul import console
from nomul.board_designs import EngineDesign, engine_design, engine_words, find_board
from nomul.errors import InputError, ToolError
from nomul.host.serial import BAUD, EngineBoard, Line, baud_speed
from nomul.options import Integer, Seed

KIND = 2
"""Of an engine, as a board tells it."""


@click.command("selftest")
@click.argument("port")
@click.option("--board", "board_name", default="icebreaker", show_default=True)
@click.option("--engine", help="The engine in the board's bitstream; the board's own if absent.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the engine.")
@click.option("--baud", type=Integer(1), default=BAUD, show_default=True)
@click.option(
    "--vectors", type=Integer(1, 65535), default=4, show_default=True, help="Products to compute, each of its own size."
)
@click.option("--seed", type=Seed(), default=0, show_default=True)
@console.json_option
def command(
    port: str,
    board_name: str,
    engine: str | None,
    settings: tuple[str, ...],
    baud: int,
    vectors: int,
    seed: int,
    as_json: bool,
) -> None:
    """Give random weights and activations to an engine on a board; compare all results with an integer matmul.

    PORT is a serial port such as /dev/ttyUSB1, or `sim` for a simulated board.
    """
    baud_speed(baud)
    torch.set_num_threads(1)
    board = find_board(board_name)
    design = engine_design(board, engine, settings)
    name, config = design.name, design.config
    generator = torch.Generator().manual_seed(seed)
    begin = time.perf_counter()
    results = 0
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(_simulated(design)) if port == "sim" else Path(port)
        line = Line(device, baud)
        stack.callback(line.close)
        host = EngineBoard(line, 60 if port == "sim" else 2)
        info = host.board.info()
        if info.kind != KIND or info.number != design.number:
            raise InputError(f"the board on {port} does not hold this {name}; give the --set of its bitstream")
        for number in range(vectors):
            weight, activations = _product(config, generator, largest=number == 0, words=design.depth)
            n_out, n_in = weight.shape
            words, octets = engine_words(name, config, weight, activations)
            host.load(words)
            got = torch.tensor(host.run(octets, n_in, n_out))
            expected = weight.long() @ activations.long()
            wrong = (got != expected).nonzero().flatten().tolist()
            if wrong:
                raise ToolError(
                    f"product {number} of {n_out} x {n_in}: result {wrong[0]} is {int(got[wrong[0]])}, and should be "
                    f"{int(expected[wrong[0]])}; {len(wrong)} of {n_out} results differ"
                )
            results += n_out
            console.stderr.print(f"{n_out} x {n_in}: {n_out} results agree", highlight=False)
    seconds = time.perf_counter() - begin
    if as_json:
        found: dict[str, Any] = {"port": port, "board": board.name, "engine": name, "products": vectors}
        console.print_json({**found, "results": results, "mismatches": 0, "seconds": round(seconds, 2)})
    else:
        console.stdout.print(f"{results} results of {vectors} products agree with PyTorch", highlight=False)


def _product(config: Any, generator: torch.Generator, *, largest: bool, words: int) -> tuple[Tensor, Tensor]:
    """Return random ternary weights [n_out, n_in] that fit in so many words, and random activations [n_in]."""

    def size(most: int) -> int:
        return most if largest else int(torch.randint(1, most + 1, (1,), generator=generator))

    n_in, n_out = size(min(config.n_in_max, 256)), size(min(config.n_out_max, 64))
    while config.weight_transfers(n_in, n_out) > words:
        n_out = -(-n_out // 2)
    low, high = config.modes[0].weights
    weight = torch.randint(low, high + 1, (n_out, n_in), generator=generator, dtype=torch.int8)
    limit = 1 << (config.act_bits - 1)
    return weight, torch.randint(-limit, limit, (n_in,), generator=generator, dtype=torch.int8)


@contextlib.contextmanager
def _simulated(design: EngineDesign) -> Iterator[Path]:
    """Run the board's design in a simulator; yield its port."""
    from nomul.sim.board import simulated_top

    console.stderr.print("building the simulated board")
    with simulated_top(design.top(), "ice40", {}, {}) as simulated:
        yield simulated.port
