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

    Rollouts with the same token ids count once. Where a task has fewer ways to succeed than to fail, or
    the other way round, the fewer stand in several pairs; no pair is there twice.

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
        if successes and failures:
            count = min(config.pairs_per_task, max(len(successes), len(failures)))
            pairs += [Pair(successes[i % len(successes)], failures[i % len(failures)]) for i in range(count)]
    return pairs, PairCounts(len(groups), always, never, mixed, len(pairs), unjudged)


def _distinct(rollouts: Sequence[Rollout], config: PairingConfig, rng: random.Random) -> list[Rollout]:
    found = {tuple(r.token_ids): r for r in rollouts if sum(r.completion_mask) >= config.min_tokens}
    distinct = list(found.values())
    rng.shuffle(distinct)
    return distinct
