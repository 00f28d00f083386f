"""The machines as the host sees them: a configuration for a model, and the files of its parameters.

Rows of a projection are put into the order in which the machine wants its results
(`nomul.accelerators.config.Projection`): rotary partners of a head in one transfer, gate and up transfer by transfer,
the LM head as ternary digits.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.accelerators.config import AcceleratorConfig, Projection
from nomul.accelerators.memory_map import DIGEST_BITS, MemoryMap, digest
from nomul.accelerators.scale_programs import CONSTANTS, Constant
from nomul.accelerators.shape import DIGITS_MAX, ModelShape
from nomul.catalog import pack_weights, parse_setting
from nomul.config import FieldError
from nomul.cores.discover import matmul_cores
from nomul.errors import InputError
from nomul.formats.dense import ZERO_BYTE
from nomul.golden.attention import KVCache
from nomul.golden.rope import phase_steps
from nomul.golden.scale import Scale
from nomul.model.integer import IntegerLayer, IntegerModel
from nomul.model.transformer import TransformerConfig
from nomul.names import canonical
from nomul.spec import Spec

__all__ = [
    "cache_image",
    "configure_machine",
    "dram_image",
    "head_matrix",
    "head_order",
    "hex_files",
    "images",
    "machine_config",
    "shape_of",
    "shape_of_config",
    "ternary_digits",
    "write_images",
]


def shape_of(model: IntegerModel) -> ModelShape:
    """Return the shape of a model."""
    most = int(model.head.abs().max())
    digits = next(count for count in range(1, DIGITS_MAX + 1) if (3**count - 1) // 2 >= most)
    return dataclasses.replace(shape_of_config(model.config)[0], head_digits=digits)


def shape_of_config(config: TransformerConfig) -> tuple[ModelShape, tuple[int, ...]]:
    """Return the shape of a model whose weights are not known, and the phases of its rotary embedding.

    Its LM head may use all INT8 codes.
    """
    names = ("width", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocabulary", "context", "activation")
    shape = ModelShape(**{name: getattr(config, name) for name in names})
    return shape, tuple(phase_steps(config.rotary.frequencies(config.head_dim)).tolist())


def machine_config(
    model: IntegerModel, engine: str | None = None, settings: Sequence[str] = (), **fields: Any
) -> AcceleratorConfig:
    """Return the configuration of a machine for a model.

    Parameters
    ----------
    model : IntegerModel
    engine : str
        Engine of the projections; the first that machines are made of by default.
    settings : sequence of str
        'field=value' of the engine, over those that its `MachineUse` names.
    **fields
        Further fields of `AcceleratorConfig`.

    Raises
    ------
    InputError
        If a field does not exist, has a wrong value, or the fields do not go together.
    """
    refuse_features(model)
    return configure_machine(shape_of(model), tuple(model.steps.tolist()), engine, settings, **fields)


def refuse_features(model: IntegerModel) -> None:
    """Raise `InputError` that names what a machine does not have and a model needs."""
    config, linears = model.config, [linear for layer in model.layers for linear in layer.linears.values()]
    lacking = {
        "no SubLN before o_proj and down_proj": not config.sub_norms,
        "norms of queries and keys": config.qk_norm,
        "biases": bool(config.biases),
        "projections with a scale for each row or group": any(linear.scales is not None for linear in linears),
        "an embedding with a scale for each row": model.positions.rows,
    }
    found = [name for name, is_so in lacking.items() if is_so]
    if found:
        raise InputError(f"the model has {' and '.join(found)}, which a machine does not compute yet")


def configure_machine(
    shape: ModelShape, steps: tuple[int, ...], engine: str | None, settings: Sequence[str] = (), **fields: Any
) -> AcceleratorConfig:
    """Return the configuration of a machine for a shape and its phases of rotation, as `machine_config` does."""
    able = {name: core for name, core in matmul_cores().items() if core.machine is not None}
    name = next(iter(able)) if engine is None else canonical(engine, able)
    if name not in able:
        raise InputError(f"no machine is made of {name!r}; its engine is one of {', '.join(able)}")
    core = able[name]
    assert core.machine is not None and isinstance(core.gateware, Spec)
    chosen = {**core.machine.settings, **dict(parse_setting(name, setting) for setting in settings)}
    try:
        return AcceleratorConfig(shape, core.gateware, settings=tuple(sorted(chosen.items())), steps=steps, **fields)
    except (ValueError, TypeError) as error:
        if isinstance(error, FieldError) and error.field == "rows":
            # The engine's rows are the machine's lanes.
            raise InputError(f"lanes is {error.value}; allowed for {name}: {error.allowed}") from None
        raise InputError(str(error)) from None


def ternary_digits(codes: Tensor, count: int) -> Tensor:
    """Return the balanced ternary digits of integers, lowest first: int8 [count, ...], codes = sum 3^d digit_d."""
    digits, rest = [], codes.long()
    for _ in range(count):
        digit = (rest + 1) % 3 - 1
        digits.append(digit.to(torch.int8))
        rest = (rest - digit) // 3
    assert not rest.any(), "more digits are needed"
    return torch.stack(digits)


def head_order(head_dim: int, lanes: int) -> Tensor:
    """Return the elements of a head in the order of its transfers: `lanes / 2` lows, then their rotary partners."""
    pairs = torch.arange(head_dim // 2).view(-1, lanes // 2)
    return torch.cat((pairs, pairs + head_dim // 2), dim=1).flatten()


def _interleave(matrices: Sequence[Tensor], lanes: int) -> Tensor:
    """Return the rows of equally tall matrices, `lanes` of the first, of the second, ..., of the first again."""
    blocks = torch.stack([matrix.view(-1, lanes, matrix.shape[-1]) for matrix in matrices], dim=1)
    return blocks.reshape(-1, matrices[0].shape[-1])


def layer_matrices(layer: IntegerLayer, lanes: int) -> list[Tensor]:
    """Return the four matrices of a layer, int8 [n_out, n_in], as the machine takes them."""
    head_dim, weights = layer.config.head_dim, layer.weights
    order = head_order(head_dim, lanes)
    rotated = [weights[name].unflatten(0, (-1, head_dim))[:, order].flatten(0, 1) for name in ("q_proj", "k_proj")]
    return [
        torch.cat([*rotated, weights["v_proj"]]),
        weights["o_proj"],
        _interleave([weights["gate_proj"], weights["up_proj"]], lanes),
        weights["down_proj"],
    ]


def head_matrix(head: Tensor, config: AcceleratorConfig) -> Tensor:
    """Return the LM head's digits as the machine takes them, int8 [head_blocks * digits * lanes, width]."""
    padded = torch.nn.functional.pad(head, (0, 0, 0, config.head_blocks * config.lanes - len(head)))
    return _interleave(list(ternary_digits(padded, config.shape.head_digits).flip(0)), config.lanes)


def _constants(model: IntegerModel) -> npt.NDArray[np.uint8]:
    """Return the constants of all layers, uint8 [constants, 4], little-endian."""
    words = [_layer_constants(layer, model.embedding_unit) for layer in model.layers]
    return np.array(words, dtype="<u4").reshape(-1, 1).view(np.uint8)


def _layer_constants(layer: IntegerLayer, embed: Scale) -> list[int]:
    assert layer.attention_norm is not None and layer.ffn_norm is not None
    values = {
        Constant.INVERSE_WIDTH: layer.input_norm.inverse_length,
        Constant.INVERSE_QUERIES: layer.attention_norm.inverse_length,
        Constant.INVERSE_FFN: layer.ffn_norm.inverse_length,
        Constant.GAIN_INPUT: layer.input_norm.unit,
        Constant.GAIN_SUB: layer.attention_norm.unit,
        Constant.GAIN_POST: layer.post_norm.unit,
        Constant.GAIN_FFN: layer.ffn_norm.unit,
        Constant.EPS_RESIDUAL: layer.input_norm.eps,
        Constant.EPS_ATTENTION: layer.attention_norm.eps,
        Constant.EPS_FFN: layer.ffn_norm.eps,
        Constant.QUERY: layer.query_unit,
        Constant.KEY: layer.key_unit,
        Constant.VALUE: layer.value_unit,
        Constant.OUT: layer.o_unit,
        Constant.DOWN: layer.down_unit,
        Constant.GATE: layer.gate_unit,
        Constant.UP: layer.up_unit,
        Constant.EMBED: embed,
        Constant.SILU: layer.silu_unit,
        Constant.SILU_RESULT: layer.silu_result,
    }
    words = [0] * CONSTANTS
    for constant, scale in values.items():
        words[constant] = int(scale.mantissa) | (int(scale.exponent) & 1023) << 16
    return words


def _bytes(codes: Tensor, lanes: int) -> npt.NDArray[np.uint8]:
    return codes.reshape(-1, lanes).to(torch.int8).numpy().view(np.uint8)


def _matrices(model: IntegerModel, config: AcceleratorConfig) -> Iterator[Tensor]:
    """Yield the matrices of a pass, chunk by chunk, int8."""
    for layer in model.layers:
        for projection, matrix in zip(Projection, layer_matrices(layer, config.lanes), strict=False):
            yield from (chunk.to(torch.int8) for chunk in matrix.chunk(config.chunks(projection)))
    head = head_matrix(model.head, config)
    yield from (chunk.to(torch.int8) for chunk in head.chunk(config.chunks(Projection.HEAD)))


def images(model: IntegerModel, config: AcceleratorConfig) -> dict[str, tuple[int, npt.NDArray[np.uint8]]]:
    """Return what a machine reads, by the names of `nomul.accelerators.machine.FILES`.

    Each is the width of a word in bits, and uint8 [words, bytes], little-endian.
    """
    lanes = config.lanes
    engine, mode = config.engine_config, config.mode
    weights = np.concatenate(
        [pack_weights(config.engine.name, engine, matrix, mode) for matrix in _matrices(model, config)]
    )
    assert len(weights) == config.weight_depth
    gains = np.concatenate([_bytes(gain, lanes) for gain in _gains(model)])
    return {
        "weights": (engine.weight_width, weights),
        "embedding": (8 * lanes, _bytes(model.embedding, lanes)),
        "gains": (8 * lanes, gains),
        "constants": (26, _constants(model)),
    }


def _gains(model: IntegerModel) -> list[Tensor]:
    """Return the gains of all norms, in order."""
    layers = model.layers
    norms = [n for layer in layers for n in (layer.input_norm, layer.attention_norm, layer.post_norm, layer.ffn_norm)]
    return [norm.gain for norm in [*norms, model.norm] if norm is not None]


def dram_image(model: IntegerModel, config: AcceleratorConfig) -> npt.NDArray[np.uint8]:
    """Return what lies in a machine's DRAM when it begins (`nomul.accelerators.memory_map`), uint8 [words, bytes].

    Bytes p * port_bits / 8 and up of each word are port p's.
    """
    place = MemoryMap(config)
    size = place.word_bytes

    def words(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return rows [n, bytes] each of which begins a word."""
        return np.pad(values, ((0, 0), (0, -values.shape[1] % size))).reshape(-1, size)

    header = np.frombuffer(digest(config).to_bytes(DIGEST_BITS // 8, "little"), np.uint8)[None, :size]
    gains = [words(gain.to(torch.int8).numpy().view(np.uint8)[None]) for gain in _gains(model)]
    embedding = words(model.embedding.to(torch.int8).numpy().view(np.uint8))
    weights = [words(_dense(matrix, config, place)) for matrix in _matrices(model, config)]
    parts = [words(header), words(_constants(model).reshape(1, -1)), *gains, embedding, *weights]
    image = np.concatenate(parts)
    assert len(image) == place.cache
    return image


def cache_image(model: IntegerModel, config: AcceleratorConfig, caches: Sequence[KVCache]) -> npt.NDArray[np.uint8]:
    """Return the keys and values of a text as they lie in a machine's DRAM, uint8 [words, bytes], behind `dram_image`.

    `caches` are those of the integer model, one for each layer, of one text. What the layout is, `nomul.memory.kv_dram`
    says.
    """
    layout = MemoryMap(config).cache_layout
    size, context, block = layout.word // 8, layout.context, layout.tokens
    blocks = -(-context // block)
    heads = []
    for cache in caches:
        for head in range(layout.kv_heads):
            rows = []
            for codes in (cache.keys, cache.values):
                held = np.zeros((blocks * block, layout.row * size), np.uint8)
                count = min(cache.length, context)
                order = head_order(layout.head_dim, config.lanes) if codes is cache.keys else slice(None)
                held[:count, : layout.head_dim] = codes[0, head, :count][:, order].numpy().view(np.uint8)
                rows.append(held)
            pairs = np.zeros((blocks * block, 2), "<u2")
            for column, scales in enumerate((cache.key_scales, cache.value_scales)):
                pairs[: cache.length, column] = scales[0, head, : cache.length].numpy()
            scale_words = pairs.reshape(blocks, block * 2).view(np.uint8)
            keys = np.concatenate([scale_words, rows[0].reshape(blocks, -1)], axis=1)
            heads += [keys.reshape(-1, size), rows[1][:context].reshape(-1, size)]
    image = np.concatenate(heads)
    assert len(image) == layout.size
    return image


def _dense(matrix: Tensor, config: AcceleratorConfig, place: MemoryMap) -> npt.NDArray[np.uint8]:
    """Return a chunk's weights as the machine reads them: [n, bytes], each row from a new word."""
    engine, size, rest = config.engine_config, place.transfer_words * place.word_bytes, 0
    if place.code is not None:
        engine, size, rest = engine.dense(place.units), place.units * place.code.group, ZERO_BYTE
    packed = pack_weights(config.engine.name, engine, matrix, config.mode)
    return np.pad(packed, ((0, 0), (0, size - packed.shape[1])), constant_values=rest)


def hex_files(model: IntegerModel, config: AcceleratorConfig) -> dict[str, str]:
    """Return the texts of the files NAME.hex that a machine reads when it begins, a word a line, for `$readmemh`."""
    files = {}
    for name, (width, words) in images(model, config).items():
        digits = -(-width // 4)
        text = words[:, ::-1].tobytes().hex()
        size = 2 * words.shape[1]
        files[name] = "".join(f"{text[at + size - digits : at + size]}\n" for at in range(0, len(text), size))
    return files


def write_images(model: IntegerModel, config: AcceleratorConfig, folder: Path) -> None:
    """Write those files."""
    for name, text in hex_files(model, config).items():
        (folder / f"{name}.hex").write_text(text)
