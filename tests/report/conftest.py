"""A run root made up for the tests: its numbers come from formulas, no model was trained."""

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rl_folder
import yaml

INJECTION = (
    "</script><script>document.title='taken over'</script><img src=x onerror=\"document.title='taken'\"><!--"
)

PARENTS = {
    "base": {},
    "sft-1": {"parent": "base"},
    "sft-2": {"parent": "sft-1"},
    "sft-3": {"parent": "sft-2"},
    "grpo": {"parent": "sft-3"},
    "dpo": {"parent": "grpo"},
    "reward-model": {"parent": "sft-3"},
    "rlhf": {"parent": "dpo", "reward_model": "reward-model"},
    "merge": {"reasoning": "dpo", "chat": "rlhf"},
    "evaluate": {},
}
SUITES = {"math": "accuracy", "instructions": "strict, prompt level", "tools": "success", "chat": "quality"}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


@contextmanager
def changed_results(run_root: Path) -> Iterator[dict[str, Any]]:
    """The evaluation's results.json, written again as it is left."""
    path = run_root / "evaluate" / "results.json"
    results = json.loads(path.read_text())
    yield results
    write_json(path, results)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def artifact(stage: str, parents: dict[str, str], number: int) -> dict[str, Any]:
    kind = {"reward-model": "reward-model", "evaluate": "evaluation"}.get(stage, "policy")
    return {
        "kind": kind,
        "stage": stage,
        "recipe": "synthetic",
        "parents": {
            r: {"path": f"runs/synthetic/{p}", "fingerprint": f"weights-{p}"} for r, p in parents.items()
        },
        "fingerprints": {"config": f"config-{stage}", "data": f"data-{stage}", "weights": f"weights-{stage}"},
        "seed": 0,
        "versions": {"torch": "2.0.0", "trl": "1.0.0" if number < 5 else "1.1.0"},
        "git_revision": "0123456789ab-dirty",
        "tokens": 0 if stage == "merge" else 120_000 + 10_000 * number,
        "seconds": 41.0 + 13 * number,
        "device": "cpu",
        "world_size": 2 if stage == "sft-2" else 1,
        "metrics": {"math": 0.1 + 0.0625 * number, "loss": 1 / (1 + number)},
        "created": f"2000-01-01T00:{number:02d}:00+00:00",
    }


def metrics(stage: str, steps: int, noise: random.Random) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        at = step / steps
        row: dict[str, Any] = {
            "step": step,
            "seconds": step * 0.5,
            "learning_rate": 1e-4 * math.cos(at * 1.5),
        }
        row["grad_norm"] = 1 + noise.random()
        row["loss"] = 0.4 + 2.2 * math.exp(-4 * at) + 0.12 * noise.gauss(0, 1)
        if stage in ("grpo", "rlhf"):
            row["reward"] = 0.7 - 0.3 * at + 0.04 * noise.gauss(0, 1)
            row |= rl_folder.metrics(step, steps, stage == "grpo", noise)
            row["kl"] = 0.04 * at + 0.004 * noise.random()
            row["completions/mean_length"] = 60 + 90 * at + 9 * noise.gauss(0, 1)
            row["pass_rate/math"] = min(1.0, 0.2 + 0.6 * at)
            row["entropy"] = 1.4 - at + 0.05 * noise.gauss(0, 1)
        if stage in ("dpo", "reward-model"):
            row["rewards/accuracies"] = min(1.0, 0.5 + 0.4 * at + 0.05 * noise.gauss(0, 1))
            row["rewards/margins"] = 2 * at + 0.2 * noise.gauss(0, 1)
        rows.append(row)
    return rows


def config(stage: str, steps: int) -> str:
    curriculum = {"curriculum": rl_folder.CURRICULUM} if stage == "grpo" else {}
    return yaml.safe_dump({"seed": 0, "train": {"max_steps": steps}, **curriculum}, sort_keys=False)


def samples(stage: str, noise: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index in range(24):
        environment = ("math", "tools")[index % 2]
        row: dict[str, Any] = {"step": 10 * index, "environment": environment, "status": "ok"}
        if environment == "math":
            a, b = noise.randrange(10, 99), noise.randrange(10, 99)
            row["prompt"] = f"A synthetic prompt of {stage}: what is {a} + {b}?"
            work = f"{a} + {b}: tens {a // 10 + b // 10}, ones {a % 10 + b % 10}.\n" * 3
            row["completion"] = f"{work}</think>\nThe answer is {a + b}."
            row["reward"] = float(index % 3 > 0)
        else:
            row["prompt"] = [
                {"role": "system", "content": "Tools: add_event(day, title)."},
                {"role": "user", "content": f"Put lunch on day {index}."},
            ]
            call = {"name": "add_event", "arguments": {"day": index, "title": "lunch"}}
            row["completion"] = [
                {"role": "assistant", "thinking": "An event is wanted.", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": '{"ok": true}'},
                {"role": "assistant", "content": "Lunch is in the calendar."},
            ]
            row["reward"] = round(noise.random(), 2)
        rows.append(row)
    rows[0]["completion"] = INJECTION
    rows[3] |= {"status": "timeout", "reward": None}
    return rows


def estimate(value: float, n: int = 200) -> dict[str, Any]:
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.002) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n}


def results() -> dict[str, Any]:
    stages = [stage for stage in PARENTS if stage not in ("reward-model", "evaluate")]
    cells: dict[str, Any] = {}
    differences = []
    for place, stage in enumerate(stages):
        levels = [0.08 * place + 0.02 * i for i in range(len(SUITES))]
        cells[stage] = {
            suite: {"metric": metric, **estimate(level)}
            for (suite, metric), level in zip(SUITES.items(), levels, strict=True)
        }
        for parent in PARENTS[stage].values():
            if parent in cells:
                for index, suite in enumerate(SUITES):
                    change = (
                        cells[stage][suite]["value"] - cells[parent][suite]["value"] - 0.09 * (index == 2)
                    )
                    half = 0.05 if index != 3 else 0.2
                    differences.append(
                        {"stage": stage, "parent": parent, "suite": suite, "value": change,
                         "low": change - half, "high": change + half, "n": 200}
                    )  # fmt: skip
    budget: dict[str, list[dict[str, Any]]] = {
        name: [
            {
                "budget": b,
                "accuracy": estimate(
                    0.2 + 0.6 * (1 - math.exp(-(512 if b is None else b) / 90)) - loss / 3, 100
                ),
                "well_formed": estimate(1 - loss * math.exp(-(512 if b is None else b) / 100), 100),
                "tokens": 30.0 + (400 if b is None else b) * 0.8,
            }
            for b in (0, 16, 32, 64, 128, 256, None)
        ]
        for name, loss in (("sft-3", 0.005), ("sft-3-untruncated", 0.4))
    }
    for ours, theirs in zip(budget["sft-3"], budget["sft-3-untruncated"], strict=True):
        at = "unlimited" if ours["budget"] is None else ours["budget"]
        for key, metric in (("well_formed", "well_formed"), ("accuracy", "success")):
            change = ours[key]["value"] - theirs[key]["value"]
            differences.append(
                {"stage": "sft-3", "parent": "sft-3-untruncated", "suite": "budget", "metric": f"{metric}@{at}",
                 "value": change, "low": change - 0.06, "high": change + 0.06, "n": 100, "asked": True}
            )  # fmt: skip
    for entry in differences:
        moved = {"sft-2": "math", "dpo": "tools"}
        entry["focus"] = moved.get(entry["stage"]) == entry["suite"]
    return {
        "suites": list(SUITES),
        "stages": stages,
        "cells": cells,
        "differences": differences,
        "budget": budget,
        **tool_use(),
    }


def tool_use() -> dict[str, Any]:
    """What is behind the tools suite of two stages."""
    shares = {"grpo": 0.3, "dpo": 0.1}
    return {
        "groups": {
            stage: {"tools": {"kind": {"write": estimate(0.5), "search": estimate(share)}, "steps": {"2": estimate(0.25)}}}
            for stage, share in shares.items()
        },
        "details": {
            stage: {"tools": {"success": estimate(0.5), "side_effects": estimate(share)}}
            for stage, share in shares.items()
        },
    }  # fmt: skip


def sweep() -> dict[str, Any]:
    points = []
    for tenth in range(1, 10):
        alpha = tenth / 10
        scores = {"math": estimate(0.72 - 0.35 * alpha**3), "chat": estimate(0.4 + 0.3 * alpha**0.5)}
        objective = scores["math"]["value"] * scores["chat"]["value"]
        points.append({"alpha": alpha, "scores": scores, "objective": objective})
    return {
        "suites": ["math", "chat"],
        "rule": "the largest product of math and chat",
        "chosen": max(points, key=lambda point: point["objective"])["alpha"],
        "points": points,
    }


def make_run(root: Path, steps: int = 60) -> Path:
    """A whole synthetic run: runs/synthetic with every stage finished."""
    run_root = root / "runs" / "synthetic"
    noise = random.Random(0)
    for number, (stage, parents) in enumerate(PARENTS.items()):
        folder = run_root / stage
        folder.mkdir(parents=True)
        if stage == "evaluate":
            parents = {name: name for name in PARENTS if name not in ("evaluate", "reward-model")}
        write_json(folder / "artifact.json", artifact(stage, parents, number))
        (folder / "config.yaml").write_text(config(stage, steps))
        if stage == "dpo":
            for iteration in ("iteration-1", "iteration-2"):
                (folder / iteration).mkdir()
                write_jsonl(folder / iteration / "metrics.jsonl", metrics(stage, steps, noise))
        elif stage not in ("merge", "evaluate"):
            write_jsonl(folder / "metrics.jsonl", metrics(stage, steps, noise))
        if stage in ("grpo", "dpo", "rlhf"):
            write_jsonl(folder / "samples.jsonl", samples(stage, noise))
        for name, value in rl_folder.FILES.get(stage, {}).items():
            write_json(folder / name, value)
    write_json(run_root / "evaluate" / "results.json", results())
    write_json(run_root / "merge" / "sweep.json", sweep())
    return run_root


@pytest.fixture
def run_root(tmp_path: Path) -> Path:
    return make_run(tmp_path)
