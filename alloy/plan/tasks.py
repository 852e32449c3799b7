"""What rolling out an environment's tasks comes to, by its config alone: no task is made."""

from collections.abc import Iterable

from alloy.evaluate.config import SuiteConfig
from alloy.plan.launch import Launch
from alloy.plan.work import Sampling, sampling_of
from alloy.rl_config import EngineConfig

WORLDS = frozenset({"workplace", "workbench", "tool_hallucination", "python", "problems", "trl"})
"""Environments in which a conversation may go on after the first turn; in one of the user's own it may, too."""


def turns_of(environment: str, max_turns: int) -> int:
    """The most turns that the policy has with one task."""
    return max_turns if environment in WORLDS or ":" in environment else 1


def suite_sampling(
    suites: Iterable[tuple[str, SuiteConfig]], engine: EngineConfig, launch: Launch, models: int
) -> tuple[tuple[Sampling, ...], tuple[str, ...]]:
    """What measuring so many models on suites samples, and notes on what the config does not say.

    A suite is measured in one process: only one device samples.
    """
    found, notes = [], []
    for name, suite in suites:
        if suite.items is None:
            notes.append(f"suite {name}: its items are a benchmark's own and are not counted")
            continue
        turns = turns_of(suite.environment, suite.max_turns)
        conditions = len(suite.lengths) or len(suite.budgets)
        each = suite.items * suite.samples * conditions
        sampling = sampling_of(
            f"suite {name}",
            each * models,
            engine,
            launch,
            completion=suite.max_completion_tokens * turns,
            beside_training=False,
            multi_turn=turns > 1,
            divided=False,
            at_once=each,
            prompt=max(suite.lengths, default=None),
        )
        found.append(sampling)
    return tuple(found), tuple(notes)
