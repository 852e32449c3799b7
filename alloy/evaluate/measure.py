"""Every model on every suite: results item by item, differences to the parents, one table."""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from alloy.artifact import Artifact, Parent, Run, fingerprint_json, write_atomically
from alloy.environments.task import TOOL_FAULTS
from alloy.evaluate.against import answers_of, prompts_of, win_rates
from alloy.evaluate.config import EvaluateConfig, SuiteConfig
from alloy.evaluate.statistics import paired_difference, paired_product_difference, paired_test
from alloy.evaluate.suites import FORM, SuiteResult, evaluate_suite, tasks_of
from alloy.evaluate.table import render
from alloy.judges.endpoint import Judge
from alloy.judges.reward_model import RewardModel
from alloy.policy import device_name, load_tokenizer
from alloy.rollout.engine import Engine
from alloy.rollout.factory import open_engine
from alloy.stage import say


def train(config: EvaluateConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    """Measure; named `train` as every stage's work is."""
    judge = _judge(config)
    run.begin()
    models = {name: parents[name] for name in config.models}
    results: dict[str, dict[str, SuiteResult]] = {}
    for name, parent in models.items():
        began = time.time()
        results[name] = measure_model(parent, config, run)
        told = "  ".join(f"{suite} {100 * r.interval().value:.1f}" for suite, r in results[name].items())
        say(f"  {name:14} {told}  ({time.time() - began:.0f} s)")
    summary = summarise(results, {name: _stage_parents(name, models) for name in models}, config)
    summary["win_rates"] = _win_rates(config, parents, results, judge)
    write_atomically(run.folder / "results.json", json.dumps(summary, indent=1))
    write_atomically(run.folder / "table.txt", render(summary))
    metrics = {f"{s}/{u}": cell["value"] for s, row in summary["cells"].items() for u, cell in row.items()}
    metrics |= {
        f"win_rate/{row['stage']}/{row['by']}/{key}": row[key]["value"]
        for row in summary["win_rates"]
        for key in ("plain", "controlled")
        if key in row
    }
    errors = sum(result.errors for row in results.values() for result in row.values())
    return run.finish("evaluation", {**metrics, "errors": errors}, device=device_name())


def _judge(config: EvaluateConfig) -> Judge | None:
    """The judge of the win rates, asked once before anything is measured.

    Raises:
        InputError: it does not answer.
    """
    if config.win_rate is None or config.win_rate.judge is None:
        return None
    judge = Judge(config.win_rate.judge.model_copy(update={"both_orders": True}))
    judge.prepare()
    return judge


def _win_rates(
    config: EvaluateConfig,
    parents: dict[str, Parent],
    results: dict[str, dict[str, SuiteResult]],
    judge: Judge | None,
) -> list[dict[str, Any]]:
    given = config.win_rate
    if given is None:
        return []
    answers = {
        name: answers_of(row[given.suite], load_tokenizer(parents[name].path))
        for name, row in results.items()
    }
    scorer = RewardModel(parents["reward_model"].path) if config.reward_model else None
    return win_rates(given, prompts_of(config.suites[given.suite]), answers, scorer, judge)


def measure_model(parent: Parent, config: EvaluateConfig, run: Run) -> dict[str, SuiteResult]:
    """All suites on one model; a suite already measured on these weights is read back."""
    found: dict[str, SuiteResult] = {}
    engine: Engine | None = None
    tokenizer = load_tokenizer(parent.path)
    with ExitStack() as stack:
        for name, suite in config.suites.items():
            path = run.folder / "items" / f"{_key(parent, name, suite, config)}.json"
            if path.is_file():
                found[name] = SuiteResult(**json.loads(path.read_text()))
                continue
            if engine is None:
                opened = open_engine(parent.path, tokenizer, config.rollout, suite.grace_tokens)
                engine = stack.enter_context(opened)
            engine.grace = suite.grace_tokens
            found[name] = evaluate_suite(name, suite, engine, tokenizer, config.seed)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(asdict(found[name])))
    return found


def _key(parent: Parent, name: str, suite: SuiteConfig, config: EvaluateConfig) -> str:
    what = [
        FORM,
        parent.lineage.fingerprint,
        name,
        suite.model_dump(mode="json"),
        config.rollout.engine,
        config.seed,
    ]
    return f"{name}-{fingerprint_json(what)[:16]}"


def _stage_parents(name: str, models: dict[str, Parent]) -> list[str]:
    """The measured models that a model was made from, in the order of its parents.

    They are known by their weights; of several with equal ones, the folder decides.
    """
    made = models[name].artifact
    found: list[str] = []
    for lineage in made.parents.values() if made else []:
        same = [
            other
            for other, model in models.items()
            if other != name and model.lineage.fingerprint == lineage.fingerprint
        ]
        found += ([other for other in same if models[other].lineage.path == lineage.path] or same)[:1]
    return found


def summarise(
    results: dict[str, dict[str, SuiteResult]], parents: dict[str, list[str]], config: EvaluateConfig
) -> dict[str, Any]:
    """Intervals of every cell and of its parts, and the paired difference of every stage to its parents."""
    cells = {
        stage: {suite: {"metric": r.primary, **asdict(r.interval())} for suite, r in row.items()}
        for stage, row in results.items()
    }
    differences = []
    for stage, names in parents.items():
        for parent in names:
            for suite, ours in results[stage].items():
                theirs = results[parent][suite]
                for metric in _compared(ours, theirs):
                    mine, other, tasks = _same_items(ours, theirs, metric)
                    differences.append(
                        {"stage": stage, "parent": parent, "suite": suite, "metric": metric,
                         **asdict(paired_difference(mine, other, tasks)), "p": paired_test(mine, other, tasks),
                         "focus": suite in config.focus.get(stage, ())}
                    )  # fmt: skip
    products = [
        _product(stage, parent, results, suites)
        for stage, suites in config.products.items()
        for parent in parents.get(stage, [])
    ]
    budget = {stage: r.by_budget for stage, row in results.items() for r in row.values() if r.by_budget}
    details = {
        stage: {suite: {m: asdict(r.interval(m)) for m in r.scores} for suite, r in row.items()}
        for stage, row in results.items()
    }
    groups = {
        stage: {
            suite: {
                name: {label: asdict(interval) for label, interval in labels.items()}
                for name, labels in r.by_group().items()
            }
            for suite, r in row.items()
            if r.groups
        }
        for stage, row in results.items()
    }
    return {
        "suites": list(config.suites),
        "stages": list(results),
        "cells": cells,
        "differences": differences,
        "products": products,
        "budget": budget,
        "details": details,
        "groups": groups,
    }


def _product(
    stage: str, parent: str, results: dict[str, dict[str, SuiteResult]], suites: list[str]
) -> dict[str, Any]:
    """The product of two suites' scores against a parent's, on the items that both have."""
    sides = [
        _same_items(results[stage][suite], results[parent][suite], results[stage][suite].primary)
        for suite in suites
    ]
    (ours_1, theirs_1, _), (ours_2, theirs_2, _) = sides
    return {
        "stage": stage,
        "parent": parent,
        "suites": suites,
        "product": fmean(ours_1) * fmean(ours_2),
        **asdict(paired_product_difference(ours_1, theirs_1, ours_2, theirs_2)),
    }


def _compared(ours: SuiteResult, theirs: SuiteResult) -> list[str]:
    """What stands in the table, success, and what went wrong with tools where both sides count it."""
    wanted = dict.fromkeys([ours.primary, "success", *TOOL_FAULTS])
    return [metric for metric in wanted if metric in ours.scores and metric in theirs.scores]


def _same_items(
    ours: SuiteResult, theirs: SuiteResult, metric: str
) -> tuple[list[float], list[float], list[str]]:
    """The scores of the items that both have, and their tasks; a verifier's failure on one side drops the pair."""
    other = dict(zip(theirs.items, theirs.scores[metric], strict=True))
    both = [(s, other[i], i) for i, s in zip(ours.items, ours.scores[metric], strict=True) if i in other]
    return [a for a, _, _ in both], [b for _, b, _ in both], tasks_of([i for _, _, i in both])


def read_results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found
