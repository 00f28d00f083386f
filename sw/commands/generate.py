"""`nomul generate`: text from a character model, in floating point or in integers."""

import sys
import time
from pathlib import Path

import click
import torch

from sw import console
from sw.model import checkpoints
from sw.model.generation import check_request, generate_float, generate_integer
from sw.model.integer import IntegerModel, Positions
from sw.model.store import load_model
from sw.model.text import encode


@click.command("generate")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="A character model; the committed 'tiny' if absent."
)
@click.option("--prompt", required=True, help="The text to continue.")
@click.option("--backend", type=click.Choice(["float", "integer"]), default="integer", show_default=True)
@click.option("--tokens", type=int, help="Characters to generate; 200, or as many as the context holds, if absent.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 chooses the likeliest character.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random choices at a temperature.")
@console.json_option
def command(
    checkpoint: Path | None,
    prompt: str,
    backend: str,
    tokens: int | None,
    temperature: float,
    seed: int,
    as_json: bool,
) -> None:
    """Continue a prompt, character by character."""
    # One token is too little work to share: waiting for a second thread costs more than it gives.
    torch.set_num_threads(1)
    path = checkpoint or checkpoints.path()
    model, config = load_model(path)
    start = encode(prompt, model.config.characters)
    if tokens is None:
        tokens = max(1, min(200, model.config.context - len(start) + 1))
    check_request(model.config, start, tokens, temperature)
    if backend == "float":
        stream = generate_float(model, start, tokens, temperature, seed)
    else:
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(path)))
        stream = generate_integer(integer, start, tokens, temperature, seed)
    text = ""
    begin = time.perf_counter()
    if not as_json:
        sys.stdout.write(prompt)
    for token in stream:
        text += model.config.characters[token]
        if not as_json:
            sys.stdout.write(text[-1])
            sys.stdout.flush()
    rate = tokens / (time.perf_counter() - begin)
    if as_json:
        console.print_json(
            {
                "checkpoint": str(path),
                "backend": backend,
                "prompt": prompt,
                "text": text,
                "tokens": tokens,
                "temperature": temperature,
                "seed": seed,
                "tokens_per_second": round(rate, 2),
            }
        )
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
        console.stderr.print(
            f"{tokens} characters, {rate:.1f} a second, {backend} backend, {path.name}", highlight=False
        )
