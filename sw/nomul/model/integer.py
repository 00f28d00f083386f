"""The integer model: the operators of `nomul.golden` in the order of a decoder, with a cache of INT8 keys and values.

Nothing between an input token and an output token is a floating-point number. The real parameters of a checkpoint
become integers once, in `IntegerModel.__init__`. docs/numerics.md specifies every step.
"""

import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.golden.absmax import CODE_MAX, UNSIGNED_MAX, absmax
from nomul.golden.activation import SILU_FRACTION_BITS, SILU_OUTPUT_BITS, block_normalise, relu2_gate, silu_gate
from nomul.golden.attention import GUARD_BITS, SCALE_BITS, KVCache, attend
from nomul.golden.linear import ternary_linear
from nomul.golden.lm_head import greedy, logits
from nomul.golden.requantise import requantise, requantise_unsigned
from nomul.golden.residual import add_residual
from nomul.golden.rmsnorm import rmsnorm_absmax
from nomul.golden.rope import FRACTION_BITS as ROPE_BITS
from nomul.golden.rope import cos_sin, phase_steps, rotate
from nomul.golden.scale import Scale, constant, divide, multiply, normalise
from nomul.golden.softmax import FRACTION_BITS as SCORE_BITS
from nomul.model.ranges import check, check_exponents
from nomul.model.store import load_model
from nomul.model.transformer import Linear, Norm, Transformer

Recorder = Callable[[str, Tensor], None]
"""Is called with the name and the value of every intermediate."""

Selector = Callable[[Tensor, KVCache], Tensor]
"""From queries `[batch, heads, tokens, head_dim]` and a cache, the tokens to attend to, as `attend` takes them."""


@dataclass(frozen=True)
class Positions:
    """Fixed-point positions that calibration chose: a value `v` is the integer `v * 2^position`."""

    residual: int
    keys: tuple[int, ...]
    """For each layer, of the scales of cached keys."""
    values: tuple[int, ...]
    """For each layer, of the scales of cached values."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], layers: int, source: str) -> "Positions":
        """Read the entry `integer` of a checkpoint's config; raise `InputError` if it is missing or does not fit."""
        if (linear := config.get("linear", "ternary")) != "ternary":
            raise InputError(f"{source} is a {linear} model; only ternary ones run in integers and in machines")
        entry = config.get("integer")
        if not isinstance(entry, dict):
            raise InputError(
                f"{source} has no fixed-point positions; nomul calibrate {shlex.quote(source)} --text FILE -o FILE "
                "chooses them"
            )
        lists = [entry.get("keys"), entry.get("values")]
        numbers = [entry.get("residual")] + [n for part in lists if isinstance(part, list) for n in part]
        if not all(isinstance(part, list) and len(part) == layers for part in lists) or not all(
            isinstance(n, int) and -64 <= n <= 64 for n in numbers
        ):
            raise InputError(
                f"{source}: 'integer' must hold residual and, for each of {layers} layers, keys and values, "
                f"all from -64 to 64; it is {entry}"
            )
        return cls(entry["residual"], tuple(entry["keys"]), tuple(entry["values"]))


@dataclass(frozen=True, eq=False)
class IntegerNorm:
    """Parameters of a fused norm: INT8 gains, their unit over 127, 1 / n, and eps in units of the squared input."""

    gain: Tensor
    unit: Scale
    inverse_length: Scale
    eps: Scale

    @classmethod
    def of(cls, norm: Norm, position: int) -> "IntegerNorm":
        """Quantise a norm whose input has a fixed-point position (0 for one whose scale is known only at run time)."""
        codes, unit = int8_tensor(norm.weight)
        eps = constant(norm.eps * 4.0**position)
        return cls(codes, constant(unit / CODE_MAX), constant(1 / len(codes)), eps)

    def apply(self, x: Tensor, eps: Scale | None = None) -> tuple[Tensor, Scale]:
        """Return codes `[..., n]` and scales `[...]`."""
        return rmsnorm_absmax(x, self.gain, self.unit, self.inverse_length, eps or self.eps)


def int8_tensor(values: Tensor) -> tuple[Tensor, float]:
    """Return INT8 codes (int64) of a whole tensor and the real value of one: `max|v| / 127`."""
    exact = values.detach().double()
    unit = max(exact.abs().max().item(), 1e-30) / CODE_MAX
    return (exact / unit).round().long(), unit


class IntegerLayer:
    """One decoder layer in integers."""

    def __init__(self, model: Transformer, index: int, positions: Positions, select: Selector | None = None) -> None:
        config, layer = model.config, model.model.blocks[index]
        attention, mlp = layer.self_attn, layer.mlp
        self.config, self.index, self.select = config, index, select
        self.weights: dict[str, Tensor] = {}
        scales: dict[str, float] = {}
        for block in (attention, mlp):
            for name, module in block.named_children():
                if isinstance(module, Linear):
                    codes, scale = module.quantised()
                    assert scale is not None
                    self.weights[name], scales[name] = codes.round().to(torch.int8), scale.item()
        residual, keys, values = positions.residual, positions.keys[index], positions.values[index]
        self.input_norm = IntegerNorm.of(layer.input_layernorm, residual)
        self.attention_norm = IntegerNorm.of(attention.attn_sub_norm, values + GUARD_BITS)
        self.post_norm = IntegerNorm.of(layer.post_attention_layernorm, residual)
        self.ffn_norm = IntegerNorm.of(mlp.ffn_sub_norm, 0)
        # Real value of one unit of the operands' products, for each of the constants below.
        rotated = 2.0**-ROPE_BITS
        log2 = math.log2(math.e) / math.sqrt(config.head_dim) * 2.0**SCORE_BITS
        self.query_unit = constant(scales["q_proj"] * rotated / CODE_MAX**2 * 2.0**-keys * log2)
        self.key_unit = constant(scales["k_proj"] * rotated * 2.0**keys)
        self.value_unit = constant(scales["v_proj"] * 2.0**values)
        self.output_unit = constant(2.0**GUARD_BITS / (UNSIGNED_MAX * CODE_MAX))
        self.o_unit = constant(scales["o_proj"] * 2.0**residual)
        self.down_unit = constant(scales["down_proj"] * 2.0**residual)
        self.up_unit = constant(scales["up_proj"])
        self.gate_unit = constant(scales["gate_proj"])
        self.silu_unit = constant(2.0**SILU_FRACTION_BITS)
        self.silu_result = constant(2.0**-SILU_OUTPUT_BITS)
        check_exponents(config, self.constants())

    def constants(self) -> dict[str, Scale]:
        """Return the scales that are fixed for this layer, by the names that range analysis uses."""
        return {
            "input_gain": self.input_norm.unit,
            "sub_gain": self.attention_norm.unit,
            "post_gain": self.post_norm.unit,
            "ffn_gain": self.ffn_norm.unit,
            "eps": self.ffn_norm.eps,
            "query": self.query_unit,
            "key": self.key_unit,
            "value": self.value_unit,
            "output": self.output_unit,
            "o": self.o_unit,
            "gate": self.gate_unit,
            "up": self.up_unit,
            "down": self.down_unit,
        }

    def attention(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KVCache, record: Recorder) -> Tensor:
        """Return the residual stream `[batch, tokens, width]` after attention."""
        config = self.config
        batch, tokens, _ = x.shape
        codes, scale = self.input_norm.apply(x)
        record("attention.input", codes)
        record_scale(record, "attention.input_scale", scale)

        def heads(name: str) -> Tensor:
            sums = ternary_linear(self.weights[name], codes)
            record(name, sums)
            return sums.view(batch, tokens, -1, config.head_dim).transpose(1, 2)

        q, q_max = absmax(rotate(heads("q_proj"), *angles))
        k, k_max = absmax(rotate(heads("k_proj"), *angles))
        v, v_max = absmax(heads("v_proj"))
        by_head = scale.unsqueeze(1)
        query_scales = multiply(multiply(normalise(q_max), by_head), self.query_unit)
        key_scales = requantise_unsigned(k_max, multiply(by_head, self.key_unit), SCALE_BITS)
        value_scales = requantise_unsigned(v_max, multiply(by_head, self.value_unit), SCALE_BITS)
        cache.append(k, key_scales, v, value_scales)
        selected = None if self.select is None else self.select(q, cache)
        result = attend(q, query_scales, self.output_unit, cache, selected)
        for name, value in {
            "query": q, "key": k, "key_scale": key_scales, "value": v, "value_scale": value_scales,
            **result,
        }.items():  # fmt: skip
            record(f"attention.{name}", value)
        record_scale(record, "attention.query_scale", query_scales)
        words = result["output"].transpose(1, 2).reshape(batch, tokens, -1)
        codes, scale = self.attention_norm.apply(words)
        record("attention.sub_norm", codes)
        record_scale(record, "attention.sub_norm_scale", scale)
        sums = ternary_linear(self.weights["o_proj"], codes)
        record("o_proj", sums)
        x = add_residual(x, sums, multiply(scale, self.o_unit).unsqueeze(-1))
        record("attention.residual", x)
        return x

    def feed_forward(self, x: Tensor, record: Recorder) -> Tensor:
        """Return the residual stream `[batch, tokens, width]` after the gated block."""
        codes, scale = self.post_norm.apply(x)
        record("mlp.input", codes)
        record_scale(record, "mlp.input_scale", scale)
        gate, up = (ternary_linear(self.weights[name], codes) for name in ("gate_proj", "up_proj"))
        record("gate_proj", gate)
        record("up_proj", up)
        gate_scale, up_scale = multiply(scale, self.gate_unit), multiply(scale, self.up_unit)
        if self.config.activation == "relu2":
            product = relu2_gate(gate, up)
            unit = multiply(multiply(gate_scale, gate_scale), up_scale)
        else:
            words = requantise(gate, multiply(gate_scale, self.silu_unit).unsqueeze(-1))
            product = silu_gate(words, up)
            unit = multiply(up_scale, self.silu_result)
        hidden, shift = block_normalise(product)
        record("mlp.hidden", hidden)
        record("mlp.hidden_shift", shift)
        unit = Scale(unit.mantissa, unit.exponent + shift)
        # A zero unit belongs to a zero vector, whose eps does not matter.
        square = multiply(unit, unit)
        square = Scale(square.mantissa.clamp(min=1 << 15), square.exponent)
        codes, scale = self.ffn_norm.apply(hidden, divide(self.ffn_norm.eps, square))
        record("mlp.sub_norm", codes)
        record_scale(record, "mlp.sub_norm_scale", scale)
        sums = ternary_linear(self.weights["down_proj"], codes)
        record("down_proj", sums)
        x = add_residual(x, sums, multiply(scale, self.down_unit).unsqueeze(-1))
        record("mlp.residual", x)
        return x


def record_scale(record: Recorder, name: str, scale: Scale) -> None:
    """Record a scale as two tensors, `name.mantissa` and `name.exponent`."""
    record(f"{name}.mantissa", scale.mantissa)
    record(f"{name}.exponent", scale.exponent)


class IntegerModel:
    """A ternary model in integers: made of a float one and its fixed-point positions.

    With `select` it attends sparsely, to the tokens that this returns. Raises `InputError` if the model is not ternary,
    and `OverflowError` if its shape could overflow an operator.
    """

    def __init__(self, model: Transformer, positions: Positions, select: Selector | None = None) -> None:
        if model.config.linear != "ternary":
            raise InputError(f"the integer model runs ternary projections; these are {model.config.linear!r}")
        check(model.config)
        self.config, self.positions = model.config, positions
        self.layers = [IntegerLayer(model, index, positions, select) for index in range(self.config.layers)]
        embedding, unit = int8_tensor(model.model.embed_tokens.weight)
        self.embedding = embedding
        self.embedding_unit = constant(unit * 2.0**positions.residual)
        self.head, head_unit = (embedding, unit) if model.lm_head is None else int8_tensor(model.lm_head.weight)
        self.head_unit = constant(head_unit)
        self.norm = IntegerNorm.of(model.model.norm, positions.residual)
        self.steps = phase_steps(self.config.head_dim, self.config.rope_theta)

    @classmethod
    def load(cls, path: Path) -> "IntegerModel":
        """Read a checkpoint; raises `InputError` as `load_model` does, and if it has no fixed-point positions."""
        model, config = load_model(path)
        return cls(model, Positions.from_config(config, model.config.layers, str(path)))

    def caches(self, batch: int = 1, capacity: int | None = None) -> list[KVCache]:
        """Return empty caches for `capacity` tokens (the model's context if not given), one for each layer."""
        config = self.config
        size = config.context if capacity is None else capacity
        return [KVCache.empty(batch, config.kv_heads, size, config.head_dim) for _ in self.layers]

    def forward(
        self, tokens: Tensor, caches: list[KVCache], record: Recorder = lambda name, value: None
    ) -> tuple[Tensor, Scale]:
        """Read tokens `[batch, n]` after those in the caches; return logits and their scales.

        Logits are int64 `[batch, n, vocabulary]` in units of the scale `[batch, n]`. The result does not depend on how
        tokens are divided into calls. Raises `InputError` if the caches cannot hold the tokens.
        """
        start, count = caches[0].length, tokens.shape[1]
        capacity = caches[0].keys.shape[2]
        if start + count > capacity:
            raise InputError(f"{start + count} tokens do not fit the model's context of {capacity}")
        angles = cos_sin(torch.arange(start, start + count), self.steps)
        x = requantise(self.embedding[tokens], self.embedding_unit)
        record("embedding", x)
        for layer, cache in zip(self.layers, caches, strict=True):

            def named(name: str, value: Tensor, index: int = layer.index) -> None:
                record(f"layers.{index}.{name}", value)

            x = layer.attention(x, angles, cache, named)
            x = layer.feed_forward(x, named)
        codes, scale = self.norm.apply(x)
        record("norm", codes)
        values = logits(self.head, codes)
        record("logits", values)
        record("token", greedy(values))
        return values, multiply(scale, self.head_unit)
