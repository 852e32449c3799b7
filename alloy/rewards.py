"""From rollouts to rewards: the outcome that the environment's verdict gives, and what is added to shape it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alloy.chat import THINK_CLOSE
from alloy.rl_config import EnvironmentConfig, ShapingConfig
from alloy.rollout.conversation import Rollout
from alloy.verify.registry import judge_row
from alloy.verify.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Scores:
    """Of rollouts, in their order; None where the verifier itself failed.

    Attributes:
        outcomes: whether the task was done, 0 to 1 for a verdict; a group's signal is read from them.
        rewards: what the policy is trained on.
        metrics: what is logged of them beside the rewards.
    """

    outcomes: list[float | None]
    rewards: list[float | None]
    metrics: dict[str, float] = field(default_factory=dict)


Score = Callable[[Sequence[Rollout]], Scores]


def verdict_outcomes(rollouts: Sequence[Rollout]) -> list[float | None]:
    """The verdict's reward; 0 for a completion that did not end, None where the verifier failed."""
    outcomes: list[float | None] = []
    for rollout in rollouts:
        verdict = rollout.verdict
        if verdict is None or verdict.reward is None:
            outcomes.append(None)
        else:
            outcomes.append(verdict.reward if rollout.finished else 0.0)
    return outcomes


class VerdictReward:
    """Every environment's outcome by its weight, and its shaping added."""

    def __init__(
        self, environments: dict[str, EnvironmentConfig], tokenizer: "PreTrainedTokenizerBase"
    ) -> None:
        self.environments = environments
        self.tokenizer = tokenizer

    def __call__(self, rollouts: Sequence[Rollout]) -> Scores:
        outcomes = verdict_outcomes(rollouts)
        rewards = [
            None if outcome is None else self._reward(rollout, outcome)
            for rollout, outcome in zip(rollouts, outcomes, strict=True)
        ]
        return Scores(outcomes, rewards)

    def _reward(self, rollout: Rollout, outcome: float) -> float:
        given = self.environments[rollout.task.environment]
        shaped = sum(item.weight * shaping_reward(rollout, item, self.tokenizer) for item in given.shaping)
        return given.weight * outcome + shaped


def shaping_reward(rollout: Rollout, shaping: ShapingConfig, tokenizer: "PreTrainedTokenizerBase") -> float:
    """A `format` or `length` verdict of a rollout, 0 to 1: of several turns the worst one's.

    A turn that did not end is malformed, whatever it holds.
    """
    return min((_turn(rollout, span, shaping, tokenizer) for span in rollout.turns), default=0.0)


def _turn(
    rollout: Rollout, span: tuple[int, int], shaping: ShapingConfig, tokenizer: "PreTrainedTokenizerBase"
) -> float:
    ids = rollout.token_ids[span[0] : span[1]]
    if not ids or ids[-1] != tokenizer.eos_token_id:
        return 0.0
    text = tokenizer.decode(ids[:-1], skip_special_tokens=False)
    row: dict[str, Any] = {"completion": text, "thinking_opened": rollout.thinking, **shaping.options}
    if shaping.verifier == "format":
        row["thinking"] = rollout.thinking
    elif shaping.options.get("unit") == "tokens":
        row["tokens"] = _tokens(ids[:-1], str(shaping.options.get("part", "answer")), rollout, tokenizer)
    verdict: Verdict = judge_row(shaping.verifier, row)
    if verdict.reward is None:
        # Nothing in a completion makes these two fail: it is the options.
        raise RuntimeError(f"shaping.{shaping.verifier}: {verdict.detail}")
    return verdict.reward


def tokens_of(rollout: Rollout, part: str, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens of a part of all turns, thinking or answer; closing tags and ends of turns in neither."""
    total = 0
    for start, end in rollout.turns:
        ids = rollout.token_ids[start:end]
        ended = bool(ids) and ids[-1] == tokenizer.eos_token_id
        total += _tokens(ids[:-1] if ended else ids, part, rollout, tokenizer)
    return total


def _tokens(ids: list[int], part: str, rollout: Rollout, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens of a part of a turn, the closing tag in neither."""
    if part == "completion":
        return len(ids)
    close = tokenizer.encode(THINK_CLOSE, add_special_tokens=False)
    if not rollout.thinking:
        return len(ids) if part == "answer" else 0
    at = next((i for i in range(len(ids)) if ids[i : i + len(close)] == close), len(ids))
    return min(at, len(ids)) if part == "thinking" else max(0, len(ids) - at - len(close))
