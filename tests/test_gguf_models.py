"""Whole models in GGUF: those of transformers are what was written, and run as transformers runs them; tokenizers."""

import itertools
import json
import random

import gguf
import numpy as np
import pytest
import tokenizers
import torch

from nomul.errors import InputError
from nomul.formats.checkpoint import open_checkpoint
from nomul.formats.container import open_container
from nomul.formats.inspection import open_any, open_model, survey
from nomul.model.store import load_model, load_tokenizer
from tests import gguf_files as make
from tests.test_formats_huggingface import run
from tests.test_gguf import permute

transformers = pytest.importorskip("transformers", reason="needs transformers, which makes the models")

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}  # fmt: skip
SIZES = {
    "vocab_size": make.VOCABULARY, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
KINDS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, rms_norm_eps=1e-6),
    "llama-biased": lambda: transformers.LlamaConfig(**SIZES, rms_norm_eps=1e-6, attention_bias=True, head_dim=128),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=64, tie_word_embeddings=True),
    "bitnet": lambda: transformers.BitNetConfig(
        **SIZES, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, hidden_act="silu"
    ),
}
TOKENS = torch.randint(0, make.VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(7))


def gguf_name(name):
    """What llama.cpp calls a tensor of transformers."""
    parent, _, part = name.rpartition(".")
    if parent in NAMES:
        return f"{NAMES[parent]}.{part}"
    _, _, layer, rest = parent.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{part}"


def built(kind):
    """A model of random weights, whose projections are such as Q4_0 or TQ2_0 holds exactly."""
    generator = torch.Generator().manual_seed(3)
    found = transformers.AutoModelForCausalLM.from_config(KINDS[kind]())
    with torch.no_grad():
        for name, value in found.named_parameters():
            drawn = torch.randn(value.shape, generator=generator)
            if "_proj.weight" in name:
                value.copy_(torch.from_numpy(make.ternary(drawn.numpy())) * 0.0625)
            else:
                value.copy_(0.5 + drawn.abs() if value.ndim == 1 else drawn)
    return found.eval().float()


def exact(weights, kind):
    """Weights that are -1/16, 0 and 1/16, in a type; the library's Q4_0 would round +8/128 to +7/128."""
    if kind != "Q4_0":
        return make.quantised(weights, kind)
    blocks = make.nibble_blocks(weights * 16 + 8, np.full(weights.size // 32, 1 / 16))
    return blocks, gguf.GGMLQuantizationType.Q4_0.value, weights.shape


def write(path, kind, model, types):
    """Write a model of transformers as llama.cpp's converter does; `types` are those of its projections, in turn."""
    tensors, heads, architecture = {}, {"q": 4, "k": 2}, kind.partition("-")[0]
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array = value.numpy()
        place = name.split("_proj")[0][-1]
        if architecture == "llama" and "_proj" in name and place in heads:
            array = permute(array, heads[place])
        projection = name.endswith("_proj.weight")
        tensors[gguf_name(name)] = exact(array, types[len(tensors) % len(types)]) if projection else array
    size = model.config.head_dim if kind in ("qwen3", "llama-biased") else None
    keys = {"attention.key_length": size, "attention.value_length": size}
    return make.write(path, tensors, architecture, settings=keys)


@pytest.mark.parametrize("types", [("TQ2_0",), ("TQ1_0",), ("TQ2_0", "Q4_0")], ids="-".join)
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_those_of_transformers(tmp_path, kind, types):
    model = built(kind)
    checkpoint = open_model(write(tmp_path / "a.gguf", kind, model, types))
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    names = {f"{name}.weight" for name in checkpoint.shapes}
    assert {*names, *checkpoint.tensors} == {*state} and len(names) == 14
    for name, value in state.items():
        found = (
            checkpoint.layer(name.removesuffix(".weight")).dequantise() if name in names else checkpoint.tensors[name]
        )
        assert torch.equal(found, value), name


@pytest.mark.parametrize("types", [("TQ2_0",), ("TQ2_0", "Q4_0"), ("F32",)], ids="-".join)
@pytest.mark.parametrize("kind", ["llama", "llama-biased", "qwen2", "qwen3"])
def test_a_model_runs_as_transformers_runs_it(tmp_path, kind, types):
    model = built(kind)
    file = write(tmp_path / "a.gguf", kind, model, types)
    assert survey(file).unknown == () or types == ("F32",)
    ours, _ = load_model(file)
    with torch.no_grad():
        theirs, found = model(input_ids=TOKENS).logits, ours(TOKENS)
    assert (found - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_a_forgotten_order_of_rows_is_another_model(tmp_path, monkeypatch):
    model = built("llama")
    file = write(tmp_path / "a.gguf", "llama", model, ("TQ2_0",))
    monkeypatch.setattr("nomul.formats.gguf_model.unpermuted", lambda rows, heads: np.arange(rows))
    ours, _ = load_model(file)
    with torch.no_grad():
        theirs, found = model(input_ids=TOKENS).logits, ours(TOKENS)
    assert (found - theirs).abs().max() > 1e-2 * theirs.abs().max()


TEXTS = [
    "ROMEO: And she's there; I'll go, you'd see 12345 of them!", "  two  spaces\n\n\tand tabs \n",
    "naïve café — 你好, Ωmega",
    "x=1;\r\nif (a<b) { return 0x7f; }", "don't DON'T we'Re 3.14159 and 2026-12-01", "", " ", "\n", "e\u0301 combined",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """(tokens, merges) of byte-level BPE, trained on these very tests."""
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    text = " ".join([*TEXTS, *map(str, range(200)), *["she said they'll go and see the others"] * 9])
    found.train_from_iterator([text], trainer)
    model = json.loads(found.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(merge) for merge in model["merges"]]


def keys_of(tokens, merges, pre, special=(), **more):
    """Metadata of byte-level BPE with control tokens behind the others."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, *special],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [1] * len(tokens) + [3] * len(special),
        **{f"tokenizer.{key}": value for key, value in more.items()},
    }


def files_of(path, keys):
    tensors = make.model(lambda weights: make.quantised(weights, "TQ2_0"))
    found = open_checkpoint(make.write(path, tensors, keys=keys)).files
    return {name: bytes(content.numpy()).decode() for name, content in found.items()}


def test_qwen2_splits_text_as_transformers_does(tmp_path, trained):
    tokens, merges = trained
    keys = keys_of(tokens, merges, "qwen2", ["<|im_start|>", "<|im_end|>"], **{"ggml.eos_token_id": len(tokens) + 1})
    found = tokenizers.Tokenizer.from_str(files_of(tmp_path / "a.gguf", keys)["tokenizer.json"])
    vocabulary = {token: place for place, token in enumerate(tokens)}
    theirs = transformers.Qwen2Tokenizer(vocabulary, [tuple(merge.split(" ")) for merge in merges])
    for text in TEXTS:
        ids = found.encode(text).ids
        assert ids == theirs(text)["input_ids"], text
        assert found.decode(ids) == theirs.decode(ids)
    ids = found.encode("<|im_start|>a<|im_end|>").ids
    assert (ids[0], ids[-1], len(ids)) == (len(tokens), len(tokens) + 1, 3)


def test_llama3_splits_text_as_transformers_does(tmp_path, trained):
    converter = pytest.importorskip("transformers.convert_slow_tokenizer").TikTokenConverter()
    tokens, merges = trained
    begin = len(tokens)
    keys = keys_of(tokens, merges, "llama-bpe", ["<|begin_of_text|>"], **{"ggml.bos_token_id": begin})
    found = tokenizers.Tokenizer.from_str(files_of(tmp_path / "a.gguf", keys)["tokenizer.json"])
    vocabulary = {token: place for place, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    converter.extract_vocab_merges_from_model = lambda _: (vocabulary, pairs)
    theirs = converter.converted()
    for text in TEXTS:
        assert found.encode(text).ids == [begin, *theirs.encode(text).ids], text
        assert found.encode(text, add_special_tokens=False).ids == theirs.encode(text).ids
    keys["tokenizer.ggml.add_bos_token"] = False
    found = tokenizers.Tokenizer.from_str(files_of(tmp_path / "b.gguf", keys)["tokenizer.json"])
    assert found.encode("a").ids == theirs.encode("a").ids


def pieces(text, tokens, scores):
    """SentencePiece's own way: join the neighbours that make the token of the highest score, the left ones first."""
    found = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        joined = [(-scores[tokens[a + b]], place) for place, (a, b) in enumerate(itertools.pairwise(found))
                  if a + b in tokens]  # fmt: skip
        if not joined:
            break
        place = min(joined)[1]
        found[place : place + 2] = ["".join(found[place : place + 2])]
    ids = [[tokens[piece]] if piece in tokens else [tokens[f"<0x{octet:02X}>"] for octet in piece.encode()]
           for piece in found]  # fmt: skip
    return [number for part in ids for number in part]


def test_sentencepiece_joins_by_score(tmp_path):
    letters, generator = "\u2581abcde", random.Random(5)
    made = dict.fromkeys(letters)
    while len(made) < 90:
        made[generator.choice(list(made)) + generator.choice(list(made))] = None
    made = [token for token in made if len(token) <= 8]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{octet:02X}>" for octet in range(256)), *made]
    order = list(range(len(made)))
    generator.shuffle(order)
    scores = [0.0] * 259 + [float(-rank) for rank in order]
    keys = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(made), "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }  # fmt: skip
    found = tokenizers.Tokenizer.from_str(files_of(tmp_path / "a.gguf", keys)["tokenizer.json"])
    places = {token: place for place, token in enumerate(tokens)}
    for _ in range(200):
        text = "".join(generator.choices("abcde  x\u00e9", k=generator.randint(1, 40)))
        ids = found.encode(text).ids
        assert ids == [1, *pieces(text, places, scores)], text
        assert found.decode(ids) == text


def test_special_tokens_and_the_chat_template(tmp_path, trained):
    tokens, merges = trained
    count = len(tokens)
    numbers = {"ggml.bos_token_id": count, "ggml.eos_token_id": count + 1, "ggml.eot_token_id": count + 2}
    keys = keys_of(tokens, merges, "qwen2", ["<b>", "<e>", "<t>"], chat_template="{{ messages }}é", **numbers)
    file = tmp_path / "a.gguf"
    found = files_of(file, keys)
    assert list(found) == ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]
    assert found["chat_template.jinja"] == "{{ messages }}é"
    assert json.loads(found["generation_config.json"]) == {
        "bos_token_id": count,
        "eos_token_id": [count + 1, count + 2],
    }
    said = json.loads(found["tokenizer_config.json"])
    assert (said["bos_token"], said["eos_token"], said["add_bos_token"]) == ("<b>", "<e>", False)
    assert open_any(file).config["eos_token_id"] == count + 1
    tokenizer = load_tokenizer(file)
    assert tokenizer.stops == {count + 1, count + 2} and tokenizer.encode("the").numel() > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'; Nomul reads 'gpt2' and 'llama'"),
        ({"tokenizer.ggml.pre": "viking"}, "tokenizer.ggml.pre is 'viking'; Nomul reads llama-bpe, llama3, "),
        ({"tokenizer.ggml.merges": None}, "the metadata has no tokenizer.ggml.merges, which 'gpt2' needs"),
        ({"tokenizer.ggml.model": "llama"}, "the metadata has no tokenizer.ggml.scores, which 'llama' needs"),
    ],
)
def test_a_tokenizer_that_is_not_read_is_left_out_and_said(tmp_path, capsys, trained, change, reason):
    keys = {key: value for key, value in {**keys_of(*trained, "qwen2"), **change}.items() if value is not None}
    file = make.write(tmp_path / "a.gguf", make.model(lambda weights: make.quantised(weights, "TQ2_0")), keys=keys)
    dense = tmp_path / "dense.safetensors"
    code, out, _ = run(capsys, "import", file, "-o", dense, "--json")
    assert code == 0 and any(
        note.startswith(f"the tokenizer is left out: {reason}") for note in json.loads(out)["notes"]
    )
    assert dict(open_checkpoint(dense).files) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer.ggml.merges": ["alone"]}, "tokenizer.ggml.merges has 'alone', which is no pair of tokens"),
        ({"tokenizer.ggml.merges": ["xyz q"]}, "the tokenizer in the metadata is broken: "),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type has 1 numbers for "),
        ({"tokenizer.ggml.bos_token_id": 9999}, "tokenizer.ggml.bos_token_id is 9999, but there are "),
    ],
)
def test_a_broken_tokenizer_is_one_sentence(tmp_path, trained, change, said):
    keys = {**keys_of(*trained, "qwen2"), **change}
    with pytest.raises(InputError) as caught:
        files_of(tmp_path / "a.gguf", keys)
    assert said in str(caught.value)


def test_the_tokenizer_goes_along(tmp_path, capsys, trained):
    keys = keys_of(*trained, "qwen2", ["<e>"], **{"ggml.eos_token_id": len(trained[0])})
    file = make.write(tmp_path / "a.gguf", make.model(lambda weights: make.quantised(weights, "TQ2_0")), keys=keys)
    dense = tmp_path / "dense.safetensors"
    assert run(capsys, "import", file, "-o", dense)[0] == 0
    one, other = open_container(file).kept, open_checkpoint(dense).files
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["Q4_0", "TQ2_0"])
def test_a_layer_is_multiplied_by_hardware(tmp_path, capsys, kind):
    weights = np.random.default_rng(1).normal(size=(256, 256))
    tensors = {"blk.0.attn_q.weight": make.quantised(weights, kind), "token_embd.weight": np.ones((8, 256), "f4")}
    file = make.write(tmp_path / "a.gguf", tensors)
    layer = "model.layers.0.self_attn.q_proj"
    code, out, _ = run(capsys, "check", "mixpe", "--checkpoint", file, "--layer", layer, "--tokens", 1, "--json")
    found = json.loads(out)
    assert (code, found["mismatches"], found["group"]) == (0, 0, 32 if kind == "Q4_0" else 256)
