"""What was decided for a device reaches TRL; it is no input of a run; a process knows its launch."""

import json
from pathlib import Path
from typing import Any

import pytest
from gpu_config import ENVIRONMENTS, sft

from alloy.artifact import Inputs, config_inputs, open_run
from alloy.config import parse
from alloy.device import here
from alloy.errors import InputError
from alloy.kernels import PACKAGE
from alloy.plan.launch import Launch
from alloy.plan.launched import launched
from dpo.config import DpoConfig
from grpo.config import GrpoConfig
from rlhf.config import RewardModelConfig
from sft.config import SftConfig

# What TRL is told


def told_to_trl(config: Any, stage: str) -> Any:
    run, _ = open_run(config)
    if stage == "sft":
        from sft.train import to_trl
    elif stage == "dpo":
        from dpo.trainer import to_trl as dpo_to_trl

        return dpo_to_trl(config, run, 0)
    elif stage == "grpo":
        from alloy.rl_arguments import to_trl  # type: ignore[assignment]
    else:
        from rlhf.train_reward_model import to_trl  # type: ignore[assignment]
    return to_trl(config, run)


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo", "reward-model"])
@pytest.mark.parametrize("on", [False, True])
def test_what_was_decided_reaches_trl(tiny_model_folder: Path, tmp_path: Path, stage: str, on: bool) -> None:
    common = {
        "model": str(tiny_model_folder), "output": str(tmp_path / "toy" / stage), "optim": {"learning_rate": 1e-4},
        "train": {"max_steps": 1, "per_device_batch_size": 1, "gradient_checkpointing": on, "fused_kernels": on},
        "logging": {"tensorboard": False},
    }  # fmt: skip
    config: Any = {
        "sft": lambda: parse(SftConfig, {**common, "data": {"sources": [{"environment": "math", "rows": 4}]}}, ""),
        "dpo": lambda: parse(DpoConfig, {**common, "rollout": ENVIRONMENTS["rollout"],
                             "environments": {"workplace": {"tasks": 2, "validation_tasks": 2}}}, ""),
        "grpo": lambda: parse(GrpoConfig, {**common, **ENVIRONMENTS, "prompts_per_step": 2, "group_size": 2}, ""),
        "reward-model": lambda: parse(RewardModelConfig, {**common, "data": {"environment": "chat", "pairs": 4, "held_out": 2}}, ""),
    }[stage]()  # fmt: skip
    arguments = told_to_trl(config, stage)
    assert arguments.gradient_checkpointing is on
    assert arguments.use_liger_kernel is on
    assert arguments.liger_kernel_config == {"cross_entropy": False, "fused_linear_cross_entropy": False}
    # What TRL and transformers have on by themselves: an optimizer that updates in one kernel.
    assert arguments.optim == "adamw_torch_fused"


def test_undecided_is_off(tiny_model_folder: Path, tmp_path: Path) -> None:
    arguments = told_to_trl(sft(tiny_model_folder, tmp_path / "toy" / "sft"), "sft")
    assert (arguments.gradient_checkpointing, arguments.use_liger_kernel) == (False, False)


def test_kernels_that_transformers_cannot_find_stop_it(
    tiny_model_folder: Path, tmp_path: Path, tiny_model: Any
) -> None:
    """The argument is not just carried: transformers looks for the package when training begins."""
    if here().liger is not None:
        pytest.skip(f"{PACKAGE} is installed")
    from transformers import Trainer

    arguments = told_to_trl(sft(tiny_model_folder, tmp_path / "toy" / "sft", fused_kernels=True), "sft")
    with pytest.raises(ImportError, match=PACKAGE):
        Trainer(model=tiny_model, args=arguments, train_dataset=[{"input_ids": [1]}]).train()


# What is remembered of a run


def test_how_a_stage_is_computed_is_no_input_of_it() -> None:
    plain, other = sft(), sft(gradient_checkpointing=True, fused_kernels=False)
    assert config_inputs(plain, ()) == config_inputs(other, ())
    assert config_inputs(plain, ()) != config_inputs(sft(max_sequence_tokens=65), ())
    # A record of the time when one of them was an input.
    old = config_inputs(plain, ())
    old["train"]["gradient_checkpointing"] = False
    now = Inputs(config=config_inputs(plain, ()), data="", parents={})
    assert Inputs(config=old, data="", parents={}).differences(now) == []


# The launch


@pytest.mark.parametrize(
    ("environment", "sharding", "offload"),
    [
        ({}, "none", "none"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp", "none"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "zero2", "none"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
          "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "zero3", "optimizer"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
          "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu",
          "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "zero3", "all"),
    ],
)  # fmt: skip
def test_a_process_knows_its_launch(environment: dict[str, str], sharding: str, offload: str) -> None:
    found = launched({**environment, "WORLD_SIZE": "8"}, cpu=False, device_memory=10)
    assert found == Launch(devices=8, device_memory=10, sharding=sharding, offload=offload)  # type: ignore[arg-type]


def test_a_file_of_deepspeed_s_says_how_it_divides(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}))
    told = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}
    found = launched(told, cpu=False)
    assert (found.sharding, found.offload, found.devices) == ("zero3", "optimizer", 1)
    path.write_text("{")
    with pytest.raises(InputError, match=r"ds\.json: no configuration of DeepSpeed's"):
        launched(told, cpu=False)


def test_a_process_takes_one_gpu_of_several(
    tiny_tokenizer: Any, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it does not, TRL refuses: it would be `DataParallel`."""
    from datasets import Dataset
    from trl import RewardTrainer

    from alloy.training import SafeTrainer

    class Trainer(SafeTrainer, RewardTrainer):
        pass

    given = {"environment": "chat", "pairs": 4, "held_out": 2}
    config = parse(RewardModelConfig, {
        "model": str(tiny_model_folder), "output": str(tmp_path / "toy" / "rm"), "data": given,
        "optim": {"learning_rate": 1e-4}, "train": {"max_steps": 1, "per_device_batch_size": 2},
        "logging": {"tensorboard": False},
    }, "")  # fmt: skip
    arguments = told_to_trl(config, "reward-model")
    assert arguments.n_gpu == 0
    arguments._n_gpu = 8
    rows = Dataset.from_list([{"chosen_ids": [1, 2], "rejected_ids": [1]}])
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tiny_tokenizer)
    assert trainer.args.n_gpu == 1
    assert trainer.args.train_batch_size == 2
    assert "one of 8 GPUs is used" in capsys.readouterr().out
