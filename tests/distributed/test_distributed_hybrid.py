"""A hybrid whose weights are divided: its Mamba layers read weights of modules that they do not call."""

from pathlib import Path
from typing import Any

import pytest
import torch

from alloy.build_base import random_architecture
from alloy.policy import load_model, save_policy
from sft import run
from sft.config import SftConfig
from tests.distributed.launching import launch, updates
from tests.hybrid.hybrid_shape import ARCHITECTURE

pytestmark = pytest.mark.distributed
CONFIG: dict[str, Any] = {
    "data": {"sources": [{"environment": "math", "rows": 60}], "packing": "best-fit"},
    "optim": {"learning_rate": 3e-3, "scheduler": "constant"},
    "train": {"max_steps": 3, "per_device_batch_size": 4, "max_sequence_tokens": 160},
    "logging": {"every_steps": 1, "tensorboard": False},
}


def test_zero3_packs_and_computes_what_one_process_does(tiny_tokenizer: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_policy(random_architecture(ARCHITECTURE, tiny_tokenizer), tiny_tokenizer, tmp_path / "base")
    given = {**CONFIG, "model": str(tmp_path / "base")}
    run(SftConfig.model_validate({**given, "output": str(tmp_path / "one")}))
    parts = {
        **given,
        "train": {**CONFIG["train"], "per_device_batch_size": 2},
        "output": str(tmp_path / "two"),
    }
    config = SftConfig.model_validate(parts)
    (tmp_path / "sft.yaml").write_text(config.model_dump_json())
    launch("cpu-zero3", "sft", str(tmp_path / "sft.yaml"))
    for found, wanted in zip(updates(tmp_path / "two"), updates(tmp_path / "one"), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    one, two = (load_model(tmp_path / which / "model").state_dict() for which in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-4, rtol=1e-3)
