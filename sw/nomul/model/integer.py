"""The integer model: the operators of `nomul.golden` in the order of a decoder, with a cache of INT8 keys and values.

Nothing between an input token and an output token is a floating-point number. The real parameters of a checkpoint
become integers once, in `IntegerModel.__init__`. docs/numerics.md specifies every step.
"""

import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.golden.absmax import CODE_MAX, UNSIGNED_MAX, absmax
from nomul.golden.activation import SILU_FRACTION_BITS, SILU_OUTPUT_BITS, block_normalise, relu2_gate, silu_gate
from nomul.golden.attention import GUARD_BITS, SCALE_BITS, KVCache, attend
from nomul.golden.linear import GROUP_SCALE_BITS
from nomul.golden.lm_head import greedy, logits
from nomul.golden.requantise import requantise, requantise_unsigned
from nomul.golden.residual import add_residual
from nomul.golden.rope import FRACTION_BITS as ROPE_BITS
from nomul.golden.rope import cos_sin, phase_steps, rotate
from nomul.golden.scale import Scale, constant, divide, multiply, normalise
from nomul.golden.softmax import FRACTION_BITS as SCORE_BITS
from nomul.model.integer_parameters import IntegerLinear, IntegerNorm, int8_rows, int8_tensor, quantise_words
from nomul.model.products import int8_product
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
    biased: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By name of a projection that has biases, for each layer, of its results."""
    rows: bool = False
    """Whether embedding and head have a scale for each row."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object; what a model does not have is left out."""
        return {name: value for name, value in asdict(self).items() if value not in ({}, False)}

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
        biased = entry.get("biased", {})
        lists = [entry.get("keys"), entry.get("values"), *(biased.values() if isinstance(biased, dict) else [None])]
        numbers = [entry.get("residual")] + [n for part in lists if isinstance(part, list) for n in part]
        if not all(isinstance(part, list) and len(part) == layers for part in lists) or not all(
            isinstance(n, int) and -64 <= n <= 64 for n in numbers
        ):
            raise InputError(
                f"{source}: 'integer' must hold residual and, for each of {layers} layers, keys and values, "
                f"all from -64 to 64; it is {entry}"
            )
        return cls(
            entry["residual"], tuple(entry["keys"]), tuple(entry["values"]),
            {name: tuple(part) for name, part in biased.items()}, bool(entry.get("rows", False)),
        )  # fmt: skip


class IntegerLayer:
    """One decoder layer in integers."""

    def __init__(self, model: Transformer, index: int, positions: Positions, select: Selector | None = None) -> None:
        config, layer = model.config, model.model.blocks[index]
        attention, mlp = layer.self_attn, layer.mlp
        self.config, self.index, self.select = config, index, select
        self.linears: dict[str, IntegerLinear] = {}
        for block in (attention, mlp):
            for name, module in block.named_children():
                if isinstance(module, Linear):
                    place = positions.biased.get(name, (positions.residual,) * config.layers)[index]
                    self.linears[name] = IntegerLinear.of(module, place)
        units = {name: linear.unit for name, linear in self.linears.items()}
        residual, keys, values = positions.residual, positions.keys[index], positions.values[index]

        def norm(module: torch.nn.Module, position: int) -> IntegerNorm | None:
            return IntegerNorm.of(module, position) if isinstance(module, Norm) else None

        self.input_norm = IntegerNorm.of(layer.input_layernorm, residual)
        self.query_norm, self.key_norm = norm(attention.q_norm, 0), norm(attention.k_norm, 0)
        self.attention_norm = norm(attention.attn_sub_norm, values + GUARD_BITS)
        self.post_norm = IntegerNorm.of(layer.post_attention_layernorm, residual)
        self.ffn_norm = norm(mlp.ffn_sub_norm, 0)
        # Real value of one unit of the operands' products, for each of the constants below.
        rotated = 2.0**-ROPE_BITS * config.rotary.attention_factor
        log2 = math.log2(math.e) / math.sqrt(config.head_dim) * 2.0**SCORE_BITS
        query, key = (1.0 if config.qk_norm else units[name] for name in ("q_proj", "k_proj"))
        self.query_unit = constant(query * rotated / CODE_MAX**2 * 2.0**-keys * log2)
        self.key_unit = constant(key * rotated * 2.0**keys)
        self.value_unit = constant(units["v_proj"] * 2.0**values)
        self.output_unit = constant(2.0**GUARD_BITS / (UNSIGNED_MAX * CODE_MAX))
        self.attention_unit = constant(2.0 ** -(values + GUARD_BITS) / CODE_MAX)
        self.o_unit = constant(units["o_proj"] * 2.0**residual)
        self.down_unit = constant(units["down_proj"] * 2.0**residual)
        self.up_unit = constant(units["up_proj"])
        self.gate_unit = constant(units["gate_proj"])
        self.hidden_unit = constant(1 / CODE_MAX)
        self.silu_unit = constant(2.0**SILU_FRACTION_BITS)
        self.silu_result = constant(2.0**-SILU_OUTPUT_BITS)
        check_exponents(config, self.constants())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Codes of the projections by name, int8 `[n_out, n_in]`."""
        return {name: linear.codes for name, linear in self.linears.items()}

    def constants(self) -> dict[str, Scale]:
        """Return the scales that are fixed for this layer, by the names that range analysis uses."""
        found = {
            "input_gain": self.input_norm.unit,
            "post_gain": self.post_norm.unit,
            "query": self.query_unit,
            "key": self.key_unit,
            "value": self.value_unit,
            "output": self.output_unit,
            "o": self.o_unit,
            "gate": self.gate_unit,
            "up": self.up_unit,
            "down": self.down_unit,
        }
        for name, norm in (("sub_gain", self.attention_norm), ("ffn_gain", self.ffn_norm)):
            if norm is not None:
                found[name] = norm.unit
        for name, norm in (("query", self.query_norm), ("key", self.key_norm)):
            if norm is not None:
                sums = constant(self.linears[f"{name[0]}_proj"].unit)
                found |= {f"{name}_gain": norm.unit, f"{name}_sums": sums}
        return found | {"eps": constant(self.config.eps), "attention": self.attention_unit}

    def _normalised(self, name: str, norm: IntegerNorm | None, sums: Tensor, factor: Scale) -> tuple[Tensor, Scale]:
        """Return a head's queries or keys `[batch, heads, tokens, head_dim]` after its norm, and their factor."""
        by_head = factor.unsqueeze(1)
        if norm is None:
            return sums, by_head
        unit = multiply(by_head, constant(self.linears[name].unit))
        square = multiply(unit, unit)
        # A zero unit belongs to a zero vector, whose eps does not matter.
        square = Scale(square.mantissa.clamp(min=1 << 15), square.exponent)
        return norm.words(sums, divide(constant(norm.real_eps), square))

    def attention(self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KVCache, record: Recorder) -> Tensor:
        """Return the residual stream `[batch, tokens, width]` after attention."""
        config = self.config
        batch, tokens, _ = x.shape
        codes, scale = self.input_norm.apply(x)
        record("attention.input", codes)
        record_scale(record, "attention.input_scale", scale)

        def heads(name: str) -> tuple[Tensor, Scale]:
            sums, factor = self.linears[name].apply(codes, scale)
            record(name, sums)
            return sums.view(batch, tokens, -1, config.head_dim).transpose(1, 2), factor

        queries, query_factor = self._normalised("q_proj", self.query_norm, *heads("q_proj"))
        keys, key_factor = self._normalised("k_proj", self.key_norm, *heads("k_proj"))
        values, factor = heads("v_proj")
        q, q_max = absmax(rotate(queries, *angles))
        k, k_max = absmax(rotate(keys, *angles))
        v, v_max = absmax(values)
        query_scales = multiply(multiply(normalise(q_max), query_factor), self.query_unit)
        key_scales = requantise_unsigned(k_max, multiply(key_factor, self.key_unit), SCALE_BITS)
        value_scales = requantise_unsigned(v_max, multiply(factor.unsqueeze(1), self.value_unit), SCALE_BITS)
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
        norm = self.attention_norm
        codes, scale = quantise_words(words, self.attention_unit) if norm is None else norm.apply(words)
        record("attention.sub_norm", codes)
        record_scale(record, "attention.sub_norm_scale", scale)
        sums, factor = self.linears["o_proj"].apply(codes, scale)
        record("o_proj", sums)
        x = add_residual(x, sums, multiply(factor, self.o_unit).unsqueeze(-1))
        record("attention.residual", x)
        return x

    def feed_forward(self, x: Tensor, record: Recorder) -> Tensor:
        """Return the residual stream `[batch, tokens, width]` after the gated block."""
        codes, scale = self.post_norm.apply(x)
        record("mlp.input", codes)
        record_scale(record, "mlp.input_scale", scale)
        (gate, gate_factor), (up, up_factor) = (
            self.linears[name].apply(codes, scale) for name in ("gate_proj", "up_proj")
        )
        record("gate_proj", gate)
        record("up_proj", up)
        gate_scale, up_scale = multiply(gate_factor, self.gate_unit), multiply(up_factor, self.up_unit)
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
        if self.ffn_norm is None:
            codes, scale = quantise_words(hidden, multiply(unit, self.hidden_unit))
        else:
            square = multiply(unit, unit)
            # A zero unit belongs to a zero vector, whose eps does not matter.
            square = Scale(square.mantissa.clamp(min=1 << 15), square.exponent)
            codes, scale = self.ffn_norm.apply(hidden, divide(self.ffn_norm.eps, square))
        record("mlp.sub_norm", codes)
        record_scale(record, "mlp.sub_norm_scale", scale)
        sums, factor = self.linears["down_proj"].apply(codes, scale)
        record("down_proj", sums)
        x = add_residual(x, sums, multiply(factor, self.down_unit).unsqueeze(-1))
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
        # Rows of the embedding are widened where they are looked up.
        matrices = [model.model.embed_tokens.weight, *([] if model.lm_head is None else [model.lm_head.weight])]
        self.embedding_scales: Tensor | None = None
        self.head_scales: Tensor | None = None
        if positions.rows:
            made = [int8_rows(matrix) for matrix in matrices]
            (self.embedding, self.embedding_scales, unit), (self.head, self.head_scales, head_unit) = made[0], made[-1]
            head_unit *= 2.0**GROUP_SCALE_BITS
        else:
            whole = [int8_tensor(matrix) for matrix in matrices]
            (self.embedding, unit), (self.head, head_unit) = whole[0], whole[-1]
        self.embedding_unit = constant(unit * 2.0**positions.residual)
        self.head_unit = constant(head_unit)
        self.norm = IntegerNorm.of(model.model.norm, positions.residual)
        self.steps = phase_steps(self.config.rotary.frequencies(self.config.head_dim))

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
        x = self.embedding[tokens].long()
        if self.embedding_scales is not None:
            x = x * self.embedding_scales[tokens][..., None]
        x = requantise(x, self.embedding_unit)
        record("embedding", x)
        for layer, cache in zip(self.layers, caches, strict=True):

            def named(name: str, value: Tensor, index: int = layer.index) -> None:
                record(f"layers.{index}.{name}", value)

            x = layer.attention(x, angles, cache, named)
            x = layer.feed_forward(x, named)
        codes, scale = self.norm.apply(x)
        record("norm", codes)
        values = logits(int8_product(self.head, codes), self.head_scales)
        record("logits", values)
        record("token", greedy(values))
        return values, multiply(scale, self.head_unit)
