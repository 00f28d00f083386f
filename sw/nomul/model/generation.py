"""Generation: one token after another, from the float or the integer model, with a cache."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.golden.lm_head import greedy, sample
from nomul.golden.scale import Scale, constant, multiply
from nomul.golden.softmax import FRACTION_BITS
from nomul.model.integer import IntegerModel
from nomul.model.transformer import Transformer, TransformerConfig


def check_request(config: TransformerConfig, prompt: Tensor, tokens: int, temperature: float) -> None:
    """Raise `InputError` if the prompt is empty, the context would be exceeded, or a value is out of range."""
    if len(prompt) == 0:
        raise InputError("the prompt is empty; it must have at least one token")
    if tokens < 1:
        raise InputError(f"tokens is {tokens}; it must be 1 or more")
    if not 0 <= temperature <= 100 or math.isnan(temperature):
        raise InputError(f"temperature is {temperature}; it must be from 0 (greedy) to 100")
    if len(prompt) + tokens - 1 > config.context:
        room = config.context - len(prompt) + 1
        more = f"at most {room} tokens can follow" if room > 0 else f"at most {config.context} fit"
        raise InputError(
            f"a prompt of {len(prompt)} tokens and {tokens} tokens do not fit the model's context of "
            f"{config.context}; {more}"
        )


@torch.no_grad()
def generate_float(model: Transformer, prompt: Tensor, tokens: int, temperature: float, seed: int) -> Iterator[int]:
    """Yield `tokens` tokens that follow `prompt` `[n]`, greedily or drawn from softmax at a temperature."""
    check_request(model.config, prompt, tokens, temperature)
    generator = torch.Generator().manual_seed(seed)
    caches: list[list[Tensor]] = [[] for _ in range(model.config.layers)]
    step = prompt[None]
    for _ in range(tokens):
        logits = model(step, caches)[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            token = int(torch.multinomial((logits.double() / temperature).softmax(0), 1, generator=generator))
        yield token
        step = torch.tensor([[token]])


@torch.no_grad()
def generate_integer(model: IntegerModel, prompt: Tensor, tokens: int, temperature: float, seed: int) -> Iterator[int]:
    """Yield `tokens` tokens that follow `prompt` `[n]`, as the hardware would: no floating point after the set-up."""
    check_request(model.config, prompt, tokens, temperature)
    generator = torch.Generator().manual_seed(seed)
    unit = constant(2**FRACTION_BITS * math.log2(math.e) / temperature) if temperature else None
    caches = model.caches(capacity=len(prompt) + tokens)
    step = prompt[None]
    for _ in range(tokens):
        values, scale = model.forward(step, caches)
        if unit is None:
            token = int(greedy(values[0, -1]))
        else:
            random = torch.randint(1 << 32, (1, 1), generator=generator)
            last = multiply(Scale(scale.mantissa[:, -1:], scale.exponent[:, -1:]), unit)
            token = int(sample(values[:, -1:], last.unsqueeze(-1), random))
        yield token
        step = torch.tensor([[token]])
