"""What a stage leaves to the device is decided by what the device is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu_config import BARE, CPU, ENVIRONMENTS, GPU, sft

from alloy.config import load, parse
from alloy.device import Device, checkpointing, fused_kernels, here, settle
from alloy.errors import InputError
from alloy.kernels import classes_left_alone
from alloy.plan.launch import Launch
from alloy.plan.memory import memory_of
from alloy.plan.need import Need, need_of
from alloy.plan.source import read_shape
from grpo.config import GrpoConfig
from grpo.plan import work as grpo_work
from rlhf.config import RlhfConfig
from rlhf.plan import work as rlhf_work
from sft import run as run_sft
from sft.config import SftConfig
from sft.plan import work as sft_work

# Fused kernels


@pytest.mark.parametrize(
    ("wanted", "device", "architecture", "taken", "reason"),
    [
        ("auto", GPU, "llama", True, "liger-kernel 0.8.5"),
        (True, GPU, "llama", True, "liger-kernel 0.8.5"),
        (False, GPU, "llama", False, "train.fused_kernels is off"),
        ("auto", CPU, "llama", False, "need a GPU"),
        ("auto", BARE, "llama", False, "liger-kernel is not installed"),
        ("auto", GPU, "nemotron_h", False, "has none for nemotron_h"),
        ("auto", GPU, None, False, "cannot be told"),
    ],
)
def test_kernels_are_fused_where_they_are_there(
    wanted: bool | str, device: Device, architecture: str | None, taken: bool, reason: str
) -> None:
    choice = fused_kernels(wanted, device, architecture)
    assert choice.taken is taken
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("device", "architecture", "told"),
    [
        (CPU, "llama", "need a GPU. Run on one, or set it to auto."),
        (BARE, "llama", "is not installed. Install it as requirements/cuda.txt pins it (pip install liger-kernel)"),
        (GPU, "bert", "has none for bert. Leave it out"),
    ],
)  # fmt: skip
def test_kernels_that_are_asked_for_and_not_there_are_refused(
    device: Device, architecture: str, told: str
) -> None:
    with pytest.raises(InputError, match=r"train\.fused_kernels = on: ") as error:
        fused_kernels(True, device, architecture)
    assert told in str(error.value)


def test_a_stage_refuses_before_it_touches_anything(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fused_kernels = on"):
        run_sft(sft(tiny_model_folder, tmp_path / "run", fused_kernels=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("text", "value"), [("on", True), ("off", False), ("true", True), ("auto", "auto")])
def test_a_yaml_switch_is_read_whatever_it_is_called(tmp_path: Path, text: str, value: Any) -> None:
    path = tmp_path / "sft.yaml"
    path.write_text(
        "data: {sources: [{environment: math, rows: 10}]}\noptim: {learning_rate: 1e-4}\n"
        f"train: {{max_steps: 1, fused_kernels: {text}, gradient_checkpointing: {text}}}\n"
    )
    train = load(SftConfig, path).train
    assert (train.fused_kernels, train.gradient_checkpointing) == (value, value)


def test_what_is_put_into_transformers_while_a_model_trains_is_taken_out_again(tiny_model: Any) -> None:
    from transformers.models.llama import modeling_llama

    before = modeling_llama.LlamaRMSNorm
    with classes_left_alone(tiny_model):
        modeling_llama.LlamaRMSNorm = object
    assert modeling_llama.LlamaRMSNorm is before


# Gradient checkpointing


@pytest.mark.parametrize(
    ("wanted", "device", "need", "taken", "reason"),
    [
        (True, CPU, None, True, "as the config says"),
        (False, GPU, Need(99e9, 1), False, "as the config says"),
        ("auto", CPU, None, False, "never by itself on a CPU"),
        ("auto", GPU, Need(72 << 30, 72 << 30), False, "72.0 GiB without it, 72.0 GiB of 80.0 GiB"),
        ("auto", GPU, Need((72 << 30) + 1, 72 << 30), True, "72.0 GiB without it, 72.0 GiB of 80.0 GiB"),
        ("auto", GPU, None, True, "cannot be planned"),
    ],
)
def test_activations_are_computed_twice_by_need(
    wanted: bool | str, device: Device, need: Need | None, taken: bool, reason: str
) -> None:
    choice = checkpointing(wanted, device, need)
    assert choice.taken is taken
    assert reason in choice.reason


def test_need_is_the_planner_s_count_of_training_alone(tiny_model_folder: Path) -> None:
    launch = Launch(device_memory=1 << 30)
    shape, planned = read_shape(str(tiny_model_folder)), sft_work(sft(), launch)
    assert planned.training is not None
    without = replace(planned, training=replace(planned.training, checkpointing=False))
    found = need_of(planned, shape, launch)
    assert found.without == memory_of(without, shape, launch).peak.bytes
    assert found.usable == int((1 << 30) * 0.9)
    # Rollouts that take more than training does are no reason.
    config = parse(GrpoConfig, {
        "model": "x", **ENVIRONMENTS, "prompts_per_step": 2, "group_size": 2, "optim": {"learning_rate": 1e-4},
        "train": {"max_steps": 1, "per_device_batch_size": 1},
    }, "test")  # fmt: skip
    rolled = grpo_work(config, replace(launch, prompt_tokens=8))
    many = replace(rolled, sampling=(replace(rolled.sampling[0], rows=100_000),))
    peak = memory_of(many, shape, launch).peak
    assert peak.name.startswith("sampling")
    assert need_of(many, shape, launch).without < peak.bytes


@pytest.mark.parametrize("short", [False, True])
def test_a_gpu_s_memory_decides(
    tiny_model_folder: Path, capsys: pytest.CaptureFixture[str], short: bool
) -> None:
    config = sft(tiny_model_folder, per_device_batch_size=64)
    without = need_of(
        sft_work(config, Launch()), read_shape(str(tiny_model_folder)), Launch(device_memory=1)
    ).without
    # Of what a device has a tenth is not planned with.
    enough = int(without / 0.9) + 2
    device = replace(GPU, memory=enough - 16 if short else enough)
    settled = settle(config, sft_work, device).train
    assert settled.gradient_checkpointing is short
    assert (settled.fused_kernels, settled.precision) == (True, "bfloat16")
    told = capsys.readouterr().out
    assert f"some GPU: bfloat16; fused kernels on (liger-kernel 0.8.5); gradient checkpointing {'on' if short else 'off'} (" in told  # fmt: skip
    assert len(told.splitlines()) == 1


def test_activations_that_are_offloaded_are_a_need_as_if_they_were_not(tiny_model_folder: Path) -> None:
    """The machine's memory would hold all of them otherwise."""
    shape, launch = read_shape(str(tiny_model_folder)), Launch(device_memory=1 << 30)
    offloaded, kept = (
        sft_work(sft(per_device_batch_size=64, activation_offloading=on), launch) for on in (True, False)
    )
    assert memory_of(offloaded, shape, launch).peak.bytes < memory_of(kept, shape, launch).peak.bytes
    assert need_of(offloaded, shape, launch) == need_of(kept, shape, launch)


def test_processes_decide_alike(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = sft(tiny_model_folder)
    found = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        found.append(settle(config, sft_work, replace(GPU, memory=1 << 20)))
    assert found[0] == found[1]
    assert found[0].train.gradient_checkpointing is True


def test_sharding_is_part_of_the_need(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's buckets are a gigabyte: they are no part of a tiny model that trains alone."""
    config, device = sft(tiny_model_folder), replace(GPU, memory=1 << 29)
    assert settle(config, sft_work, device).train.gradient_checkpointing is False
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert settle(config, sft_work, device).train.gradient_checkpointing is True


def test_a_model_that_cannot_be_planned_keeps_little(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "strange"}))
    settled = settle(sft(tmp_path), sft_work, GPU).train
    assert (settled.gradient_checkpointing, settled.fused_kernels) == (True, False)


def test_a_reward_model_s_head_and_the_models_beside_a_policy_count(tiny_model_folder: Path) -> None:
    config = parse(RlhfConfig, {
        "model": str(tiny_model_folder), "reward_model": str(tiny_model_folder),
        "environments": {"chat": {"tasks": 4}}, "rollout": {"max_completion_tokens": 8}, "prompts_per_step": 2,
        "group_size": 2, "optim": {"learning_rate": 1e-4}, "train": {"max_steps": 1, "per_device_batch_size": 1},
    }, "test")  # fmt: skip
    shape, launch = read_shape(str(tiny_model_folder)), Launch(device_memory=1)
    planned = rlhf_work(config, launch)
    alone = replace(planned, held=())
    beside = need_of(planned, shape, launch).without - need_of(alone, shape, launch).without
    assert beside == pytest.approx(4 * shape.parameters)
    usable = int(need_of(alone, shape, launch).without / 0.9) + 16
    settled = settle(config, rlhf_work, replace(GPU, memory=usable)).train
    assert settled.gradient_checkpointing is True


def test_on_a_cpu_nothing_is_read_and_nothing_changes() -> None:
    settled = settle(sft("there is no such model"), sft_work, CPU).train
    assert (settled.gradient_checkpointing, settled.fused_kernels) == (False, False)
    assert settle(sft(gradient_checkpointing=True), sft_work, CPU).train.gradient_checkpointing is True


# Precision


@pytest.mark.parametrize(
    ("precision", "on_cpu", "on_old_cpu", "on_gpu", "on_old_gpu"),
    [
        ("float32", "float32", "float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        ("auto", "bfloat16", "float32", "bfloat16", "float32"),
        ("by-device", "float32", "float32", "bfloat16", "float32"),
    ],
)
def test_precision_follows_the_device(
    tiny_model_folder: Path, precision: str, on_cpu: str, on_old_cpu: str, on_gpu: str, on_old_gpu: str
) -> None:
    config = sft(tiny_model_folder, precision=precision)
    devices = (CPU, replace(CPU, bfloat16=False), GPU, replace(GPU, bfloat16=False))
    found = [settle(config, sft_work, device).train.precision for device in devices]
    assert found == [on_cpu, on_old_cpu, on_gpu, on_old_gpu]


def test_here_is_what_torch_says() -> None:
    import torch

    found = here()
    assert (found.gpu is not None) == torch.cuda.is_available()
    if found.gpu is None:
        assert (found.memory, found.liger, found.known) == (0, None, frozenset())
