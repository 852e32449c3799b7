"""A nemotron_h with a layer of every kind: Mamba-2, attention, an MLP, experts."""

import json
from typing import Any

ARCHITECTURE: dict[str, Any] = {
    "model_type": "nemotron_h",
    "hidden_size": 32,
    "layers_block_type": ["linear_attention", "full_attention", "mlp", "linear_attention", "moe"],
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "ssm_state_size": 8,
    "n_groups": 2,
    "chunk_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 24,
    "max_position_embeddings": 1024,
    "initializer_range": 0.06,
}

CHANGES = (
    "base.shape=null",
    f"base.architecture={json.dumps(ARCHITECTURE)}",
    "sft-2.lora.rank=4",
    # A token takes the reference path in PyTorch much longer than it takes a Llama.
    *(
        f"evaluate.suites.{suite}.max_completion_tokens=8"
        for suite in ("math", "instructions", "tools", "chat")
    ),
    "evaluate.suites.budget.max_completion_tokens=12",
    "merge.sweep.suites.math.max_completion_tokens=8",
    "merge.sweep.suites.chat.max_completion_tokens=8",
    "grpo.rollout.max_completion_tokens=24",
)
"""What makes a recipe of micro for this model, with an adapter in sft-2."""
