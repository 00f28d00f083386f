"""`nomul eval`: how good a model is on a text, and how closely its integer form follows it."""

import math
import time
from pathlib import Path

import click

from nomul import console
from nomul.model import checkpoints
from nomul.model.evaluation import evaluate
from nomul.model.integer import IntegerModel, Positions
from nomul.model.packed import pack_projections, packable
from nomul.model.store import load_model, load_tokenizer
from nomul.model.text import read_text, split
from nomul.options import CheckpointPath, Integer


@click.command("eval")
@click.option("--checkpoint", type=CheckpointPath(), help="A character model; the committed 'tiny' if absent.")
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    help="UTF-8 text; a committed one that no model here was trained or chosen on if absent.",
)
@click.option(
    "--part",
    type=click.Choice(["validation", "all"]),
    default="validation",
    show_default=True,
    help="The last 10 % of the text, which training does not see but chooses the best step by, or all of it.",
)
@click.option("--limit", type=Integer(2), help="Tokens to read at most, from the part's beginning.")
@console.json_option
def command(checkpoint: Path | None, text: Path | None, part: str, limit: int | None, as_json: bool) -> None:
    """Measure the loss in nats a token of the float and of the integer model, and how often they agree.

    Tokens, which are the characters of the models that Nomul trains, are predicted in consecutive windows of the
    model's context. Models that are not ternary have no integer form here; their figures for it are null. A BWTA model
    is measured in its packed form too, whose projections count bits: the loss is the same, and the processor time of
    both is told.
    """
    path = checkpoint or checkpoints.path()
    model, config = load_model(path)
    content = checkpoints.sample_text() if text is None else read_text(text)
    part = "test" if text is None else part
    tokenizer = load_tokenizer(path)
    tokens = tokenizer.encode(split(content)[1] if part == "validation" else content)[:limit]
    integer = None
    if model.config.linear == "ternary":
        integer = IntegerModel(model, Positions.from_config(config, model.config.layers, str(path)))
    packed = pack_projections(model) if packable(model) else None
    begin = time.perf_counter()
    with console.progress_bar(transient=True) as progress:
        task = progress.add_task("Evaluating", total=None)
        result = evaluate(
            model, integer, tokens, lambda done, total: progress.update(task, completed=done, total=total), packed
        )
    read = tokenizer.decoder()
    octets = len("".join(read(token) for token in tokens[1:].tolist()).encode())

    def by_byte(loss: float | None) -> float | None:
        return None if loss is None or not octets else loss * result.characters / octets

    unit = tokenizer.unit
    ternary = sum(p.numel() for n, p in model.named_parameters() if n.endswith("_proj.weight"))
    report = {
        "checkpoint": str(path),
        "text": None if text is None else str(text),
        "part": part,
        "linear": model.config.linear,
        "characters": result.characters,
        "nats_per_char_float": result.nats_per_char_float,
        "nats_per_char_integer": result.nats_per_char_integer,
        "nats_per_char_packed": result.nats_per_char_packed,
        "unit": unit,
        "text_bytes": octets,
        "nats_per_byte_float": by_byte(result.nats_per_char_float),
        "nats_per_byte_integer": by_byte(result.nats_per_char_integer),
        "agreement": result.agreement,
        "seconds_float": round(result.seconds_float, 2),
        "seconds_packed": None if result.seconds_packed is None else round(result.seconds_packed, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
        "ternary_parameters": ternary if model.config.linear == "ternary" else 0,
        "bytes": path.stat().st_size,
        "seconds": round(time.perf_counter() - begin, 2),
    }
    if as_json:
        console.print_json(report)
        return
    console.stdout.print(f"{path.name}: {report['parameters']:,} parameters, {ternary:,} in the projections "
                         f"({model.config.linear}), {report['bytes']:,} bytes", highlight=False)  # fmt: skip
    console.stdout.print(f"part: {part}; {octets:,} bytes of text", highlight=False)
    bytewise = f", {by_byte(result.nats_per_char_float):.4f} a byte" if unit != "character" and octets else ""
    console.stdout.print(
        f"float   {result.nats_per_char_float:.4f} nats a {unit} over {result.characters:,}{bytewise}; perplexity "
        f"{math.exp(min(result.nats_per_char_float, 700)):.4g}"
    )
    if result.seconds_packed is not None:
        console.stdout.print(f"packed  {result.nats_per_char_packed:.4f} nats a {unit}; processor seconds: float "
                             f"{result.seconds_float:.1f}, packed {result.seconds_packed:.1f}")  # fmt: skip
    if integer is not None:
        console.stdout.print(f"integer {result.nats_per_char_integer:.4f} nats a {unit}")
        console.stdout.print(f"greedy choices agree at {100 * (result.agreement or 0):.2f} % of positions")
