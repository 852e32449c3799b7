"""From verdicts to rewards, with shaping in tokens of a real tokenizer."""

from typing import Any

import pytest

from alloy.chat import THINK_CLOSE, TURN_CLOSE
from alloy.environments.task import Task
from alloy.rewards import VerdictReward, shaping_reward, verdict_outcomes
from alloy.rl_config import EnvironmentConfig, ShapingConfig
from alloy.rollout.conversation import Rollout
from alloy.verify.verdict import Verdict


def rollout(verdict: Verdict | None, finished: bool = True) -> Rollout:
    return Rollout(Task("t", "math", "t", []), True, [1], finished=finished, verdict=verdict)


def written(tokenizer: Any, *turns: str, thinking: bool = True, verdict: Verdict | None = None) -> Rollout:
    """A rollout of these turns, each with its end of turn unless it ends in `...`."""
    found = Rollout(Task("t", "math", "t", []), thinking, [1], finished=True, verdict=verdict)
    for text in turns:
        start = len(found.token_ids)
        end = "" if text.endswith("...") else TURN_CLOSE
        found.token_ids += tokenizer.encode(text + end, add_special_tokens=False)
        found.turns.append((start, len(found.token_ids)))
    return found


def shaping(verifier: str, **options: Any) -> ShapingConfig:
    return ShapingConfig.model_validate({"verifier": verifier, "weight": 0.5, "options": options})


def test_the_verifier_s_own_failure_is_no_zero() -> None:
    given: list[Any] = [
        rollout(Verdict(1.0)),
        rollout(Verdict(0.25)),
        rollout(Verdict(0.0, "unparsable")),
        rollout(Verdict(None, "timeout")),
        rollout(Verdict(None, "error")),
        rollout(None),
        rollout(Verdict(1.0), finished=False),
        rollout(Verdict(None, "timeout"), finished=False),
    ]
    assert verdict_outcomes(given) == [1.0, 0.25, 0.0, None, None, None, 0.0, None]


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        (f"2+2=4\n{THINK_CLOSE}\nIt is 4.", True, 1.0),
        (f"2+2=4\n{THINK_CLOSE}\n", True, 0.0),
        ("2+2=4. It is 4.", True, 0.0),
        (f"a{THINK_CLOSE}b{THINK_CLOSE}c", True, 0.0),
        (f"2+2=4\n{THINK_CLOSE}\nIt is...", True, 0.0),
        ("It is 4.", False, 1.0),
        (f"{THINK_CLOSE}It is 4.", False, 0.0),
    ],
)
def test_format(tiny_tokenizer: Any, text: str, thinking: bool, expected: float) -> None:
    given = written(tiny_tokenizer, text, thinking=thinking)
    assert shaping_reward(given, shaping("format"), tiny_tokenizer) == expected


def test_of_several_turns_the_worst_counts(tiny_tokenizer: Any) -> None:
    good, bad = f"a\n{THINK_CLOSE}\nb", "no close"
    assert shaping_reward(written(tiny_tokenizer, good, good), shaping("format"), tiny_tokenizer) == 1.0
    assert shaping_reward(written(tiny_tokenizer, bad, good), shaping("format"), tiny_tokenizer) == 0.0


def test_length_in_tokens_of_each_part(tiny_tokenizer: Any) -> None:
    thought, answer = "one two three four", "yes"
    given = written(tiny_tokenizer, f"{thought}{THINK_CLOSE}{answer}")
    counts = {
        "thinking": len(tiny_tokenizer.encode(thought)),
        "answer": len(tiny_tokenizer.encode(answer)),
        "completion": len(tiny_tokenizer.encode(thought)) + len(tiny_tokenizer.encode(answer)) + 1,
    }
    assert counts["thinking"] > counts["answer"] >= 1
    for part, count in counts.items():
        for limit, expected in ((count, 1.0), (count - 1, 0.0)):
            asked = shaping("length", unit="tokens", part=part, maximum=limit)
            assert shaping_reward(given, asked, tiny_tokenizer) == expected, (part, limit)


def test_the_reward_is_the_weighted_outcome_and_the_shaping(tiny_tokenizer: Any) -> None:
    environment = EnvironmentConfig.model_validate(
        {
            "tasks": 1,
            "weight": 2.0,
            "shaping": [
                {"verifier": "format", "weight": 0.25},
                {"verifier": "length", "weight": -0.125, "options": {"maximum": 3, "unit": "words"}},
            ],
        }
    )
    good = f"a\n{THINK_CLOSE}\nfive words are too many"
    rollouts = [
        written(tiny_tokenizer, good, verdict=Verdict(1.0)),
        written(tiny_tokenizer, f"a\n{THINK_CLOSE}\nshort", verdict=Verdict(0.5)),
        written(tiny_tokenizer, "no close", verdict=Verdict(0.0, "unparsable")),
        written(tiny_tokenizer, good, verdict=Verdict(None, "timeout")),
    ]
    scores = VerdictReward({"math": environment}, tiny_tokenizer)(rollouts)
    assert scores.outcomes == [1.0, 0.5, 0.0, None]
    assert scores.rewards == [2.25, 1.0 + 0.25 - 0.125, 0.0, None]
