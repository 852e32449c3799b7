"""Win rates from kept answers: by a reward model and a judge whose taste is known, and through the stage."""

import json
from pathlib import Path
from typing import Any

import pytest

import alloy.evaluate
from alloy.evaluate.against import (
    Duel,
    answers_of,
    preferred_by_judge,
    preferred_by_score,
    prompts_of,
    win_rates,
)
from alloy.evaluate.config import EvaluateConfig, SuiteConfig, WinRateConfig
from alloy.evaluate.suites import SuiteResult
from alloy.evaluate.table import render
from alloy.judges.comparison import Judgement
from alloy.judges.endpoint import Compared

ASKED = [{"role": "user", "content": "q"}]


class Words:
    """Likes words; cannot read what is long."""

    def score(self, prompts: Any, answers: Any) -> list[float | None]:
        return [None if len(answer) > 20 else float(len(answer.split())) for answer in answers]


class LikesGood:
    """A judge that finds "good"; it has nothing to say of "?"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def compare(self, pairs: Any, seed: int = 0) -> Compared:
        self.asked += [(first, second) for _, first, second in pairs]
        return Compared([self.judgement(first, second) for _, first, second in pairs])

    def judgement(self, first: str, second: str) -> Judgement | None:
        if "?" in first + second:
            return None
        lead = ("good" in first) - ("good" in second)
        return Judgement((3.0 + lead, 3.0 - lead), 3.5 - lead)


def test_preferences_and_what_has_none() -> None:
    duels = [Duel(ASKED, ours, other) for ours, other in (("a b", "c"), ("a", "b c"), ("a", "b"), ("a" * 21, "b"))]  # fmt: skip
    assert preferred_by_score(Words(), duels) == [1.0, 0.0, 0.5, None]
    judge: Any = LikesGood()
    duels = [Duel(ASKED, ours, other) for ours, other in (("good", "c"), ("a", "good"), ("a", "b"), ("?", "b"), ("x", "x"))]  # fmt: skip
    assert preferred_by_judge(judge, duels) == ([1.0, 0.0, 0.5, None, 0.5], [])
    assert ("x", "x") not in judge.asked


def test_rates_by_model_and_by_who_prefers() -> None:
    config = WinRateConfig(reference="old")
    prompts = {str(n): ASKED for n in range(4)}
    answers = {
        "old": {"0": "c", "1": "b c", "2": "b", "3": "b"},
        "new": {"0": "good a", "1": "a", "2": "good", "3": "?"},
        "other": {"0": "c", "1": "b c", "2": "b"},
    }
    judge: Any = LikesGood()
    rows = {(r["stage"], r["by"]): r for r in win_rates(config, prompts, answers, Words(), judge)}
    assert set(rows) == {(stage, by) for stage in ("new", "other") for by in ("reward_model", "judge")}
    # By words: more, fewer, equal, equal. By the judge: won, neither, won, missing.
    assert rows["new", "reward_model"]["plain"]["value"] == (1 + 0 + 0.5 + 0.5) / 4
    assert rows["new", "judge"]["plain"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert (rows["new", "judge"]["missing"], rows["new", "reward_model"]["missing"]) == (1, 0)
    assert rows["new", "reward_model"]["words_more"] == (1 - 1 + 0 + 0) / 4
    # A model that says the same on the three tasks that both have.
    assert rows["other", "judge"]["plain"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 3}
    assert rows["other", "judge"]["controlled"] == rows["other", "judge"]["plain"]


def test_answers_come_without_thinking_and_only_whole(tiny_tokenizer: Any) -> None:
    end = tiny_tokenizer.eos_token
    rows = [
        {"task": "a", "thinking": True, "completion": f"a gift</think>\nA fern.{end}"},
        {"task": "b", "thinking": False, "completion": f"A mug.{end}"},
        {"task": "c", "thinking": False, "completion": "A mug and a"},
    ]
    result = SuiteResult("chat", "success", [], {}, completions=rows)
    found = answers_of(result, tiny_tokenizer)
    assert {task: answer.strip() for task, answer in found.items()} == {
        "a": "A fern.",
        "b": "A mug.",
        "c": "",
    }


def test_prompts_are_those_of_the_suite() -> None:
    found = prompts_of(SuiteConfig(environment="chat", items=3))
    assert len(found) == 3
    assert all(turns[-1]["role"] == "user" for turns in found.values())


CHAT = {"environment": "chat", "items": 12, "max_completion_tokens": 12}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"win_rate": {"reference": "a"}}, "nobody prefers. Give reward_model, win_rate.judge or both"),
        ({"win_rate": {"reference": "c"}, "reward_model": "r"}, "win_rate.reference: 'c' is no model here. Known: a, b"),
        ({"win_rate": {"reference": "a", "suite": "x"}, "reward_model": "r"}, "win_rate.suite: 'x' is no suite here"),
        ({"win_rate": {"reference": "a", "suite": "budget"}, "reward_model": "r"}, "'budget' has several answers"),
        ({"reward_model": "r"}, "reward_model: it prefers for win_rate"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit(changes: dict[str, Any], told: str) -> None:
    values = {
        "models": {"a": "x", "b": "y"},
        "suites": {"chat": CHAT, "budget": {**CHAT, "budgets": [1, None]}},
        **changes,
    }
    with pytest.raises(ValueError, match=told):
        EvaluateConfig.model_validate(values)


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, tiny_tokenizer: Any
) -> dict[str, Path]:
    """Two policies that say different things, and a reward model of the same size."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from alloy.policy import save_policy, seed_everything

    root = tmp_path_factory.mktemp("against")
    other = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    save_policy(other, tiny_tokenizer, root / "other")
    seed_everything(0)
    scorer = AutoModelForSequenceClassification.from_pretrained(tiny_model_folder, num_labels=1)
    scorer.config.pad_token_id = tiny_tokenizer.pad_token_id
    save_policy(scorer, tiny_tokenizer, root / "reward-model")
    return {"tiny": tiny_model_folder, "other": root / "other", "reward-model": root / "reward-model"}


def test_the_stage_has_win_rates_in_results_table_and_artifact(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "r" / "evaluate"
    values = {
        "output": str(out),
        "models": {"tiny": str(folders["tiny"]), "other": str(folders["other"])},
        "suites": {"chat": {**CHAT, "temperature": 1.0}},
        "win_rate": {"reference": "tiny"},
        "reward_model": str(folders["reward-model"]),
    }
    artifact = alloy.evaluate.run(EvaluateConfig.model_validate(values))
    (row,) = json.loads((out / "results.json").read_text())["win_rates"]
    assert (row["stage"], row["by"], row["missing"], row["plain"]["n"]) == ("other", "reward_model", 0, 12)
    assert artifact.metrics["win_rate/other/reward_model/plain"] == row["plain"]["value"]
    table = (out / "table.txt").read_text()
    assert "preferred to the reference's answers: as they are, and at equal length" in table
    assert f"other          reward model  {100 * row['plain']['value']:.1f} [" in table
    assert set(artifact.parents) == {"tiny", "other", "reward_model"}


def test_without_win_rates_the_table_says_nothing_of_them() -> None:
    summary: dict[str, Any] = {"suites": [], "stages": [], "cells": {}, "differences": [], "products": []}
    assert "preferred" not in render({**summary, "groups": {}, "details": {}})


def test_a_judge_that_is_not_there_stops_before_anything_is_measured(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from alloy.errors import InputError

    values = {
        "output": str(tmp_path / "r" / "evaluate"),
        "models": {"tiny": str(folders["tiny"])},
        "suites": {"chat": CHAT},
        "win_rate": {
            "reference": "tiny",
            "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "max_retries": 0},
        },
    }
    with pytest.raises(InputError, match=r"judge.base_url = http://127.0.0.1:9/v1.*a first request failed"):
        alloy.evaluate.run(EvaluateConfig.model_validate(values))
    assert not (tmp_path / "r").exists()


def test_prompts_of_one_s_own_are_compared_without_a_verdict(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(8)))
    own = {"environment": "prompts", "items": 8, "max_completion_tokens": 12, "temperature": 1.0}
    values = {
        "output": str(tmp_path / "r" / "evaluate"),
        "models": {"tiny": str(folders["tiny"]), "other": str(folders["other"])},
        "suites": {"own": {**own, "options": {"paths": {"test": str(path)}}}},
        "win_rate": {"reference": "tiny", "suite": "own"},
        "reward_model": str(folders["reward-model"]),
    }
    alloy.evaluate.run(EvaluateConfig.model_validate(values))
    told = json.loads((tmp_path / "r" / "evaluate" / "results.json").read_text())
    assert told["cells"]["other"]["own"]["metric"] == "well_formed"
    (row,) = told["win_rates"]
    assert (row["suite"], row["by"], row["plain"]["n"], row["missing"]) == ("own", "reward_model", 8, 0)
