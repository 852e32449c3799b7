"""From scores to rewards: what did not end is punished, what is short may gain, and all of it is logged."""

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Protocol

from alloy.judges.reward_model import Scorer
from alloy.rewards import Scores, tokens_of
from alloy.rollout.conversation import Rollout
from rlhf.config import LengthControlConfig, RlhfConfig
from rlhf.length_control import Shaped, shape
from rlhf.seen import seen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Scoring(Protocol):
    """Gives rollouts their scores; None for one that has none. Groups stand one after the other."""

    metrics: dict[str, float]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]: ...


class ModelScores:
    """Scores by a reward model, in process or served."""

    def __init__(self, scorer: Scorer, hide_thinking: bool) -> None:
        self.scorer, self.hide_thinking = scorer, hide_thinking
        self.metrics: dict[str, float] = {}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        shown = [seen(rollout, self.hide_thinking) for rollout in rollouts]
        return self.scorer.score([r.task.messages for r in rollouts], shown)


class AnswerReward:
    """The reward of a rollout: its score, less where it did not end, more where it is short among its group.

    Rewards are normalised a group by the trainer (`loss.scale_rewards`); what is added here is in the unit of
    the group's own scores, so that neither drowns the other.
    """

    def __init__(self, scoring: Scoring, config: RlhfConfig, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.scoring, self.config, self.tokenizer = scoring, config, tokenizer

    def __call__(self, rollouts: Sequence[Rollout]) -> Scores:
        size = self.config.group_size
        assert len(rollouts) % size == 0
        scores = self.scoring(rollouts)
        lengths = [[tokens_of(r, part, self.tokenizer) for part in ("thinking", "answer")] for r in rollouts]
        rewards: list[float | None] = []
        gained: list[Shaped] = []
        for start in range(0, len(rollouts), size):
            cut = slice(start, start + size)
            found, shaped = group_rewards(
                scores[cut],
                [rollout.finished for rollout in rollouts[cut]],
                [thinking for thinking, _ in lengths[cut]],
                [answer for _, answer in lengths[cut]],
                self.config.unfinished_reward,
                self.config.length_control,
            )
            rewards += found
            gained.append(shaped)
        metrics = _described(rollouts, scores, lengths) | self.scoring.metrics
        if self.config.length_control is not None:
            bonuses = [bonus for shaped in gained for bonus in shaped.bonus]
            metrics["conciseness_bonus"] = fmean(bonuses) if bonuses else 0.0
        return Scores(rewards, rewards, metrics)


def group_rewards(
    scores: Sequence[float | None],
    finished: Sequence[bool],
    thinking_tokens: Sequence[int],
    answer_tokens: Sequence[int],
    unfinished_reward: float,
    control: LengthControlConfig | None,
) -> tuple[list[float | None], Shaped]:
    """The rewards of one group, and what lengths gave those that ended and have a score.

    One that did not end gets `unfinished_reward` standard deviations from the mean score of those that did,
    and never more than the lowest of their rewards; where none ended all are equal. Scores without a spread
    have a deviation of 1.
    """
    ended = [i for i, score in enumerate(scores) if score is not None and finished[i]]
    known = [score for score in (scores[i] for i in ended) if score is not None]
    deviation = pstdev(known) or 1.0 if known else 1.0
    shaped = Shaped([0.0] * len(known), [0.0] * len(known))
    if control is not None:
        shaped = shape(control, known, [thinking_tokens[i] for i in ended], [answer_tokens[i] for i in ended])
    unit = deviation if control is not None and control.unit == "deviation" else 1.0
    own = [score + unit * more for score, more in zip(known, shaped.sums, strict=True)]
    penalty = min([fmean(known) + unfinished_reward * deviation, *own]) if known else unfinished_reward
    rewards: list[float | None] = [None if ended_ else penalty for ended_ in finished]
    for index, reward in zip(ended, own, strict=True):
        rewards[index] = reward
    return rewards, shaped


def _described(
    rollouts: Sequence[Rollout], scores: Sequence[float | None], lengths: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Scores before anything is added to them, lengths in tokens, and shares of what did not end or has no score."""
    found = {
        "unfinished": fmean(not r.finished for r in rollouts),
        "unscored": fmean(score is None for score in scores),
    }
    for mode, on in (("thinking_on", True), ("thinking_off", False)):
        mine = [i for i, r in enumerate(rollouts) if r.thinking is on]
        known = [score for score in (scores[i] for i in mine) if score is not None]
        if known:
            found[f"score/{mode}"] = fmean(known)
        if mine:
            found[f"answer_tokens/{mode}"] = fmean(lengths[i][1] for i in mine)
        if mine and on:
            found["thinking_tokens"] = fmean(lengths[i][0] for i in mine)
    return found
