"""`nomul generate`: text from a model, in floating point, in integers, or by simulated hardware."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import click
import torch

from nomul import console
from nomul.errors import InputError
from nomul.model import checkpoints
from nomul.model.generation import check_request, generate_float, generate_integer
from nomul.model.integer import IntegerModel, Positions
from nomul.model.store import load_model, load_tokenizer
from nomul.model.tokenizer import FileTokenizer, Tokenizer
from nomul.options import POSITIVE, CheckpointPath, Integer, Number, Seed, bundle, refuse_given


@dataclasses.dataclass(frozen=True)
class RtlOptions:
    """The machine that speaks, and its clock in MHz."""

    engine: str
    settings: tuple[str, ...]
    lanes: int | None
    tile: int | None
    clock: float


@click.command("generate")
@click.option("--checkpoint", type=CheckpointPath(), help="A model; the committed 'tiny' if absent.")
@click.option("--prompt", required=True, help="The text to continue.")
@click.option("--backend", type=click.Choice(["float", "integer", "rtl"]), default="integer", show_default=True)
@click.option("--tokens", type=Integer(), help="Tokens to generate; 200, or as many as the context holds, if absent.")
@click.option("--temperature", type=Number(), default=0.0, show_default=True, help="0 chooses the likeliest token.")
@click.option("--seed", type=Seed(), default=0, show_default=True, help="Of the random choices at a temperature.")
@click.option("--chat", is_flag=True, help="Put the prompt into the model's chat template: a user's message.")
@bundle(
    "rtl",
    RtlOptions,
    click.option("--engine", help="Backend rtl: the engine of the projections; the machine's own by default."),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Backend rtl: a field of the engine."),
    click.option(
        "--lanes", type=Integer(1), help="Backend rtl: elements of vectors in a cycle, and rows of the engine."
    ),
    click.option("--tile", type=Integer(1), help="Backend rtl: prompt tokens that share the weights."),
    click.option(
        "--clock",
        type=POSITIVE,
        default=100.0,
        show_default=True,
        help="Backend rtl: MHz, for tokens a second.",
    ),
)
@console.json_option
def command(
    checkpoint: Path | None, prompt: str, backend: str, tokens: int | None, temperature: float, seed: int,
    chat: bool, rtl: RtlOptions, as_json: bool,
) -> None:  # fmt: skip
    """Continue a prompt, token by token, until the tokens are there or the model ends its text."""
    # One token is too little work to share: waiting for a second thread costs more than it gives.
    torch.set_num_threads(1)
    if backend != "rtl":
        refuse_given(("engine", "settings", "lanes", "tile", "clock"), f"goes with --backend rtl only, not {backend}")
    path = checkpoint or checkpoints.path()
    model, config = load_model(path)
    tokenizer = load_tokenizer(path)
    start = tokenizer.encode(_chat(tokenizer, prompt, path) if chat else prompt)
    if tokens is None:
        tokens = max(1, min(200, model.config.context - len(start) + 1))
    check_request(model.config, start, tokens, temperature)
    figures: dict[str, Any] = {}
    if backend == "rtl":
        from nomul.commands.generate_rtl import generate_rtl

        if temperature:
            raise InputError(f"temperature is {temperature}; the machine chooses greedily, at temperature 0")
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(path)))
        stream = generate_rtl(integer, start, tokens, rtl, figures)
    elif backend == "float":
        stream = generate_float(model, start, tokens, temperature, seed)
    else:
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(path)))
        del model
        stream = generate_integer(integer, start, tokens, temperature, seed)
    text, said = "", 0
    read = tokenizer.decoder()
    begin = time.perf_counter()
    # A simulator that runs beside takes sys.stdout for its own messages.
    out = sys.stdout
    try:
        for token in stream:
            if token in tokenizer.stops:
                break
            if not said and not as_json:
                out.write(prompt)
            said += 1
            piece = read(token)
            text += piece
            if not as_json:
                out.write(piece)
                out.flush()
    finally:
        if said and not as_json:
            out.write("\n")
            out.flush()
    rate = said / (time.perf_counter() - begin)
    if as_json:
        console.print_json(
            {
                "checkpoint": str(path),
                "backend": backend,
                "prompt": prompt,
                "text": text,
                "tokens": said,
                "temperature": temperature,
                "seed": seed,
                "tokens_per_second": round(rate, 2),
                **figures,
            }
        )
    else:
        console.stderr.print(
            f"{said} {tokenizer.unit}s, {rate:.1f} a second, {backend} backend, {path.name}", highlight=False
        )
        if figures:
            show_machine(figures, rtl.clock)


def _chat(tokenizer: Tokenizer, message: str, path: Path) -> str:
    if not isinstance(tokenizer, FileTokenizer):
        raise InputError(f"{path} is a model of characters, without a chat template; leave --chat out")
    return tokenizer.chat(message)


def show_machine(figures: dict[str, Any], clock: float) -> None:
    """Say what the machine took, and what that is at a clock in MHz."""
    decode = figures["cycles_per_token"]
    lines = [
        f"every recorded value equals the integer model's; prefill {figures['prefill_cycles_per_token']:,.0f} cycles a "
        f"token, {1e6 * clock / figures['prefill_cycles_per_token']:,.0f} tokens a second at {clock:g} MHz"
    ]
    if decode:
        lines.append(
            f"decode {decode:,.0f} cycles a token, {1e6 * clock / decode:,.0f} tokens a second at {clock:g} MHz; "
            f"{figures['weight_bytes_per_token']:,} bytes of weights a token, all on the chip"
        )
    for line in lines:
        console.stderr.print(line, highlight=False)
