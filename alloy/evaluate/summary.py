"""Results of all models on all suites, as `results.json` has them: intervals, and what differs from what."""

from dataclasses import asdict
from statistics import fmean
from typing import Any

from alloy.environments.task import TOOL_FAULTS
from alloy.evaluate.config import EvaluateConfig
from alloy.evaluate.result import READINGS, SuiteResult, tasks_of
from alloy.evaluate.statistics import (
    Interval,
    paired_difference,
    paired_product_difference,
    paired_test,
    weighted_interval,
)

Results = dict[str, dict[str, SuiteResult]]
"""By model and suite."""


def summarise(results: Results, parents: dict[str, list[str]], config: EvaluateConfig) -> dict[str, Any]:
    """Intervals of every cell and of its parts, and the paired differences.

    Args:
        parents: by model, those that it is compared with item by item.
    """
    groups = {
        stage: {suite: _groups(r) for suite, r in row.items() if r.groups or r.families}
        for stage, row in results.items()
    }
    choices = {
        stage: {suite: choice for suite, r in row.items() if (choice := r.budget_choice())}
        for stage, row in results.items()
    }
    return {
        "suites": list(config.suites),
        "stages": list(results),
        "cells": _each(results, lambda r: {"metric": r.primary, **asdict(r.interval())}),
        "differences": _differences(results, parents, config),
        "products": [
            _product(stage, parent, results, suites)
            for stage, suites in config.products.items()
            for parent in parents.get(stage, [])
        ],
        "budget": _budgets(results),
        "budget_choice": {stage: row for stage, row in choices.items() if row},
        "details": _each(results, lambda r: {metric: asdict(r.interval(metric)) for metric in r.scores}),
        "groups": groups,
        "errors": _each(results, lambda r: r.errors),
        "left_out": {suite: r.left_out for row in results.values() for suite, r in row.items() if r.left_out},
    }


def _each(results: Results, of: Any) -> dict[str, dict[str, Any]]:
    return {stage: {suite: of(result) for suite, result in row.items()} for stage, row in results.items()}


def _groups(result: SuiteResult) -> dict[str, dict[str, Any]]:
    return {
        name: {label: asdict(interval) for label, interval in labels.items()}
        for name, labels in result.by_group().items()
    }


def _budgets(results: Results) -> dict[str, Any]:
    """By model its curve; by model and suite where several suites have one."""
    suites = {suite for row in results.values() for suite, result in row.items() if result.by_budget}
    return {
        stage if len(suites) == 1 else f"{stage}: {suite}": result.by_budget
        for stage, row in results.items()
        for suite, result in row.items()
        if result.by_budget
    }


def _differences(
    results: Results, parents: dict[str, list[str]], config: EvaluateConfig
) -> list[dict[str, Any]]:
    found = []
    for stage, names in parents.items():
        for parent in names:
            for suite, ours in results[stage].items():
                theirs = results[parent][suite]
                told = {metric: _difference(ours, theirs, metric) for metric in _compared(ours, theirs)}
                told |= _by_budget(ours, theirs)
                place = {
                    "focus": suite in config.focus.get(stage, ()),
                    "asked": parent in config.compare.get(stage, ()),
                }
                found += [
                    {"stage": stage, "parent": parent, "suite": suite, "metric": metric, **given, **place}
                    for metric, given in told.items()
                    if given
                ]
    return found


def _by_budget(ours: SuiteResult, theirs: SuiteResult) -> dict[str, dict[str, Any]]:
    """Accuracy and well-formedness at each budget that both have, as `success@16`, `success@unlimited`."""
    budgets = [entry["budget"] for entry in ours.by_budget]
    shared = [entry["budget"] for entry in theirs.by_budget if entry["budget"] in budgets]
    return {
        f"{metric}@{'unlimited' if budget is None else budget}": _difference(
            ours.at_budget(budget), theirs.at_budget(budget), metric
        )
        for budget in shared
        for metric in ("success", "well_formed")
        if metric in ours.scores and metric in theirs.scores
    }


def _difference(ours: SuiteResult, theirs: SuiteResult, metric: str) -> dict[str, Any]:
    """The paired difference, its interval and p value; nothing where no item was judged on both sides."""
    mine, other, items = _same_items(ours, theirs, metric)
    if not items:
        return {}
    tasks = tasks_of(items)
    interval: Interval = paired_difference(mine, other, tasks)
    if metric in ours.weights:
        # An item's instructions are the same for both.
        weight_of = dict(zip(ours.items, ours.weights[metric], strict=True))
        weights = [weight_of[item] for item in items]
        interval = weighted_interval([a - b for a, b in zip(mine, other, strict=True)], weights, tasks)
        mine = [score * weight for score, weight in zip(mine, weights, strict=True)]
        other = [score * weight for score, weight in zip(other, weights, strict=True)]
    return {**asdict(interval), "p": paired_test(mine, other, tasks)}


def _product(stage: str, parent: str, results: Results, suites: list[str]) -> dict[str, Any]:
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
    """What stands in the table, success, what went wrong with tools, and other readings of the same answers."""
    others = [metric for metric in ours.scores if metric.startswith(READINGS)]
    wanted = dict.fromkeys([ours.primary, "success", *TOOL_FAULTS, *others])
    return [metric for metric in wanted if metric in ours.scores and metric in theirs.scores]


def _same_items(
    ours: SuiteResult, theirs: SuiteResult, metric: str
) -> tuple[list[float], list[float], list[str]]:
    """The scores of the items that both have, and those; a verifier's failure on one side drops the pair."""
    other = dict(zip(theirs.items, theirs.scores[metric], strict=True))
    both = [(s, other[i], i) for i, s in zip(ours.items, ours.scores[metric], strict=True) if i in other]
    return [a for a, _, _ in both], [b for _, b, _ in both], [i for _, _, i in both]
