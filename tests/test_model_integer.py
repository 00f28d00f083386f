"""The integer model: against the float one, against itself in other divisions, and at the extremes."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint
from nomul.formats.rotary import Rotary
from nomul.formats.ternary import TernaryLayer
from nomul.golden.absmax import CODE_MAX
from nomul.golden.linear import scaled_linear
from nomul.model import checkpoints
from nomul.model.activations import INPUTS, record, trace
from nomul.model.calibration import calibrate
from nomul.model.evaluation import evaluate
from nomul.model.integer import IntegerModel, Positions
from nomul.model.products import exact_product
from nomul.model.ranges import exponent_ranges, ranges
from nomul.model.store import linears, load_model
from nomul.model.text import encode
from nomul.model.transformer import PROJECTIONS, Transformer, TransformerConfig

ROOT = Path(__file__).resolve().parent.parent
CHARACTERS = open_checkpoint(checkpoints.path()).config["characters"]
CONFIG = TransformerConfig(8, width=48, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=56, context=40)


def random_model(config: TransformerConfig = CONFIG, seed: int = 1) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tokens_of(batch: int, count: int, config: TransformerConfig = CONFIG) -> torch.Tensor:
    return torch.randint(config.vocabulary, (batch, count), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("activation", ["relu2", "silu"])
@pytest.mark.parametrize("tied", [True, False])
def test_integer_follows_float_on_a_random_model(activation: str, tied: bool) -> None:
    model = random_model(replace(CONFIG, activation=activation, tied=tied))
    tokens = tokens_of(4, 40)
    integer = IntegerModel(model, calibrate(model, tokens))
    values, scale = integer.forward(tokens, integer.caches(4))
    with torch.no_grad():
        real = model(tokens).double()
    error = (values.double() * scale.to_float()[..., None] - real).square().mean().sqrt()
    assert float(error) < 0.05 * float(real.std())


FEATURES: dict[str, dict[str, object]] = {
    "no SubLN": {"sub_norms": False},
    "norms of heads": {"qk_norm": True, "sub_norms": False, "activation": "silu"},
    "biases": {"biases": ("q_proj", "k_proj", "v_proj"), "activation": "silu"},
    "all biases": {"biases": PROJECTIONS, "sub_norms": False, "activation": "silu"},
    "biases and norms of heads": {"biases": ("q_proj", "k_proj", "o_proj"), "qk_norm": True},
    "yarn": {"rotary": Rotary(1e4, "yarn", 4.0, 16, attention_factor=1.3), "sub_norms": False},
}


def scaled_model(config: TransformerConfig, group: int | None) -> Transformer:
    """Return a random model whose projections have a scale for each group of inputs, or each row."""
    model = random_model(config)
    with torch.no_grad():
        for name, module in linears(model).items():
            codes = torch.randint(-1, 2, module.weight.shape, dtype=torch.int8)
            groups = 1 if group is None else -(-codes.shape[1] // group)
            module.freeze_ternary(TernaryLayer(name, codes, 0.01 + 0.2 * torch.rand(len(codes), groups), group))
    return model


def error_of(model: Transformer, rows: bool = False) -> float:
    """Return the error of the integer model's logits, over the standard deviation of the float model's."""
    tokens = tokens_of(4, 40)
    integer = IntegerModel(model, calibrate(model, tokens, rows))
    values, scale = integer.forward(tokens, integer.caches(4))
    with torch.no_grad():
        real = model(tokens).double()
    error = (values.double() * scale.to_float()[..., None] - real).square().mean().sqrt()
    return float(error) / float(real.std())


@pytest.mark.parametrize("name", FEATURES)
def test_integer_follows_float_with_every_feature(name: str) -> None:
    config = replace(CONFIG, **FEATURES[name])  # type: ignore[arg-type]
    assert error_of(random_model(config)) < 0.05
    # An eps that counts beside the mean square; of heads it is in units of the sums.
    assert error_of(random_model(replace(config, eps=1e-2))) < 0.05


@pytest.mark.parametrize("group", [8, 20, None])
@pytest.mark.parametrize("rows", [False, True])
def test_integer_follows_float_with_scales_by_group_and_row(group: int | None, rows: bool) -> None:
    model = scaled_model(replace(CONFIG, sub_norms=False, activation="silu", grids=False), group)
    if rows:
        with torch.no_grad():
            model.model.embed_tokens.weight.mul_(torch.logspace(-2, 1, 8)[:, None])
        assert error_of(model, rows) < 0.05 < error_of(model)
    else:
        assert error_of(model) < 0.06


def test_a_scaled_product_is_the_rounded_sum_over_groups() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-1, 2, (6, 45), generator=generator, dtype=torch.int8)
    codes = torch.randint(-127, 128, (5, 45), generator=generator)
    for group in (16, 45):
        scales = torch.randint(0, 4096, (6, -(-45 // group)), generator=generator)
        wide = weight.double() * scales.repeat_interleave(group, 1)[:, :45].double()
        assert torch.equal(scaled_linear(weight, scales, group, codes), (codes.double() @ wide.T / 4096).round().long())


@pytest.mark.parametrize("most", [1, CODE_MAX])
@pytest.mark.parametrize("extreme", [False, True])
def test_products_in_floats_are_exact(most: int, extreme: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    shape = (600, 140_000 if most == 1 else 2600)
    weight = torch.randint(-most, most + 1, shape, generator=generator, dtype=torch.int8)
    codes = torch.randint(-CODE_MAX, CODE_MAX + 1, (3, shape[1]), generator=generator)
    if extreme:
        weight, codes = torch.full_like(weight, most), torch.full_like(codes, CODE_MAX)
        codes[1, ::2] = CODE_MAX - 1
    assert torch.equal(exact_product(weight, codes, most)[:, ::50], codes @ weight[::50].long().T)


@torch.no_grad()
def test_any_division_into_calls_gives_the_same_bits() -> None:
    model = random_model()
    tokens = tokens_of(2, 40)
    integer = IntegerModel(model, calibrate(model, tokens))
    whole_caches = integer.caches(2)
    whole, whole_scale = integer.forward(tokens, whole_caches)
    for sizes in ([1] * 40, [7, 1, 20, 12], [39, 1]):
        caches = integer.caches(2)
        parts = [integer.forward(part, caches) for part in tokens.split(sizes, 1)]
        assert torch.equal(torch.cat([values for values, _ in parts], 1), whole)
        assert torch.equal(torch.cat([scale.mantissa for _, scale in parts], 1), whole_scale.mantissa)
        for cache, expected in zip(caches, whole_caches, strict=True):
            assert torch.equal(cache.keys, expected.keys) and torch.equal(cache.values, expected.values)
            assert torch.equal(cache.value_scales, expected.value_scales)


class NoFloat(TorchDispatchMode):
    """Fails when an operation takes or gives a floating-point tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in [*args, *(kwargs or {}).values(), result]:
            for tensor in value if isinstance(value, list | tuple) else [value]:
                assert not (isinstance(tensor, torch.Tensor) and tensor.is_floating_point()), func
        return result


@pytest.mark.parametrize("activation", ["relu2", "silu"])
def test_no_floating_point_between_tokens(activation: str) -> None:
    model = random_model(replace(CONFIG, activation=activation))
    tokens = tokens_of(1, 12)
    integer = IntegerModel(model, calibrate(model, tokens))
    caches = integer.caches()
    with NoFloat():
        integer.forward(tokens[:, :8], caches)
        integer.forward(tokens[:, 8:9], caches)
    with pytest.raises(AssertionError), NoFloat():
        model(tokens)


@torch.no_grad()
def test_committed_tiny_meets_its_bars_on_the_sonnet() -> None:
    model, config = load_model(checkpoints.path("tiny"))
    integer = IntegerModel(model, Positions.from_config(config, model.config.layers, "tiny"))
    result = evaluate(model, integer, encode(checkpoints.sample_text(), CHARACTERS))
    assert result.nats_per_char_float < 1.4
    assert result.nats_per_char_integer == pytest.approx(result.nats_per_char_float, rel=0.01)
    assert result.agreement is not None and result.agreement >= 0.97


EXTREMES = {"largest": 1.0, "smallest": -1.0}


@torch.no_grad()
def extreme_model(sign: float) -> Transformer:
    """A model whose weights are all of one sign, gains and embedding at an end of INT8: no sum ever cancels."""
    model = random_model()
    for name, module in linears(model).items():
        # A gate that is not positive would make everything after it zero.
        ones = torch.ones_like(module.weight)
        module.freeze(ones if name.endswith("gate_proj") else sign * ones, torch.tensor(100.0))
    for name, parameter in model.named_parameters():
        if "norm" in name or "embed" in name:
            parameter.fill_(sign * 5.0)
    return model


@pytest.mark.parametrize("sign", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("activation", ["relu2", "silu"])
def test_extreme_weights_stay_in_their_ranges_and_reach_them(sign: float, activation: str) -> None:
    model = extreme_model(sign)
    model.config = replace(model.config, activation=activation)
    # Positions far too fine, so that everything that can saturate does.
    integer = IntegerModel(model, Positions(30, (30, 30), (30, 30)))
    values = trace(integer, tokens_of(1, 40)[0])
    bound = {entry.name: entry.bound for entry in ranges(CONFIG)}
    limits = {
        "q_proj": bound["sums of q, k, v, gate, up"],
        "gate_proj": bound["sums of q, k, v, gate, up"],
        "o_proj": bound["sums of o"],
        "down_proj": bound["sums of down"],
        "attention.key_scale": 65535,
        "attention.value_scale": 65535,
        "attention.weights": bound["softmax weight"],
        "attention.residual": 524287,
        "mlp.residual": 524287,
        "attention.output": 524287,
        "mlp.hidden": 524287,
    }
    for name, limit in limits.items():
        seen = int(values[f"layers.0.{name}"].abs().max())
        assert seen <= limit, name
        # The largest output is 524280, eight times the largest value scale; a normalised block may miss a bit.
        assert seen >= limit * (0.5 if name == "mlp.hidden" else 0.99), name
    assert int(values["logits"].abs().max()) == bound["logits"]


def test_ranges_are_those_of_the_operators() -> None:
    for width in (48, 160, 2560):
        bound = {entry.name: entry.bound for entry in ranges(replace(CONFIG, width=width))}
        assert bound["sums of q, k, v, gate, up"] == 127 * width
        # The largest sum of two products of a sum with one angle's cosine and sine is at 45 degrees.
        assert 127 * width * math.sqrt(2) * 16 <= bound["rotated"] <= 127 * width * math.sqrt(2) * 16 * 1.001 + 2
        assert bound["gated product"] == (127 * width) ** 3


def test_a_shape_that_could_overflow_is_refused() -> None:
    wide = replace(CONFIG, width=16384, layers=1, ffn=1, heads=1, kv_heads=1)
    model = Transformer(wide)
    with pytest.raises(OverflowError, match=r"^gated product can reach \d+ \(64 bits\), more than its limit of \d+$"):
        IntegerModel(model, Positions(10, (10,), (10,)))


def test_other_arithmetic_is_refused() -> None:
    model, _ = load_model(checkpoints.path("tiny_bwta"))
    with pytest.raises(InputError, match=r"^the integer model runs ternary projections; these are 'bwta'$"):
        IntegerModel(model, Positions(10, (10,) * 5, (10,) * 5))


@pytest.mark.parametrize(
    "entry,message",
    [
        (None, r"^x has no fixed-point positions; nomul calibrate x --text FILE -o FILE chooses them$"),
        ({"residual": 3, "keys": [1], "values": [1, 2]}, r"must hold residual and, for each of 2 layers"),
        ({"residual": 3.5, "keys": [1, 1], "values": [1, 2]}, r"all from -64 to 64"),
        ({"residual": 99, "keys": [1, 1], "values": [1, 2]}, r"all from -64 to 64"),
    ],
)
def test_wrong_positions_are_refused(entry: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Positions.from_config({"integer": entry}, 2, "x")


def test_context_is_a_limit() -> None:
    model = random_model()
    integer = IntegerModel(model, calibrate(model, tokens_of(1, 40)))
    caches = integer.caches()
    integer.forward(tokens_of(1, 40), caches)
    with pytest.raises(InputError, match=r"^41 tokens do not fit the model's context of 40$"):
        integer.forward(tokens_of(1, 1), caches)


def test_recorded_activations_are_what_the_layer_reads() -> None:
    text = checkpoints.sample_text()
    path = checkpoints.path("tiny")
    integer = IntegerModel.load(path)
    values = trace(integer, encode(text[:30], CHARACTERS))
    for layer, name in (("self_attn.q_proj", "q_proj"), ("mlp.down_proj", "down_proj"), ("self_attn.o_proj", "o_proj")):
        codes = record(path, f"model.layers.1.{layer}", text, 30)
        assert codes.dtype == torch.int8 and codes.shape[0] == 30
        weight = integer.layers[1].weights[name].long()
        assert torch.equal(codes.long() @ weight.t(), values[f"layers.1.{name}"])
        assert torch.equal(codes.long(), values[f"layers.1.{INPUTS[name]}"])
    assert record(path, "model.layers.0.mlp.up_proj", text, 300).shape == (300, 160)
    ternary = record(checkpoints.path("tiny_bwta"), "model.layers.0.mlp.up_proj", text, 20)
    assert set(ternary.unique().tolist()) == {-1, 0, 1}


def test_record_refuses_unknown_layers_and_lengths() -> None:
    path, text = checkpoints.path("tiny"), checkpoints.sample_text()
    with pytest.raises(InputError, match=r"has no layer 'layers.9.q_proj'; did you mean model\.layers\.\d"):
        record(path, "layers.9.q_proj", text, 10)
    with pytest.raises(InputError, match=r"^tokens is 0; the text allows 1 to \d+$"):
        record(path, "model.layers.0.mlp.up_proj", text, 0)


def test_the_documented_widths_are_the_computed_ones() -> None:
    text = (ROOT / "docs" / "numerics.md").read_text()
    tiny, small = (ranges(load_model(checkpoints.path(name))[0].config) for name in ("tiny", "small"))
    for one, other in zip(tiny, small, strict=True):
        assert f"| {one.name} | {one.bits} | {other.bits} |" in text


@torch.no_grad()
@pytest.mark.parametrize("source", ["tiny", "small", "largest", "smallest"])
def test_exponents_stay_in_their_ranges(source: str) -> None:
    if source in EXTREMES:
        integer = IntegerModel(extreme_model(EXTREMES[source]), Positions(30, (30, 30), (30, 30)))
        tokens = tokens_of(1, 40)[0]
    else:
        integer = IntegerModel.load(checkpoints.path(source))
        tokens = encode(checkpoints.sample_text()[:60], CHARACTERS)
    values = trace(integer, tokens)
    names = {
        "attention.input_scale": "input",
        "attention.sub_norm_scale": "sub",
        "attention.query_scale": "query",
        "mlp.input_scale": "post",
        "mlp.sub_norm_scale": "ffn",
    }
    for layer in integer.layers:
        allowed = exponent_ranges(integer.config, layer.constants())
        for name, scale in names.items():
            mantissa = values[f"layers.{layer.index}.{name}.mantissa"]
            exponent = values[f"layers.{layer.index}.{name}.exponent"][mantissa > 0]
            low, high = allowed[scale]
            assert -512 <= low <= int(exponent.min()) and int(exponent.max()) <= high <= 511, name


def test_a_scale_that_could_leave_its_exponents_is_refused() -> None:
    model = random_model()
    for name, module in linears(model).items():
        if name.endswith("gate_proj"):
            module.freeze(torch.ones_like(module.weight), torch.tensor(1e-37))
    with pytest.raises(OverflowError, match=r"^the exponent of the scale 'unit squared' can be -\d+ to -?\d+; 10 bits"):
        IntegerModel(model, Positions(10, (10, 10), (10, 10)))
