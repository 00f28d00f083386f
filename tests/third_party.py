"""Tiny models made by transformers, as their publishers store them, and what transformers itself makes of them."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than all of these models
transformers = pytest.importorskip("transformers", reason="needs transformers, which makes the models")
pytest.importorskip("accelerate", reason="needs accelerate, without which transformers loads no BitNet model")
integration = pytest.importorskip("transformers.integrations.bitnet")

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 3, "eos_token_id": 5, "pad_token_id": 7,
}  # fmt: skip
TOKENS = torch.randint(0, 96, (2, 20), generator=torch.Generator().manual_seed(7))
ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
MULTIPLY = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
DIVIDE = {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}
UNSAID = {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}


def edit(folder, **fields):
    """Change fields of config.json; None takes one away."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def masters(folder, kind, dtype=torch.bfloat16, quantization=ONLINE, **fields):
    """Save a model with random float weights, gains that are not one, and a tokenizer."""
    generator = torch.Generator().manual_seed(len(str(fields)))
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **fields})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            gain = value.ndim == 1 and name.endswith("weight")
            value.copy_(0.5 + drawn.abs() if gain else drawn * (0.05 if "_proj.weight" in name else 0.5))
    model.to(dtype).save_pretrained(folder)
    words = {f"w{i}": i for i in range(96)}
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="w3", eos_token="w5").save_pretrained(
        folder
    )
    return edit(folder, quantization_config=quantization)


def packed(folder, quantization, scale_type=torch.bfloat16):
    """Replace a folder's master weights by packed ones, with transformers' own packer."""
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        values = tensors[name].float()
        scale = values.abs().mean()
        tensors[name] = integration.pack_weights((values / scale).round().clamp(-1, 1))
        stored = scale if quantization.get("linear_class") == "autobitlinear" else 1 / scale
        tensors[f"{name}_scale"] = stored.to(scale_type).reshape(1)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return edit(folder, quantization_config=quantization)


def compressed(folder, bits=4, symmetric=True, strategy="group", actorder=None):
    """Save a Llama that compressed-tensors has quantised and packed; return the weights that it says they mean."""
    reason = "needs compressed-tensors, which makes the model"
    quantization = pytest.importorskip("compressed_tensors.quantization", reason=reason)
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SIZES, tie_word_embeddings=False))
    size = 32 if strategy == "group" else None
    args = quantization.QuantizationArgs(
        num_bits=bits, type="int", symmetric=symmetric, strategy=strategy, group_size=size, actorder=actorder
    )
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
    config = quantization.QuantizationConfig(
        config_groups={"group_0": scheme}, ignore=["lm_head"], format="pack-quantized", quantization_status="frozen"
    )
    quantization.apply_quantization_config(model, config)
    meant = {}
    for name, module in model.named_modules():
        if hasattr(module, "weight_scale"):
            groups = module.weight.data.reshape(len(module.weight), -1, size or module.weight.shape[1])
            scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
            module.weight_scale.data = scale.to(module.weight_scale.dtype).reshape(module.weight_scale.shape)
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype)
            points = getattr(module, "weight_zero_point", None)
            meant[name] = fake_quantize(module.weight.data, module.weight_scale, points, args).float()
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    return meant


def trits(folder):
    """Save what transformers 4 saves of a packed model that it has loaded: its state, with trits as floats."""
    state = {name: value.clone() for name, value in load(folder).state_dict().items()}
    state = {name: value if name.endswith("scale") else value.bfloat16() for name, value in state.items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def load(folder):
    """Load a model in float32, its quantised layers too."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.nn.Module.float(model)
    for module in model.modules():
        if isinstance(module, integration.BitLinear):
            module.dtype = torch.float32
    return model.eval()


def dequantised(model):
    """Return the weights that transformers multiplies by, by layer."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, integration.BitLinear):
            found[name] = integration.unpack_weights(module.weight, torch.float32) / module.weight_scale.float()
        elif isinstance(module, integration.AutoBitLinear):
            online = module.online_quant
            weight = module.weight.detach().float()
            found[name] = integration.WeightQuant.apply(weight) if online else weight * module.weight_scale.float()
    return found


@torch.no_grad()
def logits(model):
    """Return the logits of two rows of tokens, and the tokens that follow the first greedily."""
    tokens = TOKENS[:1, :6]
    for _ in range(12):
        tokens = torch.cat((tokens, model(input_ids=tokens).logits[:, -1].argmax(-1)[None]), 1)
    return model(input_ids=TOKENS).logits, tokens.tolist()
