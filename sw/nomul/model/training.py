"""Training: quantisation-aware from the first step, resumable, reproducible by seed on one device.

AdamW with warm-up and cosine decay; weight decay acts in the first half only, so that latent weights can settle on
either side of their thresholds (BitNet b1.58 2B-4T report, section 3). Optional distillation from full-precision
teachers: their predictions for the whole training text are computed once, and are the soft targets.
A BWTA model is trained in stages of fewer and fewer activation levels (`nomul.quantize.bwta`).
"""

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nomul.errors import InputError
from nomul.files import plain_file, write_atomically
from nomul.model.text import windows
from nomul.model.transformer import Quantise, Transformer, TransformerConfig
from nomul.quantize.bwta import LEVELS, alignment_factor, initial_step

FINAL_STAGE = 0.5
"""Share of a BWTA run that its last, ternary stage gets; the other stages share the rest equally."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; refuses values that cannot work."""

    steps: int = 12000
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.05
    seed: int = 1
    warmup: int = 200
    interval: int = 500
    """Steps between evaluations; the state is saved at each, so a kill loses at most this many steps."""
    soft_share: float = 0.8
    """Weight of the teachers' soft targets in the loss, when there are teachers; the text has the rest."""

    @classmethod
    def default(cls, size: str, distilled: bool) -> "TrainingConfig":
        """Return what works for a size on a text of a million characters, with teachers or without."""
        if size == "tiny":
            return cls(steps=20000, learning_rate=4e-3, dropout=0.0) if distilled else cls()
        if size == "small" and distilled:
            return cls(steps=10000, learning_rate=2e-3, dropout=0.05)
        return cls(steps=6000, learning_rate=1.5e-3, dropout=0.3)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "interval"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be greater than 0")
        if not 0 <= self.soft_share <= 1:
            raise InputError(f"soft_share is {self.soft_share}; it must be from 0 to 1")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then a cosine to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def levels(self, step: int) -> int:
        """Return the number of activation levels of a BWTA model at a step."""
        stages = len(LEVELS) - 1
        stage = int(step * stages / max(1.0, self.steps * (1 - FINAL_STAGE)))
        return LEVELS[min(stage, stages)]


@dataclass
class Progress:
    """What a training run reports at every evaluation."""

    step: int
    training_loss: float
    validation_loss: float
    best_loss: float


@torch.no_grad()
def loss_on(model: Transformer, tokens: Tensor, rows: int = 64) -> float:
    """Return the mean loss in nats a character over consecutive windows of the model's context."""
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=tokens.device)
    for inputs, targets in windows(tokens, model.config.context):
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").double()
    model.train(training)
    return total.item() / (len(tokens) - 1)


@torch.no_grad()
def soft_targets(teachers: list[Transformer], tokens: Tensor, rows: int = 64) -> Tensor:
    """Return the mean probabilities of the teachers for each next token, float16 `[len(tokens) - 1, vocabulary]`.

    Position `i` predicts token `i + 1` from at least half a context of tokens before it, where there are that many.
    """
    count = len(tokens) - 1
    table = torch.zeros(count, teachers[0].config.vocabulary, dtype=torch.float16, device=tokens.device)
    for teacher in teachers:
        teacher.eval()
        context = min(teacher.config.context, count)
        half = context // 2
        own = torch.empty_like(table)
        starts = torch.tensor([*range(0, count - context, context - half), count - context], device=tokens.device)
        index = starts[:, None] + torch.arange(context, device=tokens.device)
        # The last window is apart, since it may reach back into positions that the one before it fills too.
        for chunk in [*index[:-1].split(rows), index[-1:]]:
            if len(chunk):
                shares = teacher(tokens[chunk]).softmax(-1).half()
                if chunk[0, 0] == 0:
                    own[chunk[0, :half]] = shares[0, :half]
                own[chunk[:, half:]] = shares[:, half:]
        table += own / len(teachers)
    return table


def train(
    config: TransformerConfig,
    training: TrainingConfig,
    training_tokens: Tensor,
    validation_tokens: Tensor,
    state_path: Path,
    device: torch.device,
    teachers: list[Transformer] | None = None,
    on_step: Callable[[int, Progress | None], None] = lambda step, progress: None,
    compiled: bool = False,
) -> tuple[Transformer, Progress]:
    """Train a model and return it as it was at its best evaluation, with the last progress.

    State is saved to `state_path` at every evaluation, and a run that finds it there continues from it. `on_step`
    is called after each step, with the progress after an evaluation. Raises `InputError` if the state is of another
    run or damaged, or if the text is shorter than a context.
    """
    if len(training_tokens) <= config.context or len(validation_tokens) < 2:
        raise InputError(
            f"the text has {len(training_tokens)} training and {len(validation_tokens)} validation characters; "
            f"a context of {config.context} needs at least {config.context + 1} and 2"
        )
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    model = Transformer(config, training.dropout).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=torch.tensor(training.learning_rate, device=device), betas=(0.9, 0.95),
        weight_decay=training.weight_decay, fused=device.type == "cuda",
    )  # fmt: skip
    tokens, held_out = training_tokens.to(device), validation_tokens.to(device)
    soft = soft_targets(teachers, tokens) if teachers else None
    run = {"model": asdict(config), "training": asdict(training), "device": device.type}
    progress = Progress(0, math.nan, math.inf, math.inf)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    if state_path.exists():
        progress, best = _restore(state_path, run, model, optimizer, generator, device)
    model.train()

    def loss_of(x: Tensor, y: Tensor, targets: Tensor | None) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(x).flatten(0, 1)
        hard = F.cross_entropy(logits, y.flatten())
        if targets is None:
            return hard
        soft_loss = -(targets.flatten(0, 1).float() * logits.log_softmax(-1)).sum(-1).mean()
        return (1 - training.soft_share) * hard + training.soft_share * soft_loss

    objective = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    span = torch.arange(config.context, device=device)
    running = torch.zeros((), device=device)
    since = 0
    for step in range(progress.step, training.steps):
        starts = torch.randint(len(tokens) - config.context, (training.batch,), generator=generator)
        index = starts.to(device, non_blocking=True)[:, None] + span
        if config.linear == "bwta" and (step == 0 or training.levels(step) != training.levels(step - 1)):
            change_levels(model, tokens[index], training.levels(step))
            progress.best_loss = math.inf
        for group in optimizer.param_groups:
            group["lr"].fill_(training.rate(step))
            group["weight_decay"] = training.weight_decay if step < training.steps // 2 else 0.0
        loss = objective(tokens[index], tokens[index + 1], None if soft is None else soft[index])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += loss.detach()
        since += 1
        report = None
        if (step + 1) % training.interval == 0 or step + 1 == training.steps:
            validation = loss_on(model, held_out)
            if validation < progress.best_loss:
                best = {name: value.clone() for name, value in model.state_dict().items()}
            progress = Progress(step + 1, running.item() / since, validation, min(validation, progress.best_loss))
            running.zero_()
            since = 0
            report = progress
            _save(state_path, run, progress, best, model, optimizer, generator, device)
        on_step(step + 1, report)
    model.load_state_dict(best)
    return model.eval(), progress


@torch.no_grad()
def change_levels(model: Transformer, tokens: Tensor, levels: int) -> None:
    """Set the activation levels of a BWTA model and align every quantiser's step to them, on sample tokens.

    The first stage sets the steps from the mean magnitude; a later one multiplies them by the alignment factor.
    """
    inputs: dict[Quantise, Tensor] = {}
    quantisers = [module for module in model.modules() if isinstance(module, Quantise)]
    hooks = [q.register_forward_pre_hook(lambda module, args: inputs.update({module: args[0]})) for q in quantisers]
    model(tokens)
    for hook in hooks:
        hook.remove()
    half = levels // 2
    for quantiser in quantisers:
        before = int(quantiser.bound.item())
        values = inputs[quantiser]
        if levels == LEVELS[0]:
            quantiser.step.fill_(initial_step(values, levels))
        elif half != before:
            quantiser.step.mul_(alignment_factor(values, abs(quantiser.step.item()), before, half))
        quantiser.bound.fill_(half)


def _save(
    path: Path, run: dict[str, Any], progress: Progress, best: dict[str, Tensor], model: Transformer,
    optimizer: torch.optim.Optimizer, generator: torch.Generator, device: torch.device,
) -> None:  # fmt: skip
    buffer = io.BytesIO()
    state = {
        "run": run,
        "progress": asdict(progress),
        "best": best,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "batches": generator.get_state(),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _restore(
    path: Path, run: dict[str, Any], model: Transformer, optimizer: torch.optim.Optimizer,
    generator: torch.Generator, device: torch.device,
) -> tuple[Progress, dict[str, Tensor]]:  # fmt: skip
    plain_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["run"]
    except Exception as error:
        raise InputError(f"{path} is no training state ({type(error).__name__}); delete it to start afresh") from None
    for part, values in run.items():
        if saved.get(part) != values:
            changed = [k for k in values if saved[part].get(k) != values[k]] if isinstance(values, dict) else [part]
            raise InputError(
                f"{path} is the state of another run ({', '.join(changed)} differ); delete it or keep to it"
            )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["batches"])
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    return Progress(**state["progress"]), {name: value.to(device) for name, value in state["best"].items()}
