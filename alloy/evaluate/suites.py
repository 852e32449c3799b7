"""Measuring a model on suites: every item's scores are kept, so that two models compare pairwise."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alloy.environments.registry import Environments
from alloy.evaluate.asked import portions
from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.items import ItemLog
from alloy.evaluate.result import SuiteResult, result_of, tasks_of
from alloy.evaluate.scoring import Scorer
from alloy.rollout.conversation import RolloutPlan, roll_out
from alloy.rollout.engine import Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["FORM", "SuiteResult", "evaluate_suite", "result_of", "tasks_of"]

FORM = 3
"""Of an item as it is kept on disk; another number makes every item be measured again."""


def evaluate_suite(
    name: str,
    config: SuiteConfig,
    engine: Engine,
    tokenizer: "PreTrainedTokenizerBase",
    seed: int,
) -> SuiteResult:
    """Roll out a suite's tasks and judge them; nothing is kept on disk."""
    return measure_suite(name, config, lambda: engine, tokenizer, seed)


def measure_suite(
    name: str,
    config: SuiteConfig,
    open_engine: Callable[[], Engine],
    tokenizer: "PreTrainedTokenizerBase",
    seed: int,
    path: Path | None = None,
    portion_items: int = 512,
) -> SuiteResult:
    """Roll out a suite's tasks and judge them, a portion at a time.

    Args:
        open_engine: called before each portion that is left to be made.
        path: where the items are kept; those of an earlier run that was cut off are not made again.
        portion_items: completions that are made together; with other portions other ones are drawn.
    """
    environments = Environments.make({config.environment: config.options})
    environment = environments[config.environment]
    wanted = list(portions(config, environments, tokenizer, seed, portion_items))
    log = ItemLog(path)
    whole = log.keep({portion.number: len(portion.asked) for portion in wanted})
    scorer = Scorer(environment, tokenizer, config.samples, config.judge_unfinished)
    sampling = Sampling(config.max_completion_tokens, config.temperature, config.top_p)
    for portion in wanted:
        if portion.number in whole:
            continue
        engine = open_engine()
        tasks = [asked.task for asked in portion.asked]
        plan = RolloutPlan(sampling, config.max_turns, portion.budget)
        began = time.perf_counter()
        rollouts = roll_out(
            tasks, [config.thinking] * len(tasks), engine, tokenizer, environments, plan, portion.seed
        )
        log.add(scorer.rows(name, portion, rollouts, time.perf_counter() - began))
    result = result_of(name, log.rows, config.budgets)
    result.left_out = dict(getattr(environment, "left_out", {}))
    return result
