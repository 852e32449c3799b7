"""From rollouts to rewards: what is shown, and what is logged."""

from types import SimpleNamespace
from typing import Any

import pytest

from alloy.chat import THINK_CLOSE, TURN_CLOSE
from alloy.environments.task import Task
from alloy.rewards import tokens_of
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict
from rlhf.config import LengthControlConfig
from rlhf.rewards import AnswerReward, ModelScores


class Lengths:
    """A reward model that likes long answers, so that what it was shown can be read from its scores."""

    def score(self, prompts: Any, answers: Any) -> list[float | None]:
        return [None if answer == "?" else float(len(answer)) for answer in answers]


def rollout(tokenizer: Any, answer: str, thinking: str | None = None, finished: bool = True) -> Rollout:
    """One turn as the engine gives it; `thinking` None is thinking off."""
    text = f"{thinking}{THINK_CLOSE}{answer}" if thinking is not None else answer
    ids = tokenizer.encode(text + (TURN_CLOSE if finished else ""), add_special_tokens=False)
    turn = {"role": "assistant", "content": answer} | ({"thinking": thinking} if thinking else {})
    return Rollout(
        Task("t", "chat", "t", [{"role": "user", "content": "q"}]),
        thinking is not None,
        [1],
        token_ids=ids,
        completion_mask=[1] * len(ids),
        messages=[turn],
        turns=[(0, len(ids))],
        finished=finished,
        verdict=Verdict(0.5),
    )


def config(size: int, **more: Any) -> Any:
    given = {"hide_thinking": True, "unfinished_reward": -2.0, "length_control": None, "group_size": size}
    return SimpleNamespace(**given | more)


def test_hide_thinking(tiny_tokenizer: Any) -> None:
    given = [rollout(tiny_tokenizer, "ab", thinking="abc")]
    for hide, expected in ((True, 2.0), (False, 6.0)):  # abc, newline, ab
        assert ModelScores(Lengths(), hide)(given) == [expected]


def test_tokens_of_thinking_and_answer(tiny_tokenizer: Any) -> None:
    def count(text: str) -> int:
        return len(tiny_tokenizer.encode(text, add_special_tokens=False))

    on = rollout(tiny_tokenizer, "Happy to help.", thinking="a gift for tea")
    assert tokens_of(on, "thinking", tiny_tokenizer) == count("a gift for tea")
    assert tokens_of(on, "answer", tiny_tokenizer) == count("Happy to help.")
    off = rollout(tiny_tokenizer, "Happy to help.")
    assert tokens_of(off, "thinking", tiny_tokenizer) == 0
    assert tokens_of(off, "answer", tiny_tokenizer) == count("Happy to help.")
    cut = rollout(tiny_tokenizer, "Happy", finished=False)
    assert tokens_of(cut, "answer", tiny_tokenizer) == count("Happy")
    unclosed = Rollout(on.task, True, [1], token_ids=on.token_ids[:2], turns=[(0, 2)])
    assert [tokens_of(unclosed, part, tiny_tokenizer) for part in ("thinking", "answer")] == [2, 0]


def test_groups_are_shaped_apart_and_everything_is_logged(tiny_tokenizer: Any) -> None:
    given = [
        rollout(tiny_tokenizer, "aa"),
        rollout(tiny_tokenizer, "aaaa" * 3),
        rollout(tiny_tokenizer, "b" * 9, thinking="x"),
        rollout(tiny_tokenizer, "b" * 9, thinking="x", finished=False),
    ]
    score = AnswerReward(ModelScores(Lengths(), True), config(2), tiny_tokenizer)
    found = score(given)
    # The second group has one that ended: 9, and the other is two of 1 below.
    assert found.rewards == [2.0, 12.0, 9.0, 7.0] == found.outcomes
    assert found.metrics["score/thinking_off"] == 7.0
    assert found.metrics["score/thinking_on"] == 9.0
    assert found.metrics["unfinished"] == 0.25
    assert found.metrics["unscored"] == 0.0
    assert found.metrics["thinking_tokens"] == tokens_of(given[2], "thinking", tiny_tokenizer)
    assert "conciseness_bonus" not in found.metrics
    controlled = AnswerReward(
        ModelScores(Lengths(), True), config(2, length_control=LengthControlConfig()), tiny_tokenizer
    )(given)
    # Scores 2 and 12, deviation 5; the longer is the better one: no bonus, 0.25 x 5 from one to the other.
    assert controlled.rewards[:2] == pytest.approx([3.25, 10.75])
    assert controlled.metrics["conciseness_bonus"] == 0.0


def test_an_answer_without_a_score_has_no_reward_and_is_counted(tiny_tokenizer: Any) -> None:
    given = [rollout(tiny_tokenizer, "?"), rollout(tiny_tokenizer, "abc")]
    found = AnswerReward(ModelScores(Lengths(), True), config(2), tiny_tokenizer)(given)
    assert found.rewards == [None, 3.0]
    assert found.metrics["unscored"] == 0.5
