"""How often a policy passes each task, measured once for the same policy, tasks and sampling."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from alloy.artifact import fingerprint_json, write_atomically
from alloy.data.identity import cache_folder
from alloy.environments.registry import fingerprint_environment
from alloy.environments.task import Task
from alloy.rl_config import PolicyOptimisationConfig

PassRates = dict[str, dict[str, float]]
"""By environment, by task id, 0 to 1."""

_AT_ONCE = 512
"""Rollouts that are in memory together."""

Outcomes = Callable[[list[Task], int], Sequence[float | None]]
"""Rolls tasks out and tells what came of each; the number is where they begin among all."""


def measure_pass_rates(tasks: Sequence[Task], each: int, outcomes: Outcomes) -> dict[str, float]:
    """The mean outcome of `each` rollouts of every task; a task whose verifier always failed has 0."""
    found: dict[str, list[float]] = {task.id: [] for task in tasks}
    repeated = [task for task in tasks for _ in range(each)]
    for start in range(0, len(repeated), _AT_ONCE):
        chosen = repeated[start : start + _AT_ONCE]
        for task, outcome in zip(chosen, outcomes(chosen, start), strict=True):
            if outcome is not None:
                found[task.id].append(outcome)
    return {task: fmean(known) if known else 0.0 for task, known in found.items()}


def profile_key(config: PolicyOptimisationConfig, parent: str, world: int) -> str:
    """The identity of a profile: all that its numbers depend on."""
    rollout = config.rollout
    assert config.curriculum is not None
    return fingerprint_json(
        [
            parent,
            config.seed,
            world,
            config.curriculum.rollouts,
            rollout.model_dump(mode="json", include=_SAMPLING),
            {
                label: [
                    fingerprint_environment(given.environment or label, given.options),
                    given.model_dump(mode="json", exclude={"share", "weight", "shaping"}),
                ]
                for label, given in config.environments.items()
            },
        ]
    )


_SAMPLING = {
    "engine",
    "batch_size",
    "max_completion_tokens",
    "max_turns",
    "temperature",
    "top_p",
    "thinking_share",
    "thinking_budget",
    "grace_tokens",
}


def read_profile(key: str) -> PassRates | None:
    path = _path(key)
    return json.loads(path.read_text()) if path.is_file() else None


def keep_profile(key: str, rates: PassRates) -> None:
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(rates))


def _path(key: str) -> Path:
    return cache_folder() / "pass-rates" / f"{key[:32]}.json"


def describe(rates: Mapping[str, float]) -> dict[str, Any]:
    """How many tasks are never, sometimes and always passed, and the mean."""
    values = list(rates.values())
    return {
        "tasks": len(values),
        "mean": fmean(values),
        "never": sum(value <= 0.0 for value in values),
        "always": sum(value >= 1.0 for value in values),
    }
