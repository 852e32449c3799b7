"""The project's own suites as what a sweep evaluates."""

from collections.abc import Mapping
from typing import Any

from alloy.artifact import fingerprint_json
from alloy.evaluate.config import SuiteConfig, suites_fingerprint
from alloy.evaluate.suites import evaluate_suite
from alloy.rollout.transformers_engine import TransformersEngine
from merge.mixture import Setting
from merge.points import Evaluate


def evaluator(suites: Mapping[str, SuiteConfig], batch_size: int, seed: int) -> Evaluate:
    """Every suite's primary metric, item by item."""

    def evaluate(model: Any, tokenizer: Any, setting: Setting) -> dict[str, list[float]]:
        scores = {}
        for name, suite in suites.items():
            engine = TransformersEngine(model, tokenizer, batch_size, suite.grace_tokens)
            result = evaluate_suite(name, suite, engine, tokenizer, seed)
            scores[name] = result.scores.get(result.primary, [])
        return scores

    return evaluate


def measure_of(suites: Mapping[str, SuiteConfig], seed: int) -> str:
    """The identity of what `evaluator` measures: the suites, the code of their tasks, the seed."""
    asked = {name: suite.model_dump(mode="json") for name, suite in suites.items()}
    return fingerprint_json([asked, suites_fingerprint(list(suites.values())), seed])
