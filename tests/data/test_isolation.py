"""Packed documents give the logits, the loss and the gradient that they give alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
)

from alloy.attention import NAME, attend_within_documents, keep_documents_apart
from alloy.data.collate import FlatCollator, PackedCollator, PaddedCollator, positions
from alloy.data.config import DataConfig, SourceConfig
from alloy.data.prepare import prepare
from alloy.state_space import groups_of_like_length

SHAPE: dict[str, Any] = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "attn_implementation": NAME,
}


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def qwen3() -> Any:
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE))


def mistral_with_a_window() -> Any:
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16))


def llama_with_lora() -> Any:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return model.base_model.model


MODELS = [llama, qwen3, mistral_with_a_window, llama_with_lora]


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    tokenizer = request.getfixturevalue("tiny_tokenizer")
    sources = [SourceConfig(environment=name, rows=count) for name, count in (("math", 6), ("chat", 6))]
    found = prepare(DataConfig(sources=sources), tokenizer, 300, 0).dataset
    picked = [row for row in found if len(row["seq_lengths"]) > 1]
    assert len(picked) > 1
    return picked


def alone(model: Any, rows: list[dict[str, Any]]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Each document's logits by itself, under plain attention, and the loss a token over all of them."""
    model.set_attn_implementation("eager")
    logits, losses, tokens = [], [], 0
    for row in rows:
        start = 0
        for length in row["seq_lengths"]:
            ids = torch.as_tensor(row["input_ids"][start : start + length])[None]
            labels = torch.as_tensor(row["labels"][start : start + length])[1:]
            found = model(input_ids=ids, use_cache=False).logits[0]
            kept = labels != -100
            losses.append(-found[:-1].log_softmax(-1)[kept, labels[kept]].sum())
            logits.append(found)
            tokens += int(kept.sum())
            start += length
    model.set_attn_implementation(NAME)
    return logits, torch.stack(losses).sum() / tokens


@pytest.mark.parametrize("make", MODELS)
def test_packed_is_alone(make: Callable[[], Any], rows: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = make().train()
    logits, loss = alone(model, rows)
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    packed = model(**FlatCollator()(rows), use_cache=False)
    torch.testing.assert_close(packed.logits[0], torch.cat(logits), atol=1e-5, rtol=1e-5)
    assert packed.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    packed.loss.backward()
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-5, rtol=1e-4)


def test_joined_documents_would_give_other_logits(rows: list[dict[str, Any]]) -> None:
    # The test above could not fail if documents never mattered to each other.
    torch.manual_seed(0)
    model = llama()
    joined = [{**row, "seq_lengths": [len(row["input_ids"])]} for row in rows]
    with torch.no_grad():
        logits = [model(**FlatCollator()(each), use_cache=False).logits for each in (rows, joined)]
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_padded_rows_of_one_document_are_alone_too(rows: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = llama()
    single = []
    for row in rows:
        end = row["seq_lengths"][0]
        single.append(
            {"input_ids": row["input_ids"][:end], "labels": row["labels"][:end], "seq_lengths": [end]}
        )
    assert len({len(row["input_ids"]) for row in single}) > 1, "the batch needs padding to show its effect"
    _, loss = alone(model, single)
    model.set_attn_implementation("sdpa")
    assert model(**PaddedCollator(0)(single)).loss.item() == pytest.approx(loss.item(), abs=1e-5)


def test_positions_restart_at_every_document_and_at_the_padding() -> None:
    assert positions([3, 2], 7).tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert positions([3, 2], 5).tolist() == [0, 1, 2, 0, 1]


def test_a_flat_batch_by_hand() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "seq_lengths": [1, 2]},
        {"input_ids": [8, 9], "labels": [-100, 9], "seq_lengths": [2]},
    ]
    batch = FlatCollator()(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9]]
    assert batch["position_ids"].tolist() == [[0, 0, 1, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 1, 3, 5]
    assert batch["seq_idx"].tolist() == [[0, 1, 1, 2, 2]]
    assert batch["seq_idx"].dtype == torch.int32
    assert (batch["max_length_q"], batch["cu_seq_lens_q"].dtype) == (2, torch.int32)


@pytest.mark.parametrize(("given", "rows"), [({"softcap": 30.0}, 1), ({"s_aux": torch.zeros(4)}, 1), ({}, 2)])
def test_attention_that_is_not_implemented_is_refused(given: dict[str, Any], rows: int) -> None:
    part = torch.zeros(rows, 4, 3, 8)
    with pytest.raises(ValueError, match="one row without a mask is needed"):
        attend_within_documents(torch.nn.Module(), part, part, part, None, **given)


# Models that carry a state over the border.


def hybrid() -> Any:
    """Mamba-2, attention and an MLP: the smallest of NVIDIA's hybrid shape."""
    config = NemotronHConfig(
        vocab_size=600,
        hidden_size=32,
        layers_block_type=["mamba", "attention", "mlp"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=16,
        n_groups=2,
        chunk_size=16,
        max_position_embeddings=512,
        attn_implementation=NAME,
    )
    return NemotronHForCausalLM(config)


MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 16,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
OTHER_HYBRIDS: list[Any] = [
    BambaConfig(**SHAPE | MAMBA, attn_layer_indices=[1], mamba_expand=2),
    FalconH1Config(**SHAPE | MAMBA, mamba_d_ssm=64),
    Qwen3NextConfig(
        **SHAPE | DELTA, layer_types=["linear_attention", "full_attention"], mlp_only_layers=[0, 1]
    ),
]
"""Their blocks name what they give to the layer that carries a state."""


def experts() -> Any:
    shape = SHAPE | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
    }
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape))


def softcapped() -> Any:
    """Gemma 2: a kind of attention that `documents` does not implement."""
    return Gemma2ForCausalLM(
        Gemma2Config(**SHAPE | {"attn_implementation": "eager", "query_pre_attn_scalar": 8})
    )


@pytest.mark.parametrize(
    ("make", "name", "collator"),
    [
        (llama, NAME, FlatCollator),
        (mistral_with_a_window, NAME, FlatCollator),
        (experts, NAME, FlatCollator),
        (softcapped, "eager", PackedCollator),
        (hybrid, NAME, FlatCollator),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_suits_a_model_is_found_by_trying(
    make: Callable[[], Any], name: str, collator: type, seed: int
) -> None:
    torch.manual_seed(seed)
    model = make().train()
    found = keep_documents_apart(model, 0)
    assert type(found) is collator
    assert model.config._attn_implementation == name
    assert model.training


def test_the_own_attention_of_a_model_keeps_documents_apart_too(rows: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = softcapped()
    collate = keep_documents_apart(model, 0)
    found = model(**collate(rows), use_cache=False)
    for index, row in enumerate(rows):
        start = 0
        for length in row["seq_lengths"]:
            ids = torch.as_tensor(row["input_ids"][start : start + length])[None]
            alone = model(input_ids=ids, use_cache=False).logits[0]
            torch.testing.assert_close(
                found.logits[index, start : start + length], alone, atol=1e-5, rtol=1e-5
            )
            start += length


@pytest.mark.parametrize("config", OTHER_HYBRIDS, ids=lambda config: config.model_type)
def test_documents_as_rows_whatever_way_a_layer_is_called(config: Any, rows: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    leaking = model(**FlatCollator()(rows), use_cache=False).logits[0]
    collate = keep_documents_apart(model, 0)
    assert type(collate) is FlatCollator
    found = model(**collate(rows), use_cache=False).logits[0]
    documents = [part for row in rows for part in torch.as_tensor(row["input_ids"]).split(row["seq_lengths"])]
    model.set_attn_implementation("eager")
    alone = torch.cat([model(input_ids=ids[None], use_cache=False).logits[0] for ids in documents])
    assert (leaking - alone).abs().max() > 1e-3 * alone.abs().max()
    torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_documents_of_like_length_go_together() -> None:
    assert groups_of_like_length([3, 16, 5, 9, 8, 1]) == [[1, 3], [4, 2], [0], [5]]
    assert groups_of_like_length([7, 7]) == [[0, 1]]
