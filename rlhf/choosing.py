"""Which step is kept: what held-out answers are worth to somebody that the policy is not trained to please.

That is the environment's own verdict, another reward model, or a judge. What is trained on is measured beside
it: both rising is progress, the second rising alone is reward hacking.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from alloy.artifact import write_atomically
from alloy.evaluate.against import Duel, preferred_by_judge
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import Scorer
from alloy.rewards import verdict_outcomes
from alloy.rl_sampling import OUTCOME, Measure
from alloy.rollout.conversation import Rollout

Values = list[float | None]
"""One for each rollout, in their order; None for one that has none."""
Chooser = Callable[[Sequence[Rollout]], Values]


def by_reward_model(scorer: Scorer) -> Chooser:
    """The scores of a reward model; what did not end is worth what saying nothing is."""

    def scores(rollouts: Sequence[Rollout]) -> Values:
        return scorer.score([r.task.messages for r in rollouts], [_whole(r) for r in rollouts])

    return scores


class AgainstParent:
    """How often a judge prefers the policy's answers to those that its parent gave to the same prompts.

    1 where it prefers the policy's, 0 where it prefers the parent's, a half for neither. The parent itself has
    a half: its answers are equal to its own.

    Args:
        path: where the parent's answers are kept, so that a run that goes on is compared with the same ones.
            The first answers to a prompt that come here are the parent's.
    """

    def __init__(self, judge: Judge, path: Path) -> None:
        self.judge, self.path = judge, path

    def __call__(self, rollouts: Sequence[Rollout]) -> Values:
        """Raises:
        StageError: as `Judge.compare` does.
        """
        parent: dict[str, str] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        given = {f"{r.task.environment}/{r.task.id}": _whole(r) for r in rollouts}
        if not given.keys() <= parent.keys():
            parent = given | parent
            write_atomically(self.path, json.dumps(parent, indent=1))
        duels = [
            Duel(r.task.messages, ours, parent[name])
            for r, (name, ours) in zip(rollouts, given.items(), strict=True)
        ]
        return preferred_by_judge(self.judge, duels)[0]


def measure_held_out(chooser: Chooser | None, scorer: Scorer | None) -> Measure:
    """What is measured of held-out rollouts.

    Args:
        chooser: who chooses the step that is kept; the verdicts when not given. Otherwise they are measured
            beside it, where the environment has any.
        scorer: the reward model that is trained on; None where a judge is, which has no score for one answer alone.
    """

    def measure(rollouts: Sequence[Rollout]) -> dict[str, Values]:
        verdicts = verdict_outcomes(rollouts)
        found: dict[str, Values] = {OUTCOME: verdicts if chooser is None else chooser(rollouts)}
        if chooser is not None:
            found["verdict"] = verdicts
        if scorer is not None:
            scores = by_reward_model(scorer)(rollouts)
            for mode, on in (("on", True), ("off", False)):
                found[f"reward_model/thinking_{mode}"] = [
                    score if r.thinking is on else None for score, r in zip(scores, rollouts, strict=True)
                ]
        return found

    return measure


def _whole(rollout: Rollout) -> str:
    return rollout.answer if rollout.finished else ""
