"""A config and devices that the tests of this folder share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from alloy.config import parse
from alloy.device import Device
from sft.config import SftConfig

CPU = Device(None, bfloat16=True)
GPU = Device("some GPU", 80 << 30, bfloat16=True, liger="0.8.5", known=frozenset({"llama"}))
BARE = replace(GPU, liger=None, known=frozenset())
ENVIRONMENTS = {"environments": {"math": {"tasks": 4}}, "rollout": {"max_completion_tokens": 8}}


def sft(model: Path | str = "nowhere", output: Path | str = "runs/toy/sft", **train: Any) -> SftConfig:
    values = {
        "model": str(model),
        "output": str(output),
        "data": {"sources": [{"environment": "math", "rows": 10}]},
        "optim": {"learning_rate": 1e-4},
        "train": {"max_steps": 1, "per_device_batch_size": 2, "max_sequence_tokens": 64, **train},
        "logging": {"tensorboard": False},
    }
    return parse(SftConfig, values, "test")
