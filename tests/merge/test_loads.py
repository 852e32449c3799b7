"""Merges are loaded by what uses them: transformers and vLLM."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import load
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    NemotronHConfig,
    NemotronHForCausalLM,
)

from alloy.errors import InputError
from merge.checkpoint import open_checkpoint
from merge.interpolate import interpolate
from merge.linear import LinearMixture, merge_checkpoints
from merge.live import LiveModel
from merge.mixture import MAX_SHARD_BYTES
from merge.sweep import check

VLLM = importlib.util.find_spec("vllm") is not None
TOKENS = torch.tensor([[1, 2, 3, 5, 8, 13]])
LLAMA: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "dtype": "bfloat16",
}
HYBRID: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"],
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "mamba_num_heads": 2,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 8,
    "n_routed_experts": 3,
    "moe_intermediate_size": 8,
    "moe_shared_expert_intermediate_size": 8,
    "dtype": "bfloat16",
}


def parents(root: Path, make: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Two checkpoints of random weights, and the tensors of their files."""
    for seed, role in enumerate(("reasoning", "chat")):
        torch.manual_seed(seed)
        make().bfloat16().save_pretrained(root / role)
    return {role: load(root / role) for role in ("reasoning", "chat")}


def loaded(folder: Path, auto: Any = AutoModelForCausalLM) -> Any:
    model, told = auto.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    return model.eval()


def test_the_result_loads_in_transformers(tmp_path: Path) -> None:
    files = parents(tmp_path, lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)))
    merge_checkpoints(tmp_path / "reasoning", tmp_path / "chat", 0.4, tmp_path / "out", max_shard_bytes=4000)
    merged = loaded(tmp_path / "out")
    for name, weight in merged.state_dict().items():
        assert torch.equal(weight, interpolate(files["reasoning"][name], files["chat"][name], 0.4))
    assert merged(TOKENS).logits.isfinite().all()


def test_a_hybrid_with_experts_merges_by_groups_and_is_evaluated_as_loaded(tmp_path: Path) -> None:
    files = parents(tmp_path, lambda: NemotronHForCausalLM(NemotronHConfig(**HYBRID)))
    alpha = {"attention": 0.25, "mlp": 0.5, "embeddings": 0.75, "other": 1.0}
    mixture = LinearMixture(*(open_checkpoint(tmp_path / role, role) for role in ("reasoning", "chat")))
    report = mixture.write(alpha, tmp_path / "out")
    written = load(tmp_path / "out")
    assert written.keys() == files["chat"].keys()
    alphas = mixture.blend_at(alpha).alphas
    for name, weight in written.items():
        assert torch.equal(weight, interpolate(files["reasoning"][name], files["chat"][name], alphas[name]))
    # Every layer's body is a mixer: Mamba-2 and attention, an MLP, experts with their router.
    by_layer = [
        {a for n, a in alphas.items() if f"layers.{k}.mixer" in n and "norm" not in n} for k in range(4)
    ]
    assert by_layer == [{0.25}, {0.5}, {0.25}, {0.5}]
    merged = loaded(tmp_path / "out")
    assert merged(TOKENS).logits.isfinite().all()
    live, hashes = LiveModel(mixture.plan, MAX_SHARD_BYTES).set(mixture.blend_at(alpha))
    assert hashes == report.shards
    state = live.state_dict()
    for name, weight in merged.state_dict().items():
        assert torch.equal(state[name], weight.float())


def test_reward_models_merge_and_are_not_swept(tmp_path: Path) -> None:
    config = LlamaConfig(**LLAMA, num_labels=1, pad_token_id=0)
    files = parents(tmp_path, lambda: LlamaForSequenceClassification(config))
    merge_checkpoints(tmp_path / "reasoning", tmp_path / "chat", 0.4, tmp_path / "out")
    merged = loaded(tmp_path / "out", AutoModelForSequenceClassification)
    head = interpolate(files["reasoning"]["score.weight"], files["chat"]["score.weight"], 0.4)
    assert torch.equal(merged.score.weight, head)
    assert merged(TOKENS).logits.shape == (1, 1)
    mixture = LinearMixture(*(open_checkpoint(tmp_path / role, role) for role in ("reasoning", "chat")))
    with pytest.raises(InputError) as caught:
        check(mixture, [0.5], ())
    assert str(caught.value) == (
        f"{tmp_path / 'reasoning'} is a LlamaForSequenceClassification, and suites ask language models. "
        "Give alpha instead of a sweep."
    )


@pytest.mark.skipif(not VLLM and os.environ.get("ALLOY_REQUIRE_ALL") != "1", reason="vllm is not installed")
def test_the_result_answers_in_vllm_as_in_transformers(tiny_tokenizer: Any, tmp_path: Path) -> None:
    assert VLLM, "vllm is not installed: make setup installs it"
    from vllm import SamplingParams

    from alloy.rollout.vllm_process import no_compiling, running_llm

    # Large enough weights that no two next tokens are nearly as likely; heads of a size that vLLM has.
    shape = {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "vocab_size": len(tiny_tokenizer)}
    config = LlamaConfig(**shape, initializer_range=0.4, max_position_embeddings=64)
    parents(tmp_path, lambda: LlamaForCausalLM(config))
    for role in ("reasoning", "chat"):
        tiny_tokenizer.save_pretrained(tmp_path / role)
    merge_checkpoints(
        tmp_path / "reasoning", tmp_path / "chat", 0.4, tmp_path / "out", max_shard_bytes=40_000
    )
    merged, expected = loaded(tmp_path / "out").float(), TOKENS
    for _ in range(16):
        expected = torch.cat([expected, merged(expected).logits[:, -1:].argmax(-1)], dim=1)
    greedy = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True, detokenize=False)
    size: dict[str, Any] = {"max_model_tokens": 64, "max_sequences": 2, "memory_share": 0.2}
    with running_llm(tmp_path / "out", dtype="float32", **size) as llm, no_compiling():
        (answer,) = llm.generate([{"prompt_token_ids": TOKENS[0].tolist()}], greedy, use_tqdm=False)
    assert list(answer.outputs[0].token_ids) == expected[0, TOKENS.shape[1] :].tolist()
    assert len(set(answer.outputs[0].token_ids)) > 3
