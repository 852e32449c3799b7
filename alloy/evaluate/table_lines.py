"""What stands below the table of stages by suites, a line each."""

from typing import Any

from alloy.evaluate.result import READINGS


def compared(summary: dict[str, Any]) -> list[str]:
    """What was asked to be compared, item by item, with the p value of the paired test."""
    lines = [
        f"{d['stage']:14} {d['suite']:14} {d['metric']:18} {points(d):26} to {d['parent']}; p = {d['p']:.3g}, n {d['n']}"
        for d in summary["differences"]
        if d.get("asked")
    ]
    return ["", "the same items, percent points [95% interval]", *lines] if lines else []


def readings(summary: dict[str, Any]) -> list[str]:
    """Other readings of the same answers: of several samples, of single instructions, loosely."""
    lines = [
        f"{stage:14} {suite:14} {metric:18} {cell(found, '')} n {found['n']}"
        for stage, row in summary.get("details", {}).items()
        for suite, metrics in row.items()
        for metric, found in metrics.items()
        if metric.startswith(READINGS)
    ]
    return ["", "other readings of the same answers, percent [95% interval]", *lines] if lines else []


def chosen(summary: dict[str, Any]) -> list[str]:
    """The smallest budget within one standard error of the best accuracy, overall and by group."""
    lines = []
    for stage, suites in summary.get("budget_choice", {}).items():
        for suite, told in suites.items():
            groups = {"": {"overall": told["overall"]}} | {k: v for k, v in told.items() if k != "overall"}
            lines += [
                f"{stage:14} {suite:14} {f'{name} {label}'.strip():18} {_budget(choice['budget']):>9} "
                f"{cell(choice['accuracy'], '')}; best {_budget(choice['best_budget'])} "
                f"{100 * choice['best_accuracy']['value']:.1f}, standard error {100 * choice['standard_error']:.1f}"
                for name, labels in groups.items()
                for label, choice in labels.items()
            ]
    head = "the smallest budget within one standard error of the best accuracy, percent [95% interval]"
    return ["", head, *lines] if lines else []


def _budget(budget: int | None) -> str:
    return "unlimited" if budget is None else str(budget)


def not_measured(summary: dict[str, Any]) -> list[str]:
    """What the verifier failed on, and rows that ask for what nobody here can check."""
    lines = [
        f"{stage:14} {suite:14} {count} items without a verdict: the verifier failed"
        for stage, row in summary.get("errors", {}).items()
        for suite, count in row.items()
        if count
    ]
    lines += [
        f"{suite:14} left out, not supported: {', '.join(f'{name} ({count})' for name, count in sorted(told.items()))}"
        for suite, told in summary.get("left_out", {}).items()
    ]
    return ["", "not measured", *lines] if lines else []


def curve(summary: dict[str, Any]) -> list[str]:
    """What a thinking budget gives and costs."""
    lines = [
        f"{stage:14} {_budget(entry['budget']):>9}  accuracy {cell(entry.get('accuracy'), ''):22} well-formed "
        f"{cell(entry['well_formed'], ''):22} {_number(entry['tokens'])} tokens, {_number(entry['seconds'])} s"
        for stage, entries in summary.get("budget", {}).items()
        for entry in entries
    ]
    head = "by thinking budget, percent [95% interval]; tokens and seconds a completion"
    return ["", head, *lines] if lines else []


def _number(found: dict[str, Any]) -> str:
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


def points(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def cell(found: dict[str, Any] | None, mark: str) -> str:
    if found is None:
        return "-"
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]{mark or ' '}"
