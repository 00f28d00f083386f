"""`nomul trace`: every named intermediate of the integer model, to pin a machine that differs to its first tensor."""

from pathlib import Path

import click
import torch

from nomul import console
from nomul.errors import InputError
from nomul.files import destination
from nomul.formats.container import write_container
from nomul.model import checkpoints
from nomul.model.activations import first_tokens, trace
from nomul.model.integer import IntegerModel
from nomul.model.store import load_tokenizer
from nomul.model.text import read_text
from nomul.options import CheckpointPath, Integer, Output


@click.command("trace")
@click.option("--checkpoint", type=CheckpointPath(), help="A ternary model; the committed 'tiny' if absent.")
@click.option("--text", type=click.Path(path_type=Path), help="UTF-8 text to read; a committed sonnet if absent.")
@click.option("--tokens", type=Integer(1), default=16, show_default=True, help="Tokens to read from its start.")
@click.option("-o", "--output", type=Output(file=True), required=True, help="The safetensors file to write.")
@console.json_option
@torch.no_grad()
def command(checkpoint: Path | None, text: Path | None, tokens: int, output: Path, as_json: bool) -> None:
    """Record the intermediates of reading a text, as int32 tensors named as docs/numerics.md lists them."""
    destination(output)
    path = checkpoint or checkpoints.path()
    model = IntegerModel.load(path)
    content = checkpoints.sample_text() if text is None else read_text(text)
    if not 1 <= tokens <= model.config.context:
        raise InputError(f"tokens is {tokens}; the model's context allows 1 to {model.config.context}")
    codes = first_tokens(load_tokenizer(path), content, tokens)
    values = {"input": codes, **trace(model, codes)}
    stored = {name: value.to(torch.int32) for name, value in values.items()}
    write_container(output, stored, {"format": "nomul-trace-1", "checkpoint": path.name})
    report = {
        "checkpoint": str(path),
        "output": str(output),
        "tokens": tokens,
        "tensors": len(stored),
        "bytes": output.stat().st_size,
    }
    if as_json:
        console.print_json(report)
    else:
        console.stdout.print(f"Wrote {len(stored)} tensors over {tokens} tokens to {output}.", highlight=False)
