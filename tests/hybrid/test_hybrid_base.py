"""A base model of any architecture, from its sizes."""

from typing import Any

import pytest
import torch
from hybrid_shape import ARCHITECTURE
from pydantic import ValidationError

from alloy.base import BaseConfig
from alloy.build_base import random_architecture
from alloy.errors import InputError
from alloy.plan.source import base_shape

CORPUS: list[dict[str, Any]] = [{"environment": "math", "rows": 10}]


def test_it_has_every_kind_of_layer_and_the_tokenizer_s_vocabulary(tiny_tokenizer: Any) -> None:
    model = random_architecture(ARCHITECTURE, tiny_tokenizer)
    kinds = [type(layer.mixer).__name__ for layer in model.model.layers]
    mamba = "NemotronHMamba2Mixer"
    assert kinds == [mamba, "NemotronHAttention", "NemotronHMLP", mamba, "NemotronHMoE"]
    assert model.lm_head.weight.shape == (len(tiny_tokenizer), 32)
    assert model.config.eos_token_id == tiny_tokenizer.eos_token_id
    assert model.config.pad_token_id == tiny_tokenizer.pad_token_id
    planned = base_shape(
        BaseConfig.model_validate(
            {"source": "scratch", "architecture": ARCHITECTURE, "corpus": CORPUS, "vocabulary": len(tiny_tokenizer)}
        )
    )  # fmt: skip
    assert planned.parameters == sum(parameter.numel() for parameter in model.parameters())
    # Mamba-2's decays are begun as they are made: 1, 2, ... a head.
    assert torch.equal(model.model.layers[0].mixer.A_log, torch.arange(1, 5).log())


def test_other_architectures_too(tiny_tokenizer: Any) -> None:
    given = {"model_type": "qwen3_moe", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 1, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 8}  # fmt: skip
    model = random_architecture(given, tiny_tokenizer)
    assert model.model.layers[0].mlp.experts.gate_up_proj.shape == (4, 16, 16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "nemotronh"}, "no language model 'nemotronh'. Did you mean 'nemotron_h'?"),
        ({"model_type": "whisper_encoder"}, "no language model 'whisper_encoder'"),
        ({"hidden_sizes": 3}, "NemotronHConfig takes no 'hidden_sizes'. Did you mean 'hidden_size'?"),
        ({"vocab_size": 3}, "vocab_size follows from the tokenizer. Take it out."),
        ({"hidden_size": "wide"}, "no nemotron_h can be made of this .*expected int"),
        ({"layers_block_type": ["mambo"]}, "no nemotron_h can be made of this .*invalid types"),
    ],
)
def test_what_transformers_does_not_know_is_told(
    tiny_tokenizer: Any, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        random_architecture(ARCHITECTURE | change, tiny_tokenizer)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"architecture": {"hidden_size": 3}}, "needs `model_type`, e.g. nemotron_h"),
        ({"architecture": ARCHITECTURE, "shape": {}}, "set one of them to null"),
        ({}, "needs `shape` \\(or `architecture`\\) and `corpus`"),
    ],
)
def test_one_of_two_ways_to_say_it(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BaseConfig.model_validate({"source": "scratch", "corpus": CORPUS, **given})
