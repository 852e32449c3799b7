"""Stopped and gone on with, a model whose files name its weights otherwise ends at the weights of one that never was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hybrid_shape import ARCHITECTURE

from alloy.artifact import read_artifact
from alloy.build_base import random_architecture
from alloy.checkpoints import checkpoints, weight_names
from alloy.policy import load_model, save_policy
from alloy.training import RunCallback
from sft import run
from sft.config import SftConfig

EXPERTS = {
    "model_type": "qwen3_moe", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 8, "initializer_range": 0.2,
}  # fmt: skip
LORA = {"rank": 2}


class KilledError(BaseException):
    """As a kill: nothing in between may catch it."""


def config(parent: Path, output: Path, lora: dict[str, Any] | None) -> SftConfig:
    return SftConfig.model_validate(
        {
            "model": str(parent),
            "output": str(output),
            "data": {"sources": [{"environment": "math", "rows": 40}], "packing": "best-fit"},
            "optim": {"learning_rate": 1e-2},
            "train": {
                "max_steps": 4,
                "save_steps": 2,
                "per_device_batch_size": 2,
                "max_sequence_tokens": 160,
            },
            "logging": {"every_steps": 1, "tensorboard": False},
            "lora": lora,
        }
    )


@pytest.mark.parametrize(
    ("architecture", "lora"), [(ARCHITECTURE, None), (ARCHITECTURE, LORA), (EXPERTS, None)]
)
def test_a_run_that_was_killed_ends_at_the_same_weights(
    tiny_tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: dict[str, Any],
    lora: dict[str, Any] | None,
) -> None:
    torch.manual_seed(0)
    model = random_architecture(architecture, tiny_tokenizer)
    save_policy(model, tiny_tokenizer, tmp_path / "base")
    run(config(tmp_path / "base", tmp_path / "whole", lora))
    own = RunCallback.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        own(self, args, state, control, **more)
        if state.global_step == 3:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_end", killed)
        with pytest.raises(KilledError):
            run(config(tmp_path / "base", tmp_path / "killed", lora))
    (checkpoint,) = checkpoints(tmp_path / "killed" / "checkpoints")
    assert checkpoint.name == "checkpoint-2"
    if lora is None:
        # What transformers' trainer would pass over without a word.
        written = weight_names(checkpoint)
        assert written is not None
        assert not written <= model.state_dict().keys()
    run(config(tmp_path / "base", tmp_path / "killed", lora))
    base, whole, resumed = (
        load_model(folder).state_dict()
        for folder in (tmp_path / "base", tmp_path / "whole" / "model", tmp_path / "killed" / "model")
    )
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name
    assert any(not torch.equal(weight, base[name]) for name, weight in whole.items())
    first, second = (read_artifact(tmp_path / which) for which in ("whole", "killed"))
    assert first.fingerprints["weights"] == second.fingerprints["weights"]
