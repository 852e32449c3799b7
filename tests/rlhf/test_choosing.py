"""What held-out answers are worth, by verdicts, by another reward model, and by a judge that compares with the parent."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import longer, serving

from alloy.environments.task import Task
from alloy.errors import StageError
from alloy.judges.comparison import write_judgement
from alloy.judges.config import JudgeConfig
from alloy.judges.endpoint import Judge
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict
from rlhf.choosing import AgainstParent, by_reward_model, measure_held_out

HALF = Verdict(0.5)


def rollout(
    name: str,
    answer: str,
    thinking: bool = False,
    finished: bool = True,
    label: str = "chat",
    verdict: Verdict | None = HALF,
) -> Rollout:
    task = Task(name, label, name, [{"role": "user", "content": f"q {name}"}])
    turn = {"role": "assistant", "content": answer, "thinking": "hm" if thinking else ""}
    return Rollout(task, thinking, [1], messages=[turn], finished=finished, verdict=verdict)


class Lengths:
    """A reward model that likes long answers; `sign` -1: short ones."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def score(self, prompts: Any, answers: Any) -> list[float | None]:
        return [self.sign * len(answer) for answer in answers]


GIVEN = [rollout("1", "abc", thinking=True), rollout("2", "abcd"), rollout("3", "ab", finished=False)]


def test_verdicts_choose_and_what_is_trained_on_is_measured_beside() -> None:
    assert measure_held_out(None, Lengths())(GIVEN) == {
        "outcome": [0.5, 0.5, 0.0],
        "reward_model/thinking_on": [3.0, None, None],
        # What did not end is worth what an empty answer is.
        "reward_model/thinking_off": [None, 4.0, 0.0],
    }
    assert measure_held_out(None, None)(GIVEN) == {"outcome": [0.5, 0.5, 0.0]}


def test_another_reward_model_chooses_and_the_verdicts_are_beside() -> None:
    found = measure_held_out(by_reward_model(Lengths(-1.0)), Lengths())(GIVEN)
    assert (found["outcome"], found["verdict"]) == ([-3.0, -4.0, 0.0], [0.5, 0.5, 0.0])
    silent = measure_held_out(by_reward_model(Lengths()), None)([rollout("1", "a", verdict=None)])
    assert silent == {"outcome": [1.0], "verdict": [None]}


def judge(url: str, **changes: Any) -> Judge:
    return Judge(JudgeConfig.model_validate({"base_url": url, "model": "judge", "max_retries": 0, **changes}))


def test_a_judge_compares_with_the_parent_s_answers_also_in_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    with serving(longer) as server:
        against = AgainstParent(judge(server.url), path)
        parent = [rollout("1", "aaa"), rollout("2", "bbb"), rollout("3", "ccc", finished=False)]
        assert against(parent) == [0.5, 0.5, 0.5]
        assert server.asked == [], "equal answers are a tie"
        # Of another environment with a task of the same name.
        assert against([rollout("1", "a", label="more")]) == [0.5]
        later = [rollout("1", "aaaaa"), rollout("2", "b"), rollout("3", "cc")]
        assert against(later) == [1.0, 0.0, 1.0]
        assert AgainstParent(judge(server.url), path)(later) == [1.0, 0.0, 1.0]
    assert json.loads(path.read_text())["chat/1"] == "aaa"


def test_a_missing_comparison_is_no_outcome_and_too_many_stop(tmp_path: Path) -> None:
    def refuses_b(body: dict[str, Any], number: int) -> str:
        return "No." if '"b"' in body["messages"][1]["content"] else write_judgement((1, 5), 6)

    with serving(refuses_b) as server:
        against = AgainstParent(judge(server.url, max_tries=1), tmp_path / "answers.json")
        against([rollout("1", "x"), rollout("2", "x")])
        # It prefers a place: both orders together prefer nobody.
        assert against([rollout("1", "a"), rollout("2", "b")]) == [0.5, None]
        with pytest.raises(
            StageError, match=r"2 of 2 comparisons are missing, judge.max_missing_share = 0.5"
        ):
            against([rollout("1", "b"), rollout("2", "b")])
