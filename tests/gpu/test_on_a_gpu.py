"""What only a GPU can show: its kernels give what transformers' and PyTorch's own layers give."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_config import sft

from alloy.attention import varlen_works
from alloy.device import here
from alloy.kernels import LAYERS_ALONE, PACKAGE, classes_left_alone
from sft import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_attention_s_kernels_run() -> None:
    assert varlen_works("cuda:0")


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason=f"{PACKAGE} is not installed")
def test_fused_layers_give_what_transformers_layers_give(tiny_model: Any) -> None:
    from transformers.integrations.liger import apply_liger_kernel

    model = tiny_model.cuda()
    ids = torch.arange(20, 84, device="cuda").view(2, 32)

    def there_and_back() -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        return loss.item(), model.model.layers[0].mlp.gate_proj.weight.grad.clone()

    plain = there_and_back()
    with classes_left_alone(model):
        apply_liger_kernel(model, LAYERS_ALONE)
        fused = there_and_back()
    assert fused[0] == pytest.approx(plain[0], rel=1e-4)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-3, atol=1e-6)
    # A model to come is transformers' own, on a CPU too.
    type(model)(model.config)(ids.cpu(), use_cache=False)


def test_a_stage_takes_what_its_device_has(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = here()
    artifact = run(sft(tiny_model_folder, tmp_path / "toy" / "sft", max_steps=2, max_sequence_tokens=256))
    told = capsys.readouterr().out
    assert f"{device.gpu}: {'bfloat16' if device.bfloat16 else 'float32'}; fused kernels " in told
    assert "gradient checkpointing off (" in told
    assert artifact.device == device.gpu
    rows = [
        json.loads(line) for line in (tmp_path / "toy" / "sft" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["train_loss"] > 0
