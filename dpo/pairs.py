"""Rollouts of one task to preference pairs: a success over a failure."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alloy.rollout.conversation import Rollout
from dpo.config import PairingConfig


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rollouts of the same task, by the same policy unless `off_policy`: then the chosen is a known solution."""

    chosen: Rollout
    rejected: Rollout
    off_policy: bool = False

    def row(self) -> dict[str, Any]:
        """Token ids, and 1 where the policy wrote the token: what the tools said carries no loss."""
        return {
            "task": self.chosen.task.id,
            "environment": self.chosen.task.environment,
            "off_policy": self.off_policy,
            "prompt_ids": self.chosen.prompt_ids,
            "chosen_ids": self.chosen.token_ids,
            "rejected_ids": self.rejected.token_ids,
            "chosen_mask": self.chosen.completion_mask,
            "rejected_mask": self.rejected.completion_mask,
        }


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What became of the tasks of an iteration.

    Attributes:
        mixed: tasks with both a success and a failure: what an iteration can learn from.
        pairs: of them all, `off_policy` ones among them.
        duplicates: rollouts that were left out as equal or nearly equal to another of their side.
        unjudged: rollouts that the verifier could not judge.
    """

    tasks: int
    always_won: int
    never_won: int
    mixed: int
    pairs: int
    off_policy: int
    duplicates: int
    unjudged: int

    def as_metrics(self) -> dict[str, float]:
        found = {f"pairs/{name}": float(getattr(self, name)) for name in self.__slots__}
        return found | {"pairs/mixed_share": self.mixed / max(1, self.tasks)}


def make_pairs(
    groups: Sequence[Sequence[Rollout]],
    config: PairingConfig,
    seed: int,
    solutions: Sequence[Rollout | None] | None = None,
) -> tuple[list[Pair], PairCounts]:
    """Pair successes with failures of the same task; tasks without either are counted.

    Where a task has fewer ways to succeed than to fail, or the other way round, the fewer stand in several
    pairs; no pair is there twice.

    Args:
        groups: the rollouts of each task.
        solutions: the known solution of each task, that of a task never won to be paired with its failures.
    """
    pairs: list[Pair] = []
    always = never = mixed = unjudged = duplicates = 0
    for number, group in enumerate(groups):
        judged = [r for r in group if r.verdict is not None and r.verdict.reward is not None]
        unjudged += len(group) - len(judged)
        won = [r for r in judged if r.verdict and r.verdict.reward == 1.0 and r.finished]
        lost = [r for r in judged if r not in won]
        always += bool(won) and not lost
        never += bool(lost) and not won
        mixed += bool(won and lost)
        solution = solutions[number] if solutions and lost and not won else None
        rng = random.Random(f"{seed}/{number}")
        successes, near = distinct([solution] if solution else won, config, rng)
        failures, near_too = distinct(lost, config, rng)
        duplicates += near + near_too
        found = _pair(successes, failures, config)
        pairs += [Pair(chosen, rejected, solution is not None) for chosen, rejected in found]
    off_policy = sum(pair.off_policy for pair in pairs)
    return pairs, PairCounts(len(groups), always, never, mixed, len(pairs), off_policy, duplicates, unjudged)


def _pair(
    successes: list[Rollout], failures: list[Rollout], config: PairingConfig
) -> list[tuple[Rollout, Rollout]]:
    if not successes or not failures:
        return []
    if config.by == "closest":
        both = [(s, f) for s in successes for f in failures]
        # Stable: of equally close ones the drawn order decides.
        return sorted(both, key=lambda pair: -shared(*pair))[: config.pairs_per_task]
    if config.by == "shortest":
        successes = sorted(successes, key=lambda rollout: sum(rollout.completion_mask))
    count = min(config.pairs_per_task, max(len(successes), len(failures)))
    return [(successes[i % len(successes)], failures[i % len(failures)]) for i in range(count)]


def distinct(
    rollouts: Sequence[Rollout], config: PairingConfig, rng: random.Random
) -> tuple[list[Rollout], int]:
    """Those worth pairing, in a drawn order, and how many were left out as one another's likeness."""
    drawn = [r for r in rollouts if sum(r.completion_mask) >= config.min_tokens]
    rng.shuffle(drawn)
    kept: list[Rollout] = []
    for rollout in drawn:
        if all(shared(rollout, other) < config.near_duplicate for other in kept):
            kept.append(rollout)
    return kept, len(drawn) - len(kept)


def shared(one: Rollout, other: Rollout) -> float:
    """The part of two rollouts' written tokens that both have, counted as often as both do (Dice, 0 to 1)."""
    if one.token_ids == other.token_ids:
        return 1.0
    first, second = _written(one), _written(other)
    total = first.total() + second.total()
    # The same tokens in another order are another text.
    return min(2 * (first & second).total() / total, 1 - 1 / total) if total else 1.0


def _written(rollout: Rollout) -> Counter[int]:
    return Counter(
        token for token, bit in zip(rollout.token_ids, rollout.completion_mask, strict=True) if bit
    )
