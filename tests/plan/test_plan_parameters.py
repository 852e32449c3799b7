"""Parameter counts against transformers' own, exactly; built on no device, so that size costs nothing."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    MistralConfig,
    NemotronHConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from alloy.config import LoraConfig
from alloy.errors import InputError
from alloy.plan.architectures import shape_of
from alloy.scorer import scorer_class

NANO_9B = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"

CONFIGS = {
    "llama, every bias": LlamaConfig(
        vocab_size=100, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=112, attention_bias=True, mlp_bias=True,
    ),
    "llama of 8B": LlamaConfig(
        vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, intermediate_size=14336,
    ),
    "mistral": MistralConfig(hidden_size=96, num_hidden_layers=2, intermediate_size=128),
    "qwen2, tied": Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "qwen3 of 8B": Qwen3Config(
        hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8,
    ),
    "qwen3 of experts, 30B": Qwen3MoeConfig(
        hidden_size=2048, num_hidden_layers=48, head_dim=128, num_attention_heads=32, num_key_value_heads=4,
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
    ),
    "qwen3 of experts in some layers": Qwen3MoeConfig(
        hidden_size=64, num_hidden_layers=5, head_dim=32, num_attention_heads=4, num_key_value_heads=2,
        num_experts=6, moe_intermediate_size=24, decoder_sparse_step=2, mlp_only_layers=[3],
        intermediate_size=80, vocab_size=99,
    ),
    "nemotron nano 9B v2": NemotronHConfig(
        hidden_size=4480, hybrid_override_pattern=NANO_9B, mamba_num_heads=128, mamba_head_dim=80,
        intermediate_size=15680, num_attention_heads=40, num_key_value_heads=8, vocab_size=131072,
    ),
    "nemotron with experts, latents and biases": NemotronHConfig(
        hidden_size=64, hybrid_override_pattern="ME*-M", mamba_num_heads=6, mamba_head_dim=16, n_groups=2,
        ssm_state_size=8, intermediate_size=100, num_attention_heads=4, num_key_value_heads=2, head_dim=24,
        vocab_size=131, moe_latent_size=16, n_routed_experts=8, mlp_bias=True, use_bias=True,
        use_conv_bias=False, moe_shared_expert_intermediate_size=52, moe_intermediate_size=20,
        tie_word_embeddings=True,
    ),
}  # fmt: skip


def counted(config: Any, auto: Any = AutoModelForCausalLM) -> int:
    with torch.device("meta"):
        model = auto.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_exact(name: str) -> None:
    config = CONFIGS[name]
    shape = shape_of(config.to_dict(), "config.json")
    assert shape.parameters == counted(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_reward_model_of_it_is_exact(name: str) -> None:
    config = type(CONFIGS[name])(**{**CONFIGS[name].to_dict(), "num_labels": 1})
    shape = shape_of(CONFIGS[name].to_dict(), "config.json").as_scorer()
    scorer = scorer_class(type(config), name)
    with torch.device("meta"):
        # A class of our own has no Auto class before it.
        model = scorer.from_config(config) if hasattr(scorer, "from_config") else scorer(config)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_an_encoder_is_exact() -> None:
    config = BertConfig(num_labels=1, num_hidden_layers=3, hidden_size=96, intermediate_size=200)
    assert shape_of(config.to_dict(), "x").parameters == counted(config, AutoModelForSequenceClassification)


def test_a_config_as_it_is_saved_says_the_same(tmp_path: Any) -> None:
    """What transformers writes leaves out values that are its defaults."""
    import json

    for config in CONFIGS.values():
        config.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())
        assert shape_of(saved, "x").parameters == shape_of(config.to_dict(), "x").parameters


def test_what_a_token_passes_through() -> None:
    experts = shape_of(CONFIGS["qwen3 of experts, 30B"].to_dict(), "x")
    # Of 128 experts 8 are chosen: 120 x 3 x 2048 x 768 numbers of each layer are not touched.
    assert experts.parameters - experts.active == 48 * 120 * 3 * 2048 * 768
    assert round(experts.active / 1e9, 2) == 3.35  # "A3B"
    nano = shape_of(CONFIGS["nemotron nano 9B v2"].to_dict(), "x")
    assert nano.active == nano.parameters
    assert round(nano.parameters / 1e9, 2) == 8.89


def test_hand_count_of_a_tiny_llama() -> None:
    config = {
        "model_type": "llama", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 6, "tie_word_embeddings": True,
    }  # fmt: skip
    shape = shape_of(config, "x")
    attention = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 4  # q, k and v, o, norm
    mlp = 3 * 4 * 6 + 4
    assert shape.parameters == 10 * 4 + 2 * (attention + mlp) + 4
    assert shape_of(config | {"tie_word_embeddings": False}, "x").parameters == shape.parameters + 40
    # A score instead of the head: four weights more.
    assert shape.as_scorer().parameters == shape.parameters + 4
    # Rank 3 on every linear module, q to down.
    ranks = 3 * (8 + 6 + 6 + 8 + 10 + 10 + 10)
    assert shape.adapter_parameters(LoraConfig(rank=3)) == 2 * ranks
    some = LoraConfig(rank=3, target_modules=["q_proj", "o_proj"])
    assert shape.adapter_parameters(some) == 2 * 3 * 16


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(InputError, match="m/config.json: model_type = 'gpt_neox' is no architecture"):
        shape_of({"model_type": "gpt_neox"}, "m/config.json")
    with pytest.raises(InputError, match="intermediate_size is missing, which a llama has"):
        shape_of({"model_type": "llama", "hidden_size": 4, "num_attention_heads": 2}, "x")
