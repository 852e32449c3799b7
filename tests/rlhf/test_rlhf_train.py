"""The RLHF stage for real, two updates of a few thousand weights: by a reward model, and by a scripted judge."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_genrm import longer, serving

import rlhf
from alloy.errors import StageError


def config(parent: Path, output: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "output": str(output),
        "parent": str(parent),
        "environments": {"chat": {"tasks": 8}},
        "rollout": {"max_completion_tokens": 12, "temperature": 1.0, "thinking_share": 0.5},
        "prompts_per_step": 4,
        "group_size": 4,
        "loss": {"kl_coef": 0.02},
        "length_control": {},
        "validation": {"tasks": 6, "every_steps": 1},
        "validation_prompts": 3,
        "optim": {"learning_rate": 1.0e-3, "scheduler": "constant"},
        "train": {"max_steps": 2, "per_device_batch_size": 8},
        "logging": {"every_steps": 1, "tensorboard": False},
        **changes,
    }
    return rlhf.CONFIG.model_validate(values)


def log(folder: Path) -> list[dict[str, Any]]:
    """What was logged of the updates; the last line, of the whole run, is left out."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward" in row]


def test_by_a_reward_model(tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r" / "rlhf"
    artifact = rlhf.run(config(tiny_model_folder, folder, reward_model=str(tiny_reward_model)))
    rows = log(folder)
    assert [row["step"] for row in rows] == [1, 2]
    for name in ("reward", "kl", "unfinished", "unscored", "conciseness_bonus"):
        assert all(name in row for row in rows), name
    assert any(name.startswith("score/thinking_") for row in rows for name in row)
    steps = json.loads((folder / "validation.json").read_text())["steps"]
    assert [step["step"] for step in steps] == [0, 1, 2]
    for step in steps:
        assert set(step["beside"]) <= {"reward model, thinking on", "reward model, thinking off"}
        assert sum(cells["chat"]["n"] for cells in step["beside"].values()) == 6
    assert "held_out/answer_tokens/thinking_off/gain" in artifact.metrics
    assert artifact.metrics["unscored"] == 0.0


def test_by_a_judge(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r" / "rlhf"
    with serving(longer) as server:
        judge = {"base_url": server.url, "model": "judge", "both_orders": False}
        artifact = rlhf.run(config(tiny_model_folder, folder, judge=judge))
    # Asked once before, then two steps of four circles of four.
    assert len(server.asked) == 1 + 2 * 4 * 4
    assert [row["judge/missing"] for row in log(folder)] == [0.0, 0.0]
    assert artifact.metrics["judge/missing"] == 0.0
    scores = [value for row in log(folder) for name, value in row.items() if name.startswith("score/")]
    # A tie-broken score may leave 1 to 5 by 2.5.
    assert scores
    assert all(-1.5 <= score <= 7.5 for score in scores)


def test_a_judge_that_turns_to_nonsense_stops_the_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    with serving(lambda body, number: longer(body) if number < 8 else "Lovely weather.") as server:
        judge = {"base_url": server.url, "model": "judge", "max_tries": 1}
        with pytest.raises(StageError, match="comparisons are missing"):
            rlhf.run(config(tiny_model_folder, tmp_path / "r" / "rlhf", judge=judge, validation=None))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "one of reward_model, reward_model_url and judge; given: none"),
        ({"reward_model": "x", "reward_model_url": "y"}, "given: reward_model, reward_model_url"),
        (
            {"judge": {"base_url": "http://h/v1", "model": "m"}, "group_size": 2},
            "group_size = 2: a judge compares three completions or more",
        ),
        ({"reward_model": "x", "held_out_reward_model": "y", "validation": None}, "give `validation`"),
    ],
)
def test_a_config_that_does_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(Path("p"), Path("o"), **changes)
