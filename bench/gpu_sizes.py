"""What `bench.gpu` measures on: a model from a config with random weights, and how much of it, by device."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """A model and its work.

    Attributes:
        layers, hidden, heads, key_heads, head, mlp, vocabulary: of a Qwen3-shaped model.
        steps: updates, of which the first `warm` are not timed.
        sequence, sequences: tokens of a packed sequence; how many of them pass at once.
        pairs, prompt, answer: of DPO: pairs at once, tokens of a prompt and of each answer.
        prompts, group, completion: of GRPO: prompts of an update, completions of each, tokens of one.
        merge_layers: of the checkpoints that are merged (`bench.merge_checkpoints`).
    """

    layers: int
    hidden: int
    heads: int
    key_heads: int
    head: int
    mlp: int
    vocabulary: int
    steps: int
    warm: int
    sequence: int
    sequences: int
    pairs: int
    prompt: int
    answer: int
    prompts: int
    group: int
    completion: int
    merge_layers: int


ON_GPU = Sizes(
    layers=28, hidden=1024, heads=16, key_heads=8, head=128, mlp=3072, vocabulary=151_936,
    steps=20, warm=4, sequence=8192, sequences=2, pairs=8, prompt=512, answer=512,
    prompts=16, group=8, completion=256, merge_layers=19,
)  # fmt: skip
"""Qwen3-0.6B's shape."""
ON_CPU = Sizes(
    layers=2, hidden=32, heads=2, key_heads=1, head=16, mlp=64, vocabulary=700,
    steps=2, warm=1, sequence=128, sequences=2, pairs=2, prompt=16, answer=16,
    prompts=2, group=4, completion=8, merge_layers=1,
)  # fmt: skip
"""Only to see that everything runs."""

PEAKS = {
    "GH200": 989e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H20": 148e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
}
"""bfloat16 operations a second, dense, by NVIDIA's data sheets; where a sheet has the sparse figure alone, its half."""


def peak_of(name: str) -> float | None:
    """Of a device by what CUDA calls it (`NVIDIA H100 80GB HBM3`); None where no sheet is known here."""
    found = [known for known in PEAKS if re.search(rf"\b{known}\b", name)]
    return PEAKS[max(found, key=len)] if found else None


def make_model(folder: Path, sizes: Sizes) -> Path:
    """A model folder of random float32 weights whose tokenizer knows every token of the vocabulary."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from alloy.build_base import train_tokenizer
    from alloy.policy import save_policy

    tokenizer = filled(train_tokenizer([f"{n} and {n * n}" for n in range(500)], 400), sizes.vocabulary)
    torch.manual_seed(0)
    config = Qwen3Config(
        num_hidden_layers=sizes.layers, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_heads, head_dim=sizes.head, intermediate_size=sizes.mlp,
        vocab_size=sizes.vocabulary, max_position_embeddings=32_768, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_policy(Qwen3ForCausalLM(config), tokenizer, folder)
    return folder


def filled(tokenizer: Any, vocabulary: int) -> Any:
    """The tokenizer with words that no text has, up to so many tokens: what a random model samples has a text."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    told = json.loads(tokenizer.backend_tokenizer.to_str())
    known = told["model"]["vocab"]
    # Tokens that were added to a vocabulary come behind it.
    added = len(tokenizer) - len(known)
    # No merge leads to these.
    known |= {f"\u0120w{number}": number for number in range(len(known), vocabulary - added)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        chat_template=tokenizer.chat_template,
        padding_side="left",
    )
