"""Bytes that layers keep, against those that autograd keeps: a layer more is a layer's bytes more."""

from typing import Any

import pytest
from kept import kept_bytes
from transformers import BertConfig, LlamaConfig, NemotronHConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from alloy.plan.architectures import shape_of
from alloy.plan.numerics import AUTOCAST, FLOAT32

TOKENS = 61
"""No width of these models: a copy of a weight is told from an activation by its shape."""


def layers(kind: str, count: int) -> Any:
    common = {
        "vocab_size": 100, "hidden_size": 48, "num_hidden_layers": count, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 112, "max_position_embeddings": 512,
    }  # fmt: skip
    if kind == "qwen3_moe":
        return Qwen3MoeConfig(
            **common, head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=40
        )
    if kind == "bert":
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertConfig(**{k: v for k, v in common.items() if k != "num_key_value_heads"}, **dropout)
    if kind == "qwen3":
        return Qwen3Config(**common, head_dim=16)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](**common)


def difference(more: Any, less: Any, attention: str, bfloat16: bool) -> tuple[float, float]:
    """Bytes a token of what the first config has more than the second: planned, and kept."""
    numerics = AUTOCAST if bfloat16 else FLOAT32

    def planned(config: Any) -> float:
        shape = shape_of(config.to_dict(), "x")
        return sum(layer.kept(numerics, attention, TOKENS) for layer in shape.layers)  # type: ignore[arg-type]

    kept = [kept_bytes(c, TOKENS, attention=attention, bfloat16=bfloat16) for c in (more, less)]
    return planned(more) - planned(less), kept[0] - kept[1]


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("attention", ["documents", "flash", "sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_decoder_layer_to_the_byte(kind: str, attention: str, bfloat16: bool) -> None:
    planned, kept = difference(layers(kind, 3), layers(kind, 2), attention, bfloat16)
    assert planned == pytest.approx(kept, abs=1e-6)


def test_the_number_by_hand() -> None:
    """A llama layer in float32 over documents, hidden 48, four heads of 12, 112 within."""
    norm = 4 * 48 * 3 + 4  # what came in, what it was divided to, what goes on; one number more
    attention = 4 * (48 * 3 + 48 + 48) + 4 * 4  # q, k, v; the documents' results, and side by side; sums
    mlp = 4 * 112 * 4  # gate, its activation, up, their product
    shape = shape_of(layers("llama", 1).to_dict(), "x")
    found = sum(layer.kept(FLOAT32, "documents", TOKENS) for layer in shape.layers)
    assert found == norm + attention + norm + mlp == 3928


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("kind", ["qwen3_moe", "bert"])
def test_experts_and_encoders_nearly(kind: str, bfloat16: bool) -> None:
    attention = "sdpa" if kind == "bert" else "documents"
    planned, kept = difference(layers(kind, 3), layers(kind, 2), attention, bfloat16)
    assert planned == pytest.approx(kept, rel=0.03)


def hybrid(kinds: str) -> NemotronHConfig:
    return NemotronHConfig(
        vocab_size=100, hidden_size=48, hybrid_override_pattern=kinds, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, intermediate_size=112, ssm_state_size=8, mamba_num_heads=6,
        mamba_head_dim=16, n_groups=2, chunk_size=16, n_routed_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=40, moe_shared_expert_intermediate_size=56, max_position_embeddings=512,
    )  # fmt: skip


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("kind", ["*", "-", "E", "M"])
def test_hybrid_blocks(kind: str, bfloat16: bool) -> None:
    from dataclasses import replace

    from alloy.plan.mamba import Mamba

    more, less = hybrid("-" + kind), hybrid("-")
    (layer,) = shape_of(more.to_dict(), "x").blocks[1]
    if isinstance(layer, Mamba):
        layer = replace(layer, fused=False)  # no kernels on this machine: the reference runs
    planned = layer.kept(AUTOCAST if bfloat16 else FLOAT32, "flash", TOKENS)
    kept = kept_bytes(more, TOKENS, attention="flash", bfloat16=bfloat16)
    kept -= kept_bytes(less, TOKENS, attention="flash", bfloat16=bfloat16)
    exact = kind in "*-"
    assert planned == pytest.approx(kept, rel=1e-9 if exact else 0.06)
