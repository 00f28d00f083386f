"""GGUF files written by llama.cpp's own library, with blocks that it quantises, or packed here where it cannot."""

import gguf
import numpy as np

Q1_0, Q2_0, I2_S = 41, 42, 36
SIZES = {"embedding_length": 256, "feed_forward_length": 512, "block_count": 2, "context_length": 64}
HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}
FLOATS = {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0}
VOCABULARY = 96


def halves(values):
    """fp16 numbers as bytes, a row of two each."""
    return np.asarray(values, "<f2").reshape(-1, 1).view(np.uint8)


def scales_of(generator, blocks, negative=False):
    scales = generator.uniform(0.01, 1, blocks).astype(np.float16)
    return scales * generator.choice([-1, 1], blocks) if negative else scales


def sign_blocks(weights, scales):
    """Q1_0: -1 and +1 in blocks of 128."""
    bits = np.packbits(weights.reshape(-1, 128) > 0, axis=-1, bitorder="little")
    return np.hstack([halves(scales), bits])


def two_bit_blocks(codes, scales, block=64):
    """Q2_0: codes 0 to 3, four in a byte from the low bits up."""
    codes = codes.reshape(-1, block // 4, 4).astype(np.uint8)
    return np.hstack([halves(scales), codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6])


def nibble_blocks(codes, scales):
    """Q4_0: codes 0 to 15, the first half of a block of 32 in the low nibbles."""
    codes = codes.reshape(-1, 2, 16).astype(np.uint8)
    return np.hstack([halves(scales), codes[:, 0] | codes[:, 1] << 4])


def i2_s(codes, scale):
    """The tensor of bitnet.cpp on x86: codes 0 to 2, 128 in 32 bytes, and the scale."""
    runs = codes.reshape(-1, 4, 32).astype(np.uint8)
    packed = runs[:, 0] << 6 | runs[:, 1] << 4 | runs[:, 2] << 2 | runs[:, 3]
    tail = np.zeros(32, np.uint8)
    tail[:4] = np.array([scale], "<f4").view(np.uint8)
    return np.concatenate([packed.ravel(), tail])


def stored(tensor):
    """(bytes, type, shape) of a tensor: floats as they are, or what was given."""
    if isinstance(tensor, tuple):
        return tensor
    kinds = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
    return np.ascontiguousarray(tensor).view(np.uint8), kinds[tensor.dtype], tensor.shape


def quantised(weights, kind):
    """(bytes, type, shape) by the library's own quantiser."""
    found = gguf.GGMLQuantizationType[kind]
    return gguf.quants.quantize(weights.astype(np.float32), found), found.value, weights.shape


def write(path, tensors, architecture="qwen3", **metadata):
    """Write tensors, by llama.cpp's names, and metadata; keys without a dot belong to the architecture."""
    writer = gguf.GGUFWriter(str(path), architecture)
    settings = {"vocab_size": VOCABULARY, **SIZES, **HEADS, **FLOATS, **metadata.pop("settings", {})}
    named = {f"{architecture}.{key}": value for key, value in settings.items() if value is not None}
    for key, value in {**named, **metadata.pop("keys", {})}.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    assert not metadata
    for name, tensor in tensors.items():
        data, kind, shape = stored(tensor)
        # Bytes of another type than uint8, so that the writer takes the shape as it is, and any type.
        writer.add_tensor(name, data.view(np.int8), raw_shape=shape, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


SHAPES = {
    "attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256), "attn_output": (256, 256), "ffn_gate": (512, 256),
    "ffn_up": (512, 256), "ffn_down": (256, 512),
}  # fmt: skip


def model(make, architecture="qwen3", seed=0):
    """Return the tensors of a whole tiny model; `make` quantises the float weights of a projection."""
    generator = np.random.default_rng(seed)

    def floats(*shape):
        return generator.normal(size=shape).astype(np.float32)

    tensors = {"token_embd.weight": floats(VOCABULARY, 256), "output_norm.weight": floats(256)}
    for layer in range(SIZES["block_count"]):
        for name, shape in SHAPES.items():
            tensors[f"blk.{layer}.{name}.weight"] = make(floats(*shape))
        norms = {"attn_norm": 256, "ffn_norm": 256}
        if architecture == "qwen3":
            norms |= {"attn_q_norm": 64, "attn_k_norm": 64}
        if architecture.startswith("bitnet"):
            norms |= {"attn_sub_norm": 256, "ffn_sub_norm": 512}
        tensors |= {f"blk.{layer}.{name}.weight": floats(size) for name, size in norms.items()}
    return tensors


def ternary(weights):
    """Nearest trits, as TQ2_0 needs them to be exact."""
    return np.sign(np.round(weights)).astype(np.float32)
