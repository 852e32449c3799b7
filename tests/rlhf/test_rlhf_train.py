"""The RLHF stage for real, two updates of a few thousand weights: by a reward model, and by a scripted judge."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import longer, serving

import rlhf
from alloy.errors import InputError, StageError
from alloy.judges.comparison import write_judgement


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
        assert set(step["beside"]) == {"reward_model/thinking_on", "reward_model/thinking_off"}
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
        ({"reward_model": "x", "held_out_reward_model": "y", "validation": None}, "give `validation`"),
        (
            {
                "reward_model": "x",
                "held_out_judge": {"base_url": "http://h/v1", "model": "m"},
                "validation": None,
            },
            "held_out_judge measures at validation's steps",
        ),
        (
            {
                "reward_model": "x",
                "held_out_reward_model": "y",
                "held_out_judge": {"base_url": "http://h/v1", "model": "m"},
            },
            "one of them chooses",
        ),
    ],
)
def test_a_config_that_does_not_fit(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(Path("p"), Path("o"), **changes)


def test_a_held_out_judge_chooses_and_training_stops_when_nothing_gets_better(
    tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path
) -> None:
    from alloy.artifact import fingerprint_model

    folder = tmp_path / "r" / "rlhf"
    with serving(lambda body, number: write_judgement((3, 3), 3)) as server:
        changes = {
            "reward_model": str(tiny_reward_model),
            "held_out_judge": {"base_url": server.url, "model": "judge"},
            "validation": {"tasks": 20, "every_steps": 1, "patience": 2},
            "train": {"max_steps": 6, "per_device_batch_size": 8},
            "rollout": {"max_completion_tokens": 96, "temperature": 1.0, "thinking_share": 0.0},
            "optim": {"learning_rate": 0.05, "scheduler": "constant"},  # so that the answers change
        }
        artifact = rlhf.run(config(tiny_model_folder, folder, **changes))
        assert len(server.asked) > 1, "answers that ended were compared"
    rows = log(folder)
    # Both curves stand side by side in the log: of the judge, of the reward model, and of the verdicts.
    assert [row["step"] for row in rows] == [1, 2]
    for name in ("validation/chat", "validation/chat/verdict", "validation/chat/reward_model/thinking_off"):
        assert all(name in row for row in rows), name
    assert [row["validation/chat"] for row in rows] == [0.5, 0.5]
    told = json.loads((folder / "validation.json").read_text())
    assert (told["kept"], [step["step"] for step in told["steps"]]) == (0, [0, 1, 2])
    # Nothing was better than the parent: its weights are handed on.
    assert fingerprint_model(folder / "model") == fingerprint_model(tiny_model_folder)
    assert artifact.metrics["validation/kept_step"] == 0.0


def prompts_config(parent: Path, tmp_path: Path, **changes: Any) -> Any:
    """Prompts of a file beside the chat environment's."""
    path = tmp_path / "prompts.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"What is {n}?"}]} for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = {
        "environment": "prompts",
        "tasks": 8,
        "thinking_share": 0.0,
        "system": "Be brief.",
        "options": {"path": str(path), "shares": {"train": 0.5, "validation": 0.25, "test": 0.25}},
    }
    environments = {"chat": {"tasks": 8, "thinking_share": 1.0}, "mine": mine}
    return config(parent, tmp_path / "r" / "rlhf", environments=environments, **changes)


def test_prompts_from_a_file(tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path) -> None:
    changes = {"reward_model": str(tiny_reward_model), "held_out_reward_model": str(tiny_reward_model)}
    artifact = rlhf.run(prompts_config(tiny_model_folder, tmp_path, **changes))
    rows = log(tmp_path / "r" / "rlhf")
    for name in ("rewards/chat/mean", "rewards/mine/mean", "score/thinking_on", "score/thinking_off"):
        assert all(name in row for row in rows), name
    assert all(row["verdict/error"] == 0 for row in rows), "nothing failed: there is no verdict"
    lines = (tmp_path / "r" / "rlhf" / "samples.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    mine = [sample for sample in samples if sample["environment"] == "mine"]
    assert mine
    for sample in mine:
        assert sample["prompt"].startswith("Be brief.\nWhat is ")
        assert (sample["thinking"], sample["status"]) == (False, "not judged")
    assert all(sample["thinking"] for sample in samples if sample["environment"] == "chat")
    (first, *_) = json.loads((tmp_path / "r" / "rlhf" / "validation.json").read_text())["steps"]
    assert set(first["environments"]) == {"chat", "mine"}
    assert set(first["beside"]["verdict"]) == {"chat"}
    assert "held_out/reward_model/thinking_on/gain" in artifact.metrics


def test_without_verdicts_somebody_must_choose_the_step(
    tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"environments.mine has no verdicts .* Give held_out_judge or"):
        rlhf.run(prompts_config(tiny_model_folder, tmp_path, reward_model=str(tiny_reward_model)))
    assert not (tmp_path / "r").exists(), "told before a folder is touched"


def test_too_few_held_out_prompts_are_told_before_a_folder_is_touched(
    tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path
) -> None:
    changes = {"reward_model": str(tiny_reward_model), "validation": None, "validation_prompts": 180}
    with pytest.raises(InputError, match=r"180 tasks are asked for, and the validation split has \d+ rows"):
        rlhf.run(prompts_config(tiny_model_folder, tmp_path, **changes))
    assert not (tmp_path / "r").exists()


def test_a_run_that_goes_on_is_compared_with_the_same_parent_and_stops_at_the_same_step(
    tiny_model_folder: Path, tiny_reward_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alloy.rl import PolicyTrainer

    after_step = PolicyTrainer.after_step

    def killed(self: Any) -> bool:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return after_step(self)

    def entries(folder: Path) -> Any:
        return json.loads((folder / "validation.json").read_text())

    with serving(longer) as server:
        changes = {
            "reward_model": str(tiny_reward_model),
            "held_out_judge": {"base_url": server.url, "model": "judge"},
            "validation": {"tasks": 20, "every_steps": 1, "patience": 2},
            "train": {"max_steps": 6, "per_device_batch_size": 8, "save_steps": 1},
            "rollout": {"max_completion_tokens": 64, "temperature": 1.0, "thinking_share": 0.0},
            "optim": {"learning_rate": 0.05, "scheduler": "constant"},
        }
        rlhf.run(config(tiny_model_folder, tmp_path / "r" / "whole", **changes))
        broken = config(tiny_model_folder, tmp_path / "r" / "broken", **changes)
        monkeypatch.setattr(PolicyTrainer, "after_step", killed)
        with pytest.raises(KeyboardInterrupt):
            rlhf.run(broken)
        monkeypatch.setattr(PolicyTrainer, "after_step", after_step)
        rlhf.run(broken)
    whole = entries(tmp_path / "r" / "whole")
    assert entries(tmp_path / "r" / "broken") == whole
    assert [step["step"] for step in whole["steps"]] == [0, 1, 2]
    assert len({step["mean"] for step in whole["steps"]}) > 1, "the judge tells the steps apart"
