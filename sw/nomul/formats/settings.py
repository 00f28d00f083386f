"""Every key of a model's config.json: read, known to change nothing, or named in a sentence. None is passed over."""

from collections.abc import Iterator, Mapping
from typing import Any

from nomul.errors import InputError
from nomul.formats.architecture import ACTIVATIONS, Architecture, model_type, quantization, rope
from nomul.formats.rotary import Rotary

MODEL_TYPES = ("bitnet", "llama", "qwen2", "qwen3")
"""Values of `model_type` whose decoder is Llama's, but for what its tensors say (`nomul.formats.support.Features`)."""


def keys(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


HARMLESS = keys(
    # What a model is called, and what wrote it.
    "_name_or_path name_or_path architectures auto_map transformers_version _commit_hash torch_dtype dtype "
    "tokenizer_class unsloth_version unsloth_fixed "
    # How it is run, and what a run returns.
    "use_cache output_attentions output_hidden_states return_dict return_dict_in_generate output_scores torchscript "
    "use_bfloat16 attn_implementation _attn_implementation _attn_implementation_autoset chunk_size_feed_forward "
    "pretraining_tp gradient_checkpointing "
    # Training.
    "initializer_range attention_dropout hidden_dropout "
    # Tokens that mean something, and how the next one is chosen.
    "bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id "
    "decoder_start_token_id forced_bos_token_id forced_eos_token_id max_length max_new_tokens min_length do_sample "
    "early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty "
    "length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences "
    "remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens "
    # Other tasks than the next token.
    "finetuning_task id2label label2id num_labels task_specific_params problem_type prefix is_decoder "
    # Sliding windows in some layers only; `sliding_window` decides.
    "use_sliding_window max_window_layers "
    # Biases and norms of heads; the tensors tell.
    "attention_bias qkv_bias mlp_bias use_bias qk_norm use_qk_norm qk_layernorm "
    # What Nomul's own files say.
    "characters linear integer sub_norms activations grids"
)
"""Keys that change no logit of a decoder."""

RULED = keys(
    "model_type quantization_config rope_scaling rope_parameters partial_rotary_factor sliding_window input_bits "
    "num_local_experts num_experts attn_logit_softcapping final_logit_softcapping attention_multiplier "
    "no_rope_layers no_rope_layer_interval layer_types"
)
"""Keys that `unsupported_settings` has a rule for."""

NEUTRAL: dict[str, Any] = {
    **dict.fromkeys(("is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"), False),
    **dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"), 1),
    "pruned_heads": {},
    "weight_bits": 1,
}
"""Keys that change nothing where they have this value."""

BITNET = keys("quant_method linear_class quantization_mode modules_to_not_convert use_rms_norm rms_norm_eps")
"""Keys of a `quantization_config` of the method `bitnet` that are read, and the eps of a norm that is refused."""


def unknown(settings: Mapping[str, Any], known: frozenset[str], where: str = "") -> Iterator[str]:
    """Yield a phrase for each key that is neither in `known` nor null; `where` names the object that holds them."""
    for key, value in settings.items():
        if key not in known and value is not None:
            yield f"the setting {where}{key} is {_short(value)}, and Nomul does not know what it changes"


def unsupported_settings(config: Mapping[str, Any], architecture: Architecture) -> Iterator[str]:
    """Yield one sentence for each setting of config.json that asks for what Nomul's models do not compute."""
    kind = model_type(config)
    if kind not in MODEL_TYPES:
        yield f"The model_type {kind!r} is not supported; supported are {', '.join(map(repr, MODEL_TYPES))}."
    if architecture.hidden_act not in ACTIVATIONS:
        allowed = " and ".join(repr(name) for name in ACTIVATIONS)
        yield f"The hidden_act {architecture.hidden_act!r} is not supported; supported are {allowed}."
    yield from _rotary(config, architecture)
    window = config.get("sliding_window")
    if type(window) is int and window < architecture.max_position_embeddings and config.get("use_sliding_window", True):
        yield f"A sliding_window of {window} positions is not supported; attention is over the whole context."
    for key in ("num_local_experts", "num_experts"):
        if config.get(key) not in (None, 0, 1):
            yield f"A mixture of {config[key]} experts ({key}) is not supported."
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            yield f"Soft capping ({key}) is not supported."
    if config.get("input_bits", 8) not in (8, None):
        yield f"Activations of {config['input_bits']} bits (input_bits) are not supported; supported are 8."
    scale = config.get("attention_multiplier")
    if scale is not None and scale != architecture.head_dim**-0.5:
        yield f"An attention_multiplier of {scale!r} is not supported; supported is 1 / sqrt(head_dim)."
    yield from _layers(config)
    for key, neutral in NEUTRAL.items():
        value = config.get(key)
        if value is not None and not (value == neutral and isinstance(value, bool) == isinstance(neutral, bool)):
            yield f"The setting {key} is {value!r}, which is not supported; supported is {neutral!r}."
    settings = quantization(config)
    if settings.get("use_rms_norm"):
        yield "An RMSNorm inside each projection (use_rms_norm) is not supported."
    elif settings.get("quant_method", "bitnet") == "bitnet":
        yield from (_sentence(phrase) for phrase in unknown(settings, BITNET, "quantization_config."))
    known = HARMLESS | RULED | vars(architecture).keys() | NEUTRAL.keys()
    yield from (_sentence(phrase) for phrase in unknown(config, known))


def _rotary(config: Mapping[str, Any], architecture: Architecture) -> Iterator[str]:
    settings = rope(config)
    try:
        Rotary.read(settings, architecture.rope_theta, architecture.max_position_embeddings)
    except InputError as error:
        yield _sentence(str(error))
    factor = settings.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if factor not in (1, None):
        yield f"A partial_rotary_factor of {factor} is not supported; supported is 1."


def _layers(config: Mapping[str, Any]) -> Iterator[str]:
    rotated, kinds = config.get("no_rope_layers"), config.get("layer_types")
    # 1 stands for a layer with rotary embedding, whatever the name says.
    if rotated is not None and not _only(rotated, 1):
        yield f"Layers without rotary embedding are not supported: no_rope_layers is {_short(rotated)}."
    elif rotated is None and config.get("no_rope_layer_interval") is not None:
        interval = config["no_rope_layer_interval"]
        yield f"Layers without rotary embedding are not supported: no_rope_layer_interval is {interval!r}."
    if kinds is not None and not _only(kinds, "full_attention"):
        yield f"Layers other than 'full_attention' are not supported: layer_types is {_short(kinds)}."


def _only(values: Any, usual: Any) -> bool:
    return isinstance(values, list) and all(value == usual for value in values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."
