"""`alloy plan` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import alloy

from alloy.errors import InputError
from alloy.plan.command import run
from alloy.plan.launch import Launch, parse_quantity, read_accelerate
from alloy.plan.table import aligned, count, duration, size

HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub", "rich"}


@pytest.mark.parametrize("recipe", ["micro", "demo", "smollm2"])
def test_nothing_heavy_is_imported(recipe: str) -> None:
    code = (
        "import sys; from alloy.__main__ import run; "
        f"status = run(['plan', {recipe!r}, '--devices', '2', '--device-memory', '1GiB']); "
        f"assert not {HEAVY!r} & sys.modules.keys(), {HEAVY!r} & sys.modules.keys(); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{recipe}: 2 devices of 1.0 GiB\n")


def test_the_tables_for_people() -> None:
    out = alloy("plan", "demo", "--devices", "8", "--device-memory", "80GiB", "--sharding", "zero3").stdout
    lines = out.splitlines()
    assert lines[0] == "demo: 8 devices of 80.0 GiB, zero3"
    assert lines[2].split() == [
        "stage", "parameters", "steps", "sequence", "trained", "scored", "sampled", "FLOPs", "training",
        "sampling", "disk",
    ]  # fmt: skip
    row = next(line for line in lines if line.startswith("sft-1")).split()
    # 1,115,264 parameters; 800 updates of 4 x 320 tokens on 8 devices.
    assert row[1:5] == ["1.12M", "800", "320", "8.19M"]
    assert "does not fit" not in out
    assert "Times: training and scoring at 40% of 989 TFLOP/s a device" in out
    assert "A prompt is planned with 512 tokens" in out


def test_a_row_for_machines() -> None:
    rows = json.loads(alloy("plan", "micro", "--json", "sft-1.train.max_steps=7", "--mfu", "0.5").stdout)
    row = next(row for row in rows if row["stage"] == "sft-1")
    assert (row["parameters"], row["steps"], row["tokens"]["trained"]) == (43_040, 7, 7 * 4 * 256)
    assert row["hours"]["training"] == pytest.approx(row["operations"]["training"] / (989e12 * 0.5) / 3600)
    assert row["fits"] is None
    assert row["memory"]["peak_bytes"] == max(phase["bytes"] for phase in row["memory"]["phases"])
    assert {row["stage"]: row["examples"] for row in rows}["sft-1"] == 400


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mircro"], "Did you mean 'micro'?"),
        (["micro", "sft-1.train.max_step=1"], "Did you mean 'max_steps'?"),
        (["micro", "max_steps=1"], "write STAGE.key=value"),
        (["micro", "--devices", "0"], "--devices = 0: more than 0 is needed"),
        (["micro", "--device-memory", "eighty"], "--device-memory = 'eighty': write a number with a unit"),
        (["micro", "--mfu", "1.5"], "--mfu = 1.5: it is a share"),
        (["micro", "--reserve", "1"], "--reserve = 1.0: it is a share, from 0 to less than 1"),
        (["micro", "--offload", "all"], "--offload all: weights rest in the host's memory under zero3 alone"),
        (["micro", "--sharding", "zero4"], "invalid choice: 'zero4'"),
        (["micro", "--accelerate", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["micro", "sft-1.model=/nowhere/model"], "/nowhere/model"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], told: str) -> None:
    done = alloy("plan", *arguments, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert told in done.stderr


def launch(tmp_path: Path, text: str) -> Launch:
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    return Launch(**read_accelerate(path))


def test_a_launch_from_accelerate(tmp_path: Path) -> None:
    configs = Path(__file__).parents[2] / "configs" / "accelerate"
    assert Launch(**read_accelerate(configs / "cpu-zero3.yaml")) == Launch(
        devices=2, sharding="zero3", cpu=True
    )
    assert Launch(**read_accelerate(configs / "cpu-ddp.yaml")) == Launch(devices=2, cpu=True)
    deepspeed = "distributed_type: DEEPSPEED\nnum_processes: 16\ndeepspeed_config: {zero_stage: %d, %s}\n"
    offloaded = "offload_optimizer_device: cpu, offload_param_device: cpu"
    assert launch(tmp_path, deepspeed % (3, offloaded)) == Launch(16, sharding="zero3", offload="all")
    assert launch(tmp_path, deepspeed % (2, offloaded)) == Launch(16, sharding="zero2", offload="optimizer")
    assert launch(tmp_path, "distributed_type: FSDP\nnum_processes: 8\n") == Launch(8, sharding="fsdp")
    with pytest.raises(InputError, match=r"accelerate.yaml:1: distributed_type = XLA"):
        launch(tmp_path, "distributed_type: XLA\n")
    with pytest.raises(InputError, match=r"accelerate.yaml:2: deepspeed_config has no zero_stage"):
        launch(tmp_path, "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}\n")


def test_every_launch_here_can_be_planned() -> None:
    for path in (Path(__file__).parents[2] / "configs" / "accelerate").glob("*.yaml"):
        assert Launch(**read_accelerate(path)).devices > 0, path


def test_a_flag_replaces_what_the_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["micro", "--accelerate", "configs/accelerate/cpu-zero3.yaml"]
    for more, heading in (
        ([], "micro: 2 processes on a CPU, zero3"),
        (["--devices", "4"], "micro: 4 processes on a CPU, zero3"),
        (["--sharding", "none", "--device-memory", "8GiB"], "micro: 2 processes on a CPU of 8.0 GiB"),
        (["--offload", "optimizer"], "micro: 2 processes on a CPU, zero3, optimizer offloaded"),
    ):
        assert run([*given, *more]) == 0
        assert capsys.readouterr().out.splitlines()[0] == heading


@pytest.mark.parametrize(
    ("text", "value"),
    [("80GiB", 80 * 2**30), ("80GB", 8e10), ("989T", 989e12), ("3.35TB/s", 3.35e12), ("1e15", 1e15),
     ("989TFLOP/s", 989e12), ("16 GiB", 2**34), ("512", 512)],
)  # fmt: skip
def test_quantities(text: str, value: float) -> None:
    assert parse_quantity(text, "--x") == pytest.approx(value)


def test_numbers_for_people() -> None:
    assert [count(n) for n in (0, 999, 9_999, 10_000, 1_115_264, 8.89e9, 2.5e12)] == [
        "", "999", "9,999", "10k", "1.12M", "8.89B", "2.5T",
    ]  # fmt: skip
    assert [size(n) for n in (0, 1023, 1536, 300 * 2**20, 80 * 2**30, 2**41)] == [
        "0 B", "1023 B", "1.5 KiB", "300 MiB", "80.0 GiB", "2.0 TiB",
    ]  # fmt: skip
    assert [duration(s) for s in (0, 0.2, 61, 600, 7200)] == ["", "< 1 s", "61 s", "10 min", "2.0 h"]
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc   d"]


def test_a_broken_gguf_header(tmp_path: Path) -> None:
    from alloy.plan.gguf import read_header

    path = tmp_path / "x.gguf"
    for content, told in ((b"PK\x03\x04", "does not begin as a GGUF"), (b"GGUF\x03\0\0\0\x01", "is broken")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=told):
            read_header(path)


def test_the_help_names_every_flag() -> None:
    help_text = alloy("plan", "--help").stdout
    flags: Any = [
        "--devices",
        "--device-memory",
        "--sharding",
        "--offload",
        "--accelerate",
        "--mfu",
        "--json",
    ]
    assert all(flag in help_text for flag in flags)
    assert "plan RECIPE" in alloy("--help").stdout
