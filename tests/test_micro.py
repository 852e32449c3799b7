"""The whole pipeline as a user runs it: through the command line, in one process."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import alloy

from alloy.artifact import read_artifact
from tests.distributed.launching import launch, shapes

STAGES = ["base", "sft-1", "sft-2", "sft-3", "grpo", "dpo", "reward-model", "rlhf", "merge", "evaluate"]


def test_every_stage_leaves_an_artifact_with_its_lineage(micro_runs: Path) -> None:
    artifacts = {stage: json.loads((micro_runs / stage / "artifact.json").read_text()) for stage in STAGES}
    for child, role, parent in [
        ("sft-1", "parent", "base"),
        ("dpo", "parent", "grpo"),
        ("rlhf", "reward_model", "reward-model"),
        ("merge", "reasoning", "dpo"),
        ("merge", "chat", "rlhf"),
    ]:
        recorded = artifacts[child]["parents"][role]["fingerprint"]
        assert recorded == artifacts[parent]["fingerprints"]["weights"], (child, role)
    assert artifacts["reward-model"]["kind"] == "reward-model"
    assert artifacts["evaluate"]["kind"] == "evaluation"
    for stage in ("sft-1", "grpo", "dpo", "rlhf"):
        metrics = (micro_runs / stage / "metrics.jsonl").read_text().splitlines()
        assert all("step" in json.loads(line) for line in metrics)
        assert metrics, stage
    for stage in ("grpo", "dpo", "rlhf"):
        # Each iteration of DPO keeps its own.
        folder = micro_runs / stage / ("iteration-1" if stage == "dpo" else "")
        sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
        assert {"step", "environment", "prompt", "completion", "reward", "status"} <= sample.keys()
    assert list((micro_runs / "sft-1" / "tensorboard").glob("events.*"))


def test_the_table_has_every_stage_and_suite(micro_runs: Path) -> None:
    results = json.loads((micro_runs / "evaluate" / "results.json").read_text())
    assert results["suites"] == ["math", "instructions", "tools", "chat", "budget"]
    assert results["stages"] == ["base", "sft-1", "sft-2", "sft-3", "grpo", "dpo", "rlhf", "merge"]
    # micro's stages often leave the weights as they were: each is compared with its own parent all the same.
    compared = {(d["stage"], d["parent"]) for d in results["differences"]}
    line = ["base", "sft-1", "sft-2", "sft-3", "grpo", "dpo", "rlhf"]
    assert compared == {*zip(line[1:], line[:-1], strict=True), ("merge", "dpo"), ("merge", "rlhf")}
    for row in results["cells"].values():
        for cell in row.values():
            assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1


def test_the_chosen_alpha_is_one_of_the_sweep(micro_runs: Path) -> None:
    sweep = json.loads((micro_runs / "merge" / "sweep.json").read_text())
    assert [point["alpha"] for point in sweep["points"]] == [0.1, 0.5, 0.9]
    best = max(point["objective"] for point in sweep["points"])
    chosen = next(point for point in sweep["points"] if point["alpha"] == sweep["chosen"])
    assert chosen["objective"] == best


def test_running_again_does_nothing_and_imports_no_torch(micro_runs: Path) -> None:
    began = time.monotonic()
    code = (
        "import sys; from alloy.__main__ import run; "
        f"status = run(['run', 'micro', '--runs', {str(micro_runs)!r}]); "
        "assert not {'torch', 'trl', 'transformers'} & sys.modules.keys(), 'imported'; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished, nothing to do") == len(STAGES)
    assert time.monotonic() - began < 10


def test_status_tells_finished_stale_and_why(micro_runs: Path) -> None:
    rows = json.loads(alloy("status", "micro", "--runs", str(micro_runs), "--json").stdout)
    assert {row["state"] for row in rows} == {"finished"}
    changed = alloy("status", "micro", "--runs", str(micro_runs), "--json", "grpo.optim.learning_rate=3e-4")
    states = {row["stage"]: row for row in json.loads(changed.stdout)}
    assert states["sft-3"]["state"] == "finished"
    assert states["grpo"]["state"] == "stale"
    assert "optim.learning_rate: 0.0001 -> 0.0003" in states["grpo"]["why"]
    assert states["dpo"]["state"] == "stale"


def test_the_same_seed_gives_the_same_weights(micro_runs: Path, tmp_path: Path) -> None:
    again = tmp_path / "micro"
    alloy("run", "micro", "--runs", str(again), "--stage", "grpo")
    for stage in ("base", "sft-1", "sft-2", "sft-3", "grpo"):
        first = json.loads((micro_runs / stage / "artifact.json").read_text())["fingerprints"]["weights"]
        second = json.loads((again / stage / "artifact.json").read_text())["fingerprints"]["weights"]
        assert first == second, stage


def test_lora_trains_and_is_merged_into_a_plain_model(micro_runs: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    out = tmp_path / "lora"
    parent = micro_runs / "base"
    alloy("configs/micro/sft-1.yaml", f"parent={parent}", f"output={out}", "lora.rank=4", module="sft")
    with (
        safe_open(out / "model" / "model.safetensors", "pt") as ours,
        safe_open(parent / "model" / "model.safetensors", "pt") as base,
    ):
        assert set(ours.keys()) == set(base.keys())
        name = "model.layers.0.self_attn.q_proj.weight"
        assert not (ours.get_tensor(name) == base.get_tensor(name)).all()
        # An adapter leaves the embeddings alone.
        name = "model.embed_tokens.weight"
        assert (ours.get_tensor(name) == base.get_tensor(name)).all()


@pytest.mark.parametrize(
    ("arguments", "module", "status", "told"),
    [
        (["run", "mircro"], "alloy", 2, "Did you mean 'micro'?"),
        (["configs/micro/sft-1.yaml", "optim.learning_rat=1"], "sft", 2, "Did you mean 'learning_rate'?"),
        (["configs/micro/sft-1.yaml", "parent=nowhere"], "sft", 2, "nowhere has no artifact.json"),
        (["configs/micro/sft-1.yaml", "parent={micro}/reward-model"], "sft", 2, "is a reward-model, this stage needs a policy"),
        (["configs/micro/rlhf.yaml", "reward_model={micro}/dpo", "parent={micro}/dpo"], "rlhf", 2, "is a policy"),
        (["configs/nowhere.yaml"], "sft", 2, "there is no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_told_before_anything_starts(
    micro_runs: Path, tmp_path: Path, arguments: list[str], module: str, status: int, told: str
) -> None:
    given = [argument.replace("{micro}", str(micro_runs)) for argument in arguments]
    if module != "alloy":
        given.append(f"output={tmp_path / 'out'}")
    done = alloy(*given, module=module, check=False)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_bad_row_is_named_with_file_and_line(micro_runs: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "hi", "completion": "ho"}\n{"prompt": "hi"}\n')
    config = tmp_path / "sft.yaml"
    config.write_text(
        f"data: {{sources: [{{path: {data}}}]}}\noptim: {{learning_rate: 1.0e-3}}\ntrain: {{max_steps: 1}}\n"
    )
    done = alloy(
        str(config), f"parent={micro_runs / 'base'}", f"output={tmp_path / 'out'}", module="sft", check=False
    )
    assert done.returncode == 2
    assert f"{data}:2: has prompt, and needs" in done.stderr
    assert not (tmp_path / "out" / "artifact.json").exists()


@pytest.mark.parametrize(
    ("config", "module", "stage", "parent"),
    [
        ("cpu-zero3", "sft", "sft-1", "base"),
        ("cpu-ddp", "grpo", "grpo", "sft-3"),
        ("cpu-ddp", "dpo", "dpo", "sft-3"),
    ],
)
def test_two_processes_train_together(
    micro_runs: Path, tmp_path: Path, config: str, module: str, stage: str, parent: str
) -> None:
    """What they compute is held to one process's by `make test-distributed`."""
    out = tmp_path / stage
    launch(config, module, f"configs/micro/{stage}.yaml", f"parent={micro_runs / parent}", f"output={out}")
    assert read_artifact(out).world_size == 2
    assert shapes(out / "model") == shapes(micro_runs / parent / "model")


def test_the_report_has_the_numbers(micro_runs: Path) -> None:
    alloy("report", str(micro_runs))
    page = (micro_runs / "report.html").read_text()
    for stage in STAGES:
        assert stage in page
