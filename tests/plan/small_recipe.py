"""A recipe of one stage on a small Llama whose config alone is there."""

import json
from pathlib import Path
from typing import Any

LLAMA = {
    "model_type": "llama", "vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 1024, "tie_word_embeddings": True,
}  # fmt: skip
SFT = """\
model: {model}
data: {{sources: [{{environment: math, rows: 10}}]}}
optim: {{learning_rate: 1e-4}}
train: {{max_steps: 3, per_device_batch_size: 12, max_sequence_tokens: 512%s}}
"""
"""`% ""`, or what else `train` is given."""


def write_recipe(folder: Path, package: str, text: str, config: dict[str, Any] = LLAMA) -> Path:
    """The recipe's folder, with the one stage `a`; `text` names its model as {model}."""
    model, recipe = folder / "model", folder / "recipe"
    for made in (model, recipe):
        made.mkdir()
    (model / "config.json").write_text(json.dumps(config))
    (recipe / "pipeline.yaml").write_text(f"stages: {{a: {{package: {package}}}}}\n")
    (recipe / "a.yaml").write_text(text.format(model=model))
    return recipe
