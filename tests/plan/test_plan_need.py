"""The plan decides on gradient checkpointing as a stage's start does, and says what it decided."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_recipe import SFT, write_recipe

from alloy.device import Device, settle
from alloy.pipeline import load_recipe
from alloy.plan.command import run
from alloy.plan.launch import Launch
from alloy.plan.recipe import StagePlan, plan_recipe
from sft.plan import work


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path, "sft", SFT % "")


def planned(folder: Path, launch: Launch, *overrides: str) -> StagePlan:
    (plan,) = plan_recipe(load_recipe(str(folder)), Path("runs") / "recipe", launch, overrides)
    return plan


def peak(folder: Path, launch: Launch, checkpointing: str) -> float:
    return planned(folder, launch, f"a.train.gradient_checkpointing={checkpointing}").memory.peak.bytes


def test_it_is_on_exactly_where_the_device_does_not_hold_what_it_spares(recipe: Path) -> None:
    without, with_it = (peak(recipe, Launch(), told) for told in ("false", "true"))
    assert with_it < 0.7 * without
    enough = Launch(device_memory=int(without / 0.9) + 2)
    short = replace(enough, device_memory=int(without / 0.9) - 16)
    assert not planned(recipe, enough).checkpoints
    assert planned(recipe, enough).memory.peak.bytes == without
    assert planned(recipe, short).checkpoints
    assert planned(recipe, short).memory.peak.bytes == with_it
    assert planned(recipe, short).fits(short)
    # Nobody said what a device has, or it is a CPU: as if everything were kept.
    for launch in (Launch(), replace(short, cpu=True)):
        assert not planned(recipe, launch).checkpoints
    # What the config says is not decided anew.
    assert planned(recipe, enough, "a.train.gradient_checkpointing=true").checkpoints
    assert not planned(recipe, short, "a.train.gradient_checkpointing=false").checkpoints


@pytest.mark.parametrize("more", [-16, 2])
def test_a_stage_decides_as_its_plan_did(recipe: Path, more: int) -> None:
    memory = int(peak(recipe, Launch(), "false") / 0.9) + more
    plan = planned(recipe, Launch(device_memory=memory))
    config: Any = plan.config
    settled = settle(config, work, Device("some GPU", memory, bfloat16=True))
    assert settled.train.gradient_checkpointing is plan.checkpoints is (more < 0)


def test_precision_is_the_device_s(recipe: Path) -> None:
    for launch, told in ((Launch(), "bfloat16"), (Launch(cpu=True), "float32")):
        training = planned(recipe, launch).work.training
        assert training is not None
        assert training.precision == told


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        ((), "Gradient checkpointing is decided by the device's memory (train.gradient_checkpointing): planned"),
        (("--device-memory", "80GiB"), "by need (train.gradient_checkpointing): off in a."),
        (("--device-memory", "600MiB"), "by need (train.gradient_checkpointing): on in a."),
    ],
)  # fmt: skip
def test_it_is_said(
    recipe: Path, capsys: pytest.CaptureFixture[str], memory: tuple[str, ...], told: str
) -> None:
    run([str(recipe), *memory])
    shown = capsys.readouterr().out
    assert told in shown
    assert "liger-kernel's fused kernels" in shown
    run([str(recipe), *memory, "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["gradient_checkpointing"] is ("on in a" in told)
    assert row["precision"] == "bfloat16"


def test_on_a_cpu_nothing_is_left_to_the_device(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([str(recipe), "--cpu", "--device-memory", "100MiB"])
    shown = capsys.readouterr().out
    assert "On a GPU" not in shown
    assert "by need" not in shown
