"""What is said to fit does fit, when it is typed; and it is the first that does."""

import json
from pathlib import Path

import pytest
from small_recipe import LLAMA, SFT, write_recipe

from alloy.pipeline import load_recipe
from alloy.plan.command import run
from alloy.plan.launch import Launch
from alloy.plan.recipe import plan_recipe
from alloy.plan.remedy import Remedy, find_remedy

PLAIN = SFT % ", precision: bfloat16, gradient_checkpointing: false"
GRPO = """\
model: {model}
environments: {{math: {{tasks: 20}}}}
rollout: {{max_completion_tokens: 512, batch_size: 64}}
prompts_per_step: 8
group_size: 8
optim: {{learning_rate: 1e-4}}
train: {{max_steps: 3, per_device_batch_size: 2, precision: bfloat16, gradient_checkpointing: true}}
"""


SMALL = ("a.train.per_device_batch_size=1", "a.train.gradient_accumulation_steps=12")


def remedy(folder: Path, launch: Launch, *overrides: str) -> Remedy | None:
    loaded, runs = load_recipe(str(folder)), Path("runs") / "recipe"
    (plan,) = plan_recipe(loaded, runs, launch, overrides)
    assert not plan.fits(launch)
    return find_remedy(loaded, plan, runs, launch, {"a": plan.shape})


def peak(folder: Path, launch: Launch, *overrides: str) -> float:
    (plan,) = plan_recipe(load_recipe(str(folder)), Path("runs") / "recipe", launch, overrides)
    return plan.memory.peak.bytes


def memory(fits: float, launch: Launch) -> Launch:
    """Devices that just hold so many bytes beside the reserve."""
    from dataclasses import replace

    return replace(launch, device_memory=int(fits / (1 - launch.reserve)) + 16)


def test_first_a_smaller_batch_that_the_others_make_up_for(tmp_path: Path) -> None:
    folder = write_recipe(tmp_path, "sft", PLAIN)
    launch = memory(peak(folder, Launch(), "a.train.per_device_batch_size=5"), Launch())
    found = remedy(folder, launch)
    assert found is not None
    # Of the batches that divide twelve the largest that fits; an update has twelve sequences as before.
    assert found.settings == ("train.per_device_batch_size=4", "train.gradient_accumulation_steps=3")
    assert found.plan.compute.trained == 3 * 12 * 512


def test_then_checkpointing(tmp_path: Path) -> None:
    folder = write_recipe(tmp_path, "sft", PLAIN)
    checkpointing = "a.train.gradient_checkpointing=true"
    # One sequence at a time needs more without than with it.
    launch = memory(peak(folder, Launch(), checkpointing, *SMALL), Launch())
    assert peak(folder, Launch(), "a.train.per_device_batch_size=1") > launch.usable  # type: ignore[operator]
    found = remedy(folder, launch)
    assert found is not None
    assert found.settings[0] == "train.gradient_checkpointing=true"
    assert found.launch == launch


def test_then_dividing_and_then_an_adapter(tmp_path: Path) -> None:
    # A wide vocabulary: weights and their states are what is too much.
    wide = LLAMA | {"hidden_size": 2048, "intermediate_size": 16384, "vocab_size": 200_000}
    folder = write_recipe(tmp_path, "sft", PLAIN, wide)
    eight = Launch(devices=8)
    small = ("a.train.gradient_checkpointing=true", *SMALL)
    zero3 = Launch(devices=8, sharding="zero3")
    launch = memory(peak(folder, zero3, *small), eight)
    found = remedy(folder, launch)
    assert found is not None
    assert (found.launch.sharding, found.launch.offload) == ("zero3", "none")
    assert found.told(launch).endswith("--sharding zero3")
    # One device has nobody to divide with: the machine's memory takes what it can, or an adapter is enough.
    alone = remedy(folder, memory(peak(folder, Launch(), "a.lora.rank=16", *small), Launch()))
    assert alone is not None
    assert alone.launch.offload != "none" or alone.settings[0] == "lora.rank=16"


def test_muon_is_never_divided(tmp_path: Path) -> None:
    folder = write_recipe(tmp_path, "sft", PLAIN)
    launch = memory(2e6, Launch(devices=8))
    assert remedy(folder, launch, "a.optim.kind=muon") is None


def test_rollouts_are_made_fewer_at_once(tmp_path: Path) -> None:
    folder = write_recipe(tmp_path, "grpo", GRPO, LLAMA | {"num_key_value_heads": 8, "num_hidden_layers": 32})
    launch = memory(peak(folder, Launch(), "a.rollout.batch_size=20"), Launch())
    found = remedy(folder, launch)
    assert found is not None
    assert found.settings == ("rollout.batch_size=16",)


def test_a_hybrid_gets_an_adapter_too(tmp_path: Path) -> None:
    hybrid = {
        "model_type": "nemotron_h", "vocab_size": 1000, "hidden_size": 1024, "intermediate_size": 4096,
        "hybrid_override_pattern": "M-M-M-M*-", "num_attention_heads": 8, "num_key_value_heads": 2,
        "head_dim": 128, "mamba_num_heads": 32, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128,
    }  # fmt: skip
    folder = write_recipe(tmp_path, "sft", PLAIN, hybrid)
    small = ("a.train.gradient_checkpointing=true", *SMALL)
    adapter = "a.lora.rank=16"
    launch = memory(peak(folder, Launch(), adapter, *small), Launch())
    found = remedy(folder, launch)
    assert found is not None
    assert "lora.rank=16" in found.settings


@pytest.mark.parametrize("gib", ["0.02", "0.05", "0.1", "0.3", "1"])
@pytest.mark.parametrize("package", ["sft", "grpo"])
def test_typed_as_it_is_told_it_fits(
    tmp_path: Path, package: str, gib: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLAIN if package == "sft" else GRPO
    folder = write_recipe(tmp_path, package, text, LLAMA | {"num_hidden_layers": 24})
    given = [str(folder), "--devices", "4", "--device-memory", f"{gib}GiB", "--json"]
    run(given)
    (row,) = json.loads(capsys.readouterr().out)
    if row["fits"]:
        assert row["remedy"] is None
        return
    if row["remedy"] is None:
        # Even what is smallest in every way does not fit: so few bytes do not hold a bucket of DeepSpeed's.
        assert float(gib) < 1
        return
    run([*given, *row["remedy"]["change"].split()])
    (again,) = json.loads(capsys.readouterr().out)
    assert again["fits"]
    assert again["memory"]["peak_bytes"] == row["remedy"]["peak_bytes"]
