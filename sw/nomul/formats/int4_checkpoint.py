"""GPTQ, AWQ, compressed-tensors and GGUF checkpoints: which layers they hold, and how config.json says to read them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nomul.errors import InputError
from nomul.formats import compressed_tensors
from nomul.formats.architecture import quantization
from nomul.formats.checkpoint import OpenCheckpoint
from nomul.formats.companions import companions
from nomul.formats.container import Container, open_container, read_json_object
from nomul.formats.gguf_model import GgufModel
from nomul.formats.huggingface import read_config, refuse_foreign
from nomul.formats.int4 import CODES_PER_WORD, Int4Layer, from_awq, from_gptq
from nomul.formats.settings import keys, unknown

BESIDE = ("quantize_config.json", "quant_config.json")
"""Files that say what `quantization_config` of config.json does not, as AutoGPTQ and AutoAWQ call them."""

GPTQ_FORMATS = {"gptq": 1, "gptq_v2": 0}
"""Values of `checkpoint_format` that are read, with what is added to a stored zero."""


KNOWN = keys(
    # Read, by name or by what the tensors say.
    "quant_method method bits w_bit group_size q_group_size sym desc_act dynamic checkpoint_format format version "
    "modules_to_not_convert modules_in_block_to_quantize block_name_to_quantize module_name_preceding_first_block "
    # How the codes were found, and what the quantiser is called.
    "damp_percent damp_auto_increment static_groups true_sequential act_group_aware meta dataset tokenizer batch_size "
    "pad_token_id max_input_length model_seqlen cache_block_outputs model_name_or_path model_file_base_name mse "
    "quantizer offload_to_disk offload_to_disk_path pack_impl "
    # How others run them.
    "backend use_exllama disable_exllama exllama_config use_cuda_fp16 use_cuda_kernel do_fuse fuse_max_seq_len "
    "modules_to_fuse awq_gemm_checkpoint"
)
"""Keys of `quantization_config` that are read, or change nothing in what the codes mean."""

NEUTRAL = {"lm_head": False, "zero_point": True, "pack_dtype": "int32", "is_marlin_format": False}
"""Keys of `quantization_config` that are supported with this value only."""


class Int4Checkpoint(OpenCheckpoint[Int4Layer]):
    """An open checkpoint of INT4 layers; its `kind` is `gptq`, `awq`, `compressed-tensors` or `gguf`."""


def int4_layers(container: Container) -> list[str]:
    """Return the names of the layers of a container that are stored as `qweight` or `weight_packed`, or so in GGUF."""
    if isinstance(container, GgufModel):
        return list(container.int4)
    return [name.rpartition(".")[0] for name in container if name.endswith((".qweight", ".weight_packed"))]


def open_int4(path: Path | str) -> Int4Checkpoint:
    """Open a GPTQ, AWQ or compressed-tensors (pack-quantized) safetensors file, a GGUF file, or a directory of one.

    The method is read from `quantization_config` of config.json, or from quantize_config.json, or else from the
    shapes. Raises `InputError` for a file without such layers, a layer that lacks a part, and a setting that is not
    supported: other than 4 bits, AWQ other than gemm, another checkpoint_format, settings per module.
    """
    container = open_container(path)
    if isinstance(container, GgufModel):
        return _open_gguf(container)
    config = read_config(container.path)
    names = int4_layers(container)
    try:
        if not names:
            refuse_foreign(container, config)
            raise InputError("there are no INT4 layers here: no tensor is named <layer>.qweight")
        if f"{names[0]}.weight_packed" in container:
            return _open_compressed(container, config, names)
        for name in names:
            for part in ("qzeros", "scales"):
                if f"{name}.{part}" not in container:
                    raise InputError(f"layer {name} has no tensor {name}.{part}")
            if container.dtype(f"{name}.qweight") != "I32" or len(container.shape(f"{name}.qweight")) != 2:
                raise InputError(
                    f"layer {name}: qweight is {container.dtype(f'{name}.qweight')} "
                    f"{list(container.shape(f'{name}.qweight'))}, but an I32 matrix is needed"
                )
        settings = _settings(container.path, config)
        method = _method(container, names[0], settings)
        reader, notes = _gptq(container, settings) if method == "gptq" else _awq(container, settings)
    except InputError as error:
        raise InputError(f"{container.path}: {error}") from None
    along_inputs = method == "gptq"
    shapes = {}
    for name in names:
        rows, columns = container.shape(f"{name}.qweight")
        shapes[name] = (columns, rows * CODES_PER_WORD) if along_inputs else (columns * CODES_PER_WORD, rows)
    own = {f"{name}.{part}" for name in names for part in ("qweight", "qzeros", "scales", "g_idx")}
    tensors, files = container.without(own), companions(container)
    return Int4Checkpoint(container.path, method, config, shapes, tensors, files, notes, reader)


def _open_gguf(model: GgufModel) -> Int4Checkpoint:
    if not model.int4:
        raise InputError(f"{model.path}: there are no INT4 layers here")
    files = companions(model)
    return Int4Checkpoint(
        model.path, "gguf", dict(model.config), model.int4, model.others, files, model.notes, model.read_int4
    )


def _open_compressed(container: Container, config: dict[str, Any], names: list[str]) -> Int4Checkpoint:
    size = compressed_tensors.check_settings(quantization(config))
    shapes = {name: compressed_tensors.layer_shape(container, name) for name in names}
    own = {f"{name}.{part}" for name in names for part in compressed_tensors.PARTS}
    tensors, files = container.without(own), companions(container)

    def read(name: str) -> Int4Layer:
        return compressed_tensors.read_layer(container, name, size)

    return Int4Checkpoint(container.path, compressed_tensors.METHOD, config, shapes, tensors, files, (), read)


def _settings(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = quantization(config)
    for name in BESIDE:
        beside = (path if path.is_dir() else path.parent) / name
        if not settings and beside.is_file():
            settings = read_json_object(beside)
    settings = {"group_size": settings.get("q_group_size"), **settings}
    for key in ("bits", "w_bit"):
        if settings.get(key, 4) != 4:
            raise InputError(f"{key} is {settings[key]}; only 4-bit weights are supported")
    if settings.get("dynamic"):
        raise InputError("the quantisation has settings per module ('dynamic'), which are not supported")
    for key, neutral in NEUTRAL.items():
        if settings.get(key) not in (None, neutral):
            raise InputError(f"{key} is {settings[key]!r}, which is not supported; supported is {neutral!r}")
    for phrase in unknown(settings, KNOWN | NEUTRAL.keys(), "quantization_config."):
        raise InputError(phrase)
    group_size = settings.get("group_size")
    if group_size is not None and (type(group_size) is not int or (group_size < 1 and group_size != -1)):
        raise InputError(f"group_size is {group_size!r}; allowed are -1 (one group) and integers from 1")
    return settings


def _method(container: Container, name: str, settings: Mapping[str, Any]) -> str:
    method = settings.get("quant_method")
    if method is not None:
        if method not in ("gptq", "awq"):
            raise InputError(f"quant_method is {method!r}; allowed for INT4 layers are 'gptq' and 'awq'")
        return method
    # GPTQ packs the inputs, so that qweight is as wide as scales; AWQ packs the outputs, so that it is narrower.
    scales = container.shape(f"{name}.scales")
    return "gptq" if scales[-1:] == container.shape(f"{name}.qweight")[-1:] else "awq"


def _gptq(container: Container, settings: Mapping[str, Any]) -> tuple[Callable[[str], Int4Layer], tuple[str, ...]]:
    version = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if version not in GPTQ_FORMATS:
        raise InputError(f"checkpoint_format is {version!r}; supported are {' and '.join(map(repr, GPTQ_FORMATS))}")
    offset = GPTQ_FORMATS[version]
    stored = "zero - 1, so that 1 is added" if offset else "the zero itself"
    notes = [f"the zero points are read as {version} stores them: {stored}"]
    symmetric = settings.get("sym") is True
    if symmetric and offset:
        notes.append("a layer whose stored zeros are all 8 is read without the 1, since sym is true and 9 is no centre")

    def read(name: str) -> Int4Layer:
        qzeros = container[f"{name}.qzeros"]
        # Some writers say gptq and store version 2; with sym the zero is 8, so the stored one tells (vLLM PR 38966).
        as_is = symmetric and bool((qzeros == -0x77777778).all())
        return from_gptq(
            name,
            container[f"{name}.qweight"],
            qzeros,
            container[f"{name}.scales"],
            container.get(f"{name}.g_idx"),
            settings.get("group_size"),
            0 if as_is else offset,
        )

    return read, tuple(notes)


def _awq(container: Container, settings: Mapping[str, Any]) -> tuple[Callable[[str], Int4Layer], tuple[str, ...]]:
    version = str(settings.get("version") or settings.get("format") or "gemm").lower()
    if version != "gemm":
        raise InputError(f"the AWQ version is {version!r}; only 'gemm' is supported")

    def read(name: str) -> Int4Layer:
        return from_awq(
            name,
            container[f"{name}.qweight"],
            container[f"{name}.qzeros"],
            container[f"{name}.scales"],
            settings.get("group_size"),
        )

    return read, ()
