"""A hybrid on a GPU without Mamba's kernels: told, planned by the reference, refused where that cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gpu_config import CPU, GPU, sft

from alloy.device import settle
from alloy.errors import InputError
from sft.plan import work

HYBRID = {
    "model_type": "nemotron_h", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
    "hybrid_override_pattern": "M*-", "num_attention_heads": 2, "head_dim": 16, "mamba_num_heads": 8,
    "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 16, "chunk_size": 32,
}  # fmt: skip
WRITTEN = 8 * 32 * 8 * 16
"""Bytes a token: products and their sum's operand in float32, for a chunk's tokens, heads, numbers of a state."""


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(HYBRID))
    return tmp_path


def test_it_is_told_with_the_memory_and_the_way_to_get_them(
    hybrid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = sft(hybrid, per_device_batch_size=16)
    settle(config, work, GPU)
    told = capsys.readouterr().out
    assert WRITTEN * 16 * 64 == 32 << 20
    assert "mamba_ssm and causal_conv1d are not both installed" in told
    assert "up to 32.0 MiB of memory. pip install --no-build-isolation mamba-ssm causal-conv1d" in told
    for device in (replace(GPU, mamba=True), CPU):
        settle(config, work, device)
        assert "mamba_ssm" not in capsys.readouterr().out


def test_checkpointing_is_decided_by_what_the_reference_takes(hybrid: Path) -> None:
    config, device = sft(hybrid, per_device_batch_size=16), replace(GPU, memory=78 << 20)
    assert settle(config, work, device).train.gradient_checkpointing is True
    assert settle(config, work, replace(device, mamba=True)).train.gradient_checkpointing is False


def test_long_packs_are_refused(hybrid: Path) -> None:
    config = sft(hybrid, per_device_batch_size=16)
    settle(config, work, replace(GPU, memory=32 << 20))
    with pytest.raises(
        InputError, match=r"writes out 32\.0 MiB for a batch of 1,024 tokens, .* 512 would take"
    ):
        settle(config, work, replace(GPU, memory=16 << 20))
    settle(config, work, replace(GPU, memory=16 << 20, mamba=True))
