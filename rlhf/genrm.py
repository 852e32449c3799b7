"""A generative reward model: a judge compares the completions of a group, each with its neighbour in a circle.

N completions have N comparisons, (0, 1), (1, 2), ... (N - 1, 0): each stands in two, and its reward is the mean
of its two scores. Source: Nemotron 3 Nano (arXiv:2512.20848). A missing comparison leaves the mean to the other
one; a completion whose two are missing has no reward, so that it is in no baseline and carries no loss.
"""

from collections.abc import Sequence
from statistics import fmean

from alloy.judges.comparison import Judgement
from alloy.judges.endpoint import Judge, Pair
from alloy.rollout.conversation import Rollout
from rlhf.seen import seen


def circle(count: int) -> list[tuple[int, int]]:
    """Who is compared with whom; two have one comparison, and one has none."""
    if count < 3:
        return [(0, 1)] if count == 2 else []
    return [(i, (i + 1) % count) for i in range(count)]


def circle_scores(count: int, judgements: Sequence[Judgement | None]) -> list[float | None]:
    """The mean of what each completion has from the comparisons of `circle(count)` that are not missing."""
    given: list[list[float]] = [[] for _ in range(count)]
    for (first, second), judgement in zip(circle(count), judgements, strict=True):
        if judgement is not None:
            for index, score in zip((first, second), judgement.scores(), strict=True):
                given[index].append(score)
    return [fmean(scores) if scores else None for scores in given]


class JudgeScores:
    """Scores of rollouts whose groups stand one after the other.

    Attributes:
        metrics: of the last call: `judge/missing`, a share of the comparisons; `judge/unreadable`, of the
            requests; `judge/steady`, of the comparisons in both orders, where the same answer was preferred in both.
    """

    def __init__(self, judge: Judge, group_size: int, hide_thinking: bool) -> None:
        self.judge, self.group_size, self.hide_thinking = judge, group_size, hide_thinking
        self.metrics: dict[str, float] = {}
        self._calls = 0

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Raises:
        StageError: as `Judge.compare` does.
        """
        size, pairs = self.group_size, circle(self.group_size)
        groups = [rollouts[start : start + size] for start in range(0, len(rollouts), size)]
        asked: list[Pair] = []
        for group in groups:
            answers = [seen(rollout, self.hide_thinking) for rollout in group]
            asked += [(group[0].task.messages, answers[i], answers[j]) for i, j in pairs]
        self._calls += 1
        found = self.judge.compare(asked, seed=self._calls)
        self.metrics = {
            "judge/missing": found.missing / max(1, len(asked)),
            "judge/unreadable": found.unreadable / max(1, found.requests),
        }
        if found.steady:
            self.metrics["judge/steady"] = fmean(found.steady)
        scores: list[float | None] = []
        for number in range(len(groups)):
            mine = found.judgements[number * len(pairs) : (number + 1) * len(pairs)]
            scores += circle_scores(size, mine)
        return scores
