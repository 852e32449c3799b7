"""Checkpoints of random weights, written a few megabytes at a time: a Llama of any number of layers."""

import json
import os
import struct
from pathlib import Path

import numpy as np

HIDDEN, MLP, HEADS, KV_HEADS, VOCABULARY = 2048, 8192, 32, 8, 30_000
LAYERS = 19
"""1.28 billion weights, 2.4 GiB in bfloat16."""
_AT_ONCE = 1 << 22


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes as transformers writes them."""
    narrow = HIDDEN // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for number in range(layers):
        layer = f"model.layers.{number}"
        found |= {
            f"{layer}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": (narrow, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": (narrow, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.mlp.gate_proj.weight": (MLP, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (MLP, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, MLP),
            f"{layer}.input_layernorm.weight": (HIDDEN,),
            f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
        }
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def size_of(layers: int) -> int:
    """Bytes of the weights in bfloat16."""
    return 2 * sum(int(np.prod(shape)) for shape in shapes(layers).values())


def layers_of(gib: float) -> int:
    """How many layers come nearest to so many GiB; one at least."""
    one = size_of(1) - size_of(0)
    return max(1, round((gib * 2**30 - size_of(0)) / one))


def write_checkpoint(folder: Path, layers: int, seed: int) -> Path:
    """Normal weights of width 0.02 in one safetensors file, and the config.json of a Llama; synced."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)
    header, at = {}, 0
    for name, shape in shapes(layers).items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, at // 2, _AT_ONCE):
            weights = rng.standard_normal(min(_AT_ONCE, at // 2 - start), dtype=np.float32) * np.float32(0.02)
            # The upper half of a float32, rounded up at its half.
            stream.write(((weights.view(np.uint32) + 0x8000) >> 16).astype(np.uint16).tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    return folder
