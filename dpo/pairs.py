"""Rollouts of one task to preference pairs: a success over a failure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from alloy.rollout.conversation import Rollout
from dpo.config import PairingConfig


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rollouts of the same task by the same policy."""

    chosen: Rollout
    rejected: Rollout

    def row(self) -> dict[str, list[int]]:
        """Token ids, and 1 where the policy wrote the token: what the tools said carries no loss."""
        return {
            "prompt_ids": self.chosen.prompt_ids,
            "chosen_ids": self.chosen.token_ids,
            "rejected_ids": self.rejected.token_ids,
            "chosen_mask": self.chosen.completion_mask,
            "rejected_mask": self.rejected.completion_mask,
        }


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What became of the tasks of an iteration."""

    tasks: int
    always_won: int
    never_won: int
    mixed: int
    pairs: int
    unjudged: int

    def as_metrics(self) -> dict[str, float]:
        return {f"pairs/{name}": float(getattr(self, name)) for name in self.__slots__}


def make_pairs(
    groups: Sequence[Sequence[Rollout]], config: PairingConfig, seed: int
) -> tuple[list[Pair], PairCounts]:
    """Pair successes with failures of the same task; tasks without either are counted.

    The same token ids stand in a task's pairs once on each side: near-duplicates teach nothing new.

    Args:
        groups: the rollouts of each task.
    """
    pairs: list[Pair] = []
    always = never = mixed = unjudged = 0
    for number, group in enumerate(groups):
        judged = [r for r in group if r.verdict is not None and r.verdict.reward is not None]
        unjudged += len(group) - len(judged)
        won = [r for r in judged if r.verdict and r.verdict.reward == 1.0 and r.finished]
        lost = [r for r in judged if r not in won]
        always += bool(won) and not lost
        never += bool(lost) and not won
        mixed += bool(won and lost)
        rng = random.Random(f"{seed}/{number}")
        successes, failures = _distinct(won, config, rng), _distinct(lost, config, rng)
        pairs += [Pair(c, r) for c, r in zip(successes, failures, strict=False)][: config.pairs_per_task]
    return pairs, PairCounts(len(groups), always, never, mixed, len(pairs), unjudged)


def _distinct(rollouts: Sequence[Rollout], config: PairingConfig, rng: random.Random) -> list[Rollout]:
    found = {tuple(r.token_ids): r for r in rollouts if sum(r.completion_mask) >= config.min_tokens}
    distinct = list(found.values())
    rng.shuffle(distinct)
    return distinct
