"""An adapter that was trained under ZeRO is merged before it is saved, as without."""

import importlib
from pathlib import Path

import pytest
import torch

from alloy.pipeline import load_stage_config
from tests.distributed.launching import launch, shapes, tensors
from tests.distributed.test_stages import CASES

pytestmark = pytest.mark.distributed

# The first update has a rate of 0, and a new reward head of zeros passes nothing back in the second.
LORA = ("train.max_steps=3", "train.save_steps=null", "lora.rank=4")


@pytest.mark.parametrize(
    ("stage", "sharding"),
    [
        ("sft", "cpu-zero2"),
        ("sft", "cpu-zero3"),
        ("reward-model", "cpu-zero3"),
        ("dpo", "cpu-zero3"),
        ("grpo", "cpu-zero3"),
    ],
)
def test_an_adapter_is_merged(started: Path, tmp_path: Path, stage: str, sharding: str) -> None:
    case = CASES[stage]
    config = f"configs/micro/{case.config}.yaml"
    launch(sharding, case.package, config, f"output={tmp_path / 'two'}", *case.given(started, 2), *LORA)
    two = tmp_path / "two" / case.part / "model"
    parent = started / ("base" if stage == "sft" else "sft-3") / "model"
    if stage != "reward-model":
        assert shapes(two) == shapes(parent)
    before, after = tensors(parent), tensors(two)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(after[name], before[name])
    # An adapter leaves the embeddings alone.
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    if stage in ("sft", "reward-model"):
        overrides = [f"output={tmp_path / 'one'}", *case.given(started, 1), *LORA]
        importlib.import_module(case.package).run(load_stage_config(case.package, Path(config), overrides))
        for name, value in tensors(tmp_path / "one" / "model").items():
            torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-4)
