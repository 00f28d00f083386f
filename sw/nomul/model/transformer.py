"""The language model in floating point: a decoder-only transformer of the Llama family, as BitNet b1.58 2B-4T is one.

RMSNorm, projections (ternary ones after BitNet, with INT8 activations for each token), RoPE in the half-split form,
grouped-query attention, ReLU^2 or SiLU gating. As a model has them: SubLN before the output and down projections
(BitNet b1.58 2B-4T technical report, arXiv 2504.12285, section 2), a norm of each head's queries and keys (Qwen3),
biases (Qwen2). Parameter names are those of the Hugging Face checkpoint.

A model that Nomul trains (`grids`) rounds the operands that hardware keeps in INT8 here too, straight through, so that
training sees them: the embedding (one scale), the norm gains (one scale each), queries, keys and values (one scale per
token and head). Others are computed as their makers do.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomul.errors import InputError
from nomul.formats.rotary import Rotary
from nomul.formats.ternary import TernaryLayer
from nomul.quantize.bitnet import (
    absmax_codes,
    fake_absmax,
    fake_absmax_tensor,
    published_codes,
    scaled_ternary,
    ternary_codes,
)
from nomul.quantize.bwta import LEVELS, binary_codes, level_codes
from nomul.quantize.mixpe import GroupedLayer

LINEARS = ("ternary", "float", "bwta", "mixpe", "int4")
ACTIVATIONS = ("relu2", "silu")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TransformerConfig:
    """Shape and arithmetic of a model; refuses values that do not fit together."""

    vocabulary: int
    """Number of tokens."""
    width: int = 160
    """Length of the residual stream."""
    layers: int = 5
    heads: int = 5
    kv_heads: int = 1
    head_dim: int = 32
    ffn: int = 400
    """Length of the gated hidden vector."""
    context: int = 256
    """The most tokens that attention sees."""
    rotary: Rotary = field(default_factory=Rotary)
    eps: float = 1e-5
    """Added to the mean square in every RMSNorm."""
    activation: str = "relu2"
    """`relu2` (2B-4T) or `silu` (SwiGLU)."""
    linear: str = "ternary"
    """Arithmetic of the projections: `ternary` (BitNet), `float`, `bwta` (binary weights, levelled activations),
    `mixpe` (INT4 weights in groups, made from a float model after training), or `int4` (as GPTQ and others store)."""
    tied: bool = True
    """The LM head uses the embedding."""
    activations: str = "int8"
    """What projections of quantised weights read: `int8` codes (W1.58A8), or `float` (W1.58A16, W4A16)."""
    grids: bool = True
    """Embedding, gains, queries, keys and values are on INT8 grids, as models are that were trained for them."""
    sub_norms: bool = True
    """Norms before `o_proj` and `down_proj` (SubLN)."""
    qk_norm: bool = False
    """Norms of each head's queries and keys (Qwen3)."""
    group: int | None = None
    """Inputs that share a scale of ternary weights in training: a group of a row, 0 for the row, None for the layer."""
    biases: tuple[str, ...] = ()
    """Names of the projections that have biases (Qwen2: `q_proj`, `k_proj`, `v_proj`)."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "heads", "kv_heads", "head_dim", "ffn", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; it must be a whole number of 1 or more")
        if not set(self.biases) <= set(PROJECTIONS):
            raise InputError(f"biases is {self.biases}; it may name {', '.join(PROJECTIONS)}")
        if self.heads % self.kv_heads:
            raise InputError(f"heads is {self.heads}; it must be a multiple of kv_heads, {self.kv_heads}")
        if self.head_dim % 2:
            raise InputError(f"head_dim is {self.head_dim}; rotary embedding needs an even number")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation is {self.activation!r}; it must be one of {', '.join(ACTIVATIONS)}")
        if self.linear not in LINEARS:
            raise InputError(f"linear is {self.linear!r}; it must be one of {', '.join(LINEARS)}")
        if self.group is not None and (self.linear != "ternary" or self.group < 0):
            raise InputError(f"group is {self.group} of a {self.linear} model; ternary ones may have 0 (row) or more")
        if self.activations not in ("int8", "float"):
            raise InputError(f"activations is {self.activations!r}; it must be int8 or float")

    @classmethod
    def sized(cls, size: str, vocabulary: int, **fields: Any) -> "TransformerConfig":
        """Return the configuration of one of `SIZES`, with further fields."""
        return cls(vocabulary, **{**SIZES[size], **fields})

    @property
    def quantises(self) -> bool:
        """Whether projections read quantised activations."""
        return self.linear not in ("float", "int4") and self.activations == "int8"

    @property
    def on_grids(self) -> bool:
        """Whether operands are rounded to INT8 grids."""
        return self.linear not in ("float", "int4") and self.grids

    @property
    def linear_parameters(self) -> int:
        """Number of weights in the projections of all layers; ternary in a ternary model."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.ffn)


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 160, "layers": 5, "heads": 5, "kv_heads": 1, "head_dim": 32, "ffn": 400},
    "small": {"width": 384, "layers": 6, "heads": 6, "kv_heads": 2, "head_dim": 64, "ffn": 1024},
    "teacher": {"width": 384, "layers": 6, "heads": 6, "kv_heads": 6, "head_dim": 64, "ffn": 1024},
}
"""The sizes that `nomul train` knows: 1.27 M, 9.44 M and 10.62 M weights in the projections."""


KEPT_MOST = 1 << 22
"""Most weights of a projection whose codes are kept as floats too."""


class Norm(nn.Module):
    """RMSNorm, `x / sqrt(mean(x^2) + eps) * gain`, the gain on an INT8 grid unless the model is plain float."""

    def __init__(self, length: int, config: TransformerConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))
        self.eps = config.eps
        self.exact = not config.on_grids

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis, in float32."""
        gain = self.weight if self.exact else fake_absmax_tensor(self.weight)
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * gain


class Linear(nn.Module):
    """A projection `y = W a + b` on already quantised activations. `weight` is `[n_out, n_in]`."""

    def __init__(self, n_in: int, n_out: int, config: TransformerConfig, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.kind, self.published = config.linear, config.quantises and not config.on_grids
        self.group = config.group
        self.grouped: GroupedLayer | None = None
        self.ternary: TernaryLayer | None = None
        self._frozen: tuple[Tensor, Tensor | None] | None = None

    def quantised(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight codes and their scale (None for real weights)."""
        if self._frozen is not None:
            return self._frozen
        if self.ternary is not None:
            # Made for each product: codes take a quarter of the memory.
            if self.ternary.uniform:
                return self.ternary.weight.float(), self.ternary.scales.view(())
            return self.ternary.dequantise(), None
        if self.kind in ("float", "int4"):
            return self.weight, None
        if self.kind == "ternary" and self.group is not None:
            codes, scales, group = self._groups()
            return codes * scales.repeat_interleave(group, 1)[:, : codes.shape[1]], None
        if self.kind == "mixpe":
            raise InputError("a MixPE model is made from a trained float model; it has no training of its own")
        return (ternary_codes if self.kind == "ternary" else binary_codes)(self.weight)

    def grouped_ternary(self) -> TernaryLayer | None:
        """Return the ternary layer of a weight that is trained with several scales, None of another."""
        if self.group is None or self._frozen is not None:
            return None
        codes, scales, group = self._groups()
        return TernaryLayer("trained", codes.detach().round().to(torch.int8), scales, group)

    def _groups(self) -> tuple[Tensor, Tensor, int]:
        """Return codes, scales `[n_out, groups]` and the inputs of a group of a weight that is trained so."""
        group = self.group or self.weight.shape[1]
        return *scaled_ternary(self.weight, group), group

    def freeze(self, codes: Tensor, scale: Tensor) -> None:
        """Use these codes `[n_out, n_in]` and this scale from now on; the latent weight has no effect any more."""
        self._frozen = (codes, scale)

    def freeze_ternary(self, layer: TernaryLayer) -> None:
        """Use the weights of a ternary layer from now on; small ones are kept as floats."""
        self.ternary = layer
        if layer.weight.numel() <= KEPT_MOST:
            self._frozen = self.quantised()

    def freeze_grouped(self, grouped: GroupedLayer) -> None:
        """Use the INT4 weights of a MixPE layer from now on."""
        self.grouped = grouped
        self._frozen = (grouped.dequantise(), torch.ones(()))

    def forward(self, codes: Tensor, scale: Tensor | None) -> Tensor:
        """Multiply activation codes by the weight codes, restore both scales, and add the bias."""
        weight, weight_scale = self.quantised()
        product = F.linear(codes, weight)
        if scale is not None and self.published:
            # In the order of transformers' BitLinear, or codes of the next layer differ where they are near a half.
            inverse = scale if weight_scale is None else scale * (1 / weight_scale.double()).float()
            product = product / inverse
        elif weight_scale is not None:
            product = product * (weight_scale.float() if scale is None else scale * weight_scale.float())
        elif scale is not None:
            product = product * scale
        return product if self.bias is None else product + self.bias


class Quantise(nn.Module):
    """The activation quantiser before a projection: INT8 absmax, levels with a learned step (BWTA), or none."""

    step: Tensor
    bound: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.kind, self.quantises, self.on_grids = config.linear, config.quantises, config.on_grids
        if self.kind == "bwta":
            self.step = nn.Parameter(torch.tensor(0.5))
            self.register_buffer("bound", torch.tensor(float(LEVELS[0] // 2)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return activation codes and their scale."""
        if not self.quantises:
            return x, None
        if self.kind == "bwta":
            return level_codes(x, self.step, self.bound), self.step.abs()
        return absmax_codes(x) if self.on_grids else published_codes(x)


def rope_tables(config: TransformerConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary angles, `[context, head_dim / 2]` each, float32.

    The angle of pair `i` at position `p` is `p * frequency[i]` (`nomul.formats.rotary`).
    """
    turned = torch.arange(config.context, dtype=torch.float64)[:, None] * config.rotary.frequencies(config.head_dim)
    factor = config.rotary.attention_factor
    return (turned.cos() * factor).float(), (turned.sin() * factor).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs `(x[i], x[i + head_dim / 2])` of the last axis by the angles of each position."""
    low, high = x.float().chunk(2, -1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


def _projection(name: str, n_in: int, n_out: int, config: TransformerConfig) -> Linear:
    return Linear(n_in, n_out, config, name in config.biases)


class Attention(nn.Module):
    """Causal grouped-query attention, with SubLN before the output projection where the model has it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        inner, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.quantise = Quantise(config)
        self.q_proj = _projection("q_proj", config.width, inner, config)
        self.k_proj = _projection("k_proj", config.width, kv, config)
        self.v_proj = _projection("v_proj", config.width, kv, config)
        self.q_norm = Norm(config.head_dim, config) if config.qk_norm else nn.Identity()
        self.k_norm = Norm(config.head_dim, config) if config.qk_norm else nn.Identity()
        self.attn_sub_norm = Norm(inner, config) if config.sub_norms else nn.Identity()
        self.quantise_sub = Quantise(config)
        self.o_proj = _projection("o_proj", inner, config.width, config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, dropout: float, cache: list[Tensor] | None = None) -> Tensor:
        """Attend over this call's tokens, and over those in `cache` (keys, values) when it is given and then extended.

        `x` is `[batch, tokens, width]`, already normalised. With a cache, one token is given at a time.
        """
        config = self.config
        batch, tokens, _ = x.shape
        codes, scale = self.quantise(x)

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, tokens, -1, config.head_dim).transpose(1, 2)

        q = rotate(self.q_norm(heads(self.q_proj(codes, scale))), cos, sin)
        k = rotate(self.k_norm(heads(self.k_proj(codes, scale))), cos, sin)
        v = heads(self.v_proj(codes, scale)).float()
        if config.on_grids:
            q, k, v = fake_absmax(q), fake_absmax(k), fake_absmax(v)
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        group = config.heads // config.kv_heads
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if torch.is_autocast_enabled(x.device.type):
            half = torch.get_autocast_dtype(x.device.type)
            q, k, v = q.to(half), k.to(half), v.to(half)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=cache is None or tokens > 1)
        codes, scale = self.quantise_sub(self.attn_sub_norm(y.transpose(1, 2).reshape(batch, tokens, -1)))
        return self.o_proj(codes, scale)


class FeedForward(nn.Module):
    """The gated feed-forward block: `down(norm(act(gate) * up))`, without the norm in a model without SubLN."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.quantise = Quantise(config)
        self.gate_proj = _projection("gate_proj", config.width, config.ffn, config)
        self.up_proj = _projection("up_proj", config.width, config.ffn, config)
        self.ffn_sub_norm = Norm(config.ffn, config) if config.sub_norms else nn.Identity()
        self.quantise_sub = Quantise(config)
        self.down_proj = _projection("down_proj", config.ffn, config.width, config)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to normalised activations `[..., width]`."""
        codes, scale = self.quantise(x)
        gate, up = self.gate_proj(codes, scale).float(), self.up_proj(codes, scale).float()
        hidden = (F.relu(gate).square() if self.activation == "relu2" else F.silu(gate)) * up
        return self.down_proj(*self.quantise_sub(self.ffn_sub_norm(hidden)))


class Layer(nn.Module):
    """One decoder layer: attention and feed-forward, each after a norm and added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.width, config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.width, config)
        self.mlp = FeedForward(config)


class Decoder(nn.Module):
    """Embedding, layers and the final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width, config)

    @property
    def blocks(self) -> list[Layer]:
        """The decoder layers, in order."""
        return [cast(Layer, layer) for layer in self.layers]


class Transformer(nn.Module):
    """The whole model: tokens in, logits out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.model = Decoder(config)
        self.lm_head = None if config.tied else Linear(config.width, config.vocabulary, config)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.02)

    def forward(self, tokens: Tensor, caches: list[list[Tensor]] | None = None) -> Tensor:
        """Return logits `[batch, tokens, vocabulary]` (float32) for tokens `[batch, tokens]`.

        With `caches` (one list per layer, empty at first) the tokens continue those seen before. Raises `InputError`
        if the context would be exceeded.
        """
        config = self.config
        start = caches[0][0].shape[2] if caches and caches[0] else 0
        end = start + tokens.shape[1]
        if end > config.context:
            raise InputError(f"{end} tokens do not fit the model's context of {config.context}")
        dropout = self.dropout if self.training else 0.0
        cos, sin = self.cos[start:end], self.sin[start:end]
        embedding, head = self.model.embed_tokens.weight, self.model.embed_tokens.weight
        if self.lm_head is not None:
            head = self.lm_head.weight
        if config.on_grids:
            embedding = fake_absmax_tensor(embedding)
            head = embedding if self.lm_head is None else fake_absmax_tensor(head)
        x = F.dropout(F.embedding(tokens, embedding).float(), dropout, self.training)
        for index, layer in enumerate(self.model.blocks):
            cache = None if caches is None else caches[index]
            y = layer.self_attn(layer.input_layernorm(x), cos, sin, dropout, cache)
            x = x + F.dropout(y.float(), dropout, self.training)
            y = layer.mlp(layer.post_attention_layernorm(x))
            x = x + F.dropout(y.float(), dropout, self.training)
        x = self.model.norm(x)
        if config.on_grids:
            x = fake_absmax(x)
        return F.linear(x, head.to(x.dtype)).float()
