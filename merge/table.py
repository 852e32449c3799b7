"""The table of a sweep, in Markdown: every point, the chosen one in bold, the path of a search, the rule."""

from typing import TYPE_CHECKING

from alloy.evaluate.statistics import mean_interval
from merge.choose import Objective, Point, undominated
from merge.groups import told

if TYPE_CHECKING:
    from merge.sweep import Sweep


def markdown(sweep: "Sweep") -> str:
    parts = [_points(sweep), *([_path(sweep)] if sweep.path else []), _legend(sweep)]
    return "\n\n".join(parts) + "\n"


def _points(sweep: "Sweep") -> str:
    front = undominated(sweep.points) if sweep.rule == "pareto" else None
    head = [sweep.over, *sweep.choice.scores, sweep.objective.name]
    rows = [head + (["dominated"] if front is not None else [])]
    for point in sweep.points:
        cells = [f"{point.setting:g}", *_scores(point, sweep.objective)]
        cells += [] if front is None else ["" if point in front else "yes"]
        rows.append(_bold(cells) if point is sweep.choice else cells)
    return _rows(rows)


def _path(sweep: "Sweep") -> str:
    """A row a step: which group moved, where all groups are after it, and what that scores."""
    groups = list(sweep.path[0].here)
    rows = [["step", "group", *groups, *sweep.choice.scores, sweep.objective.name]]
    for number, step in enumerate(sweep.path, 1):
        moved = "stays" if step.after == step.before else f"{step.before:g} to {step.after:g}"
        alphas = [f"{alpha:g}" for alpha in step.here.values()]
        cells = [str(number), f"{step.group} {moved}", *alphas, *_scores(step.point, sweep.objective)]
        rows.append(_bold(cells) if step is sweep.path[-1] else cells)
    first = sweep.path[0]
    start = first.before
    tried = len(first.tried)
    return f"From alpha {start:g} for all groups, one group after another tried at {tried} alphas:\n\n{_rows(rows)}"


def _legend(sweep: "Sweep") -> str:
    items = ", ".join(f"{len(scores)} of {suite}" for suite, scores in sweep.choice.scores.items())
    weights = sweep.objective.weights
    weighed = f" ({', '.join(f'{suite} {weight:g}' for suite, weight in weights.items())})" if weights else ""
    setting = sweep.choice.setting
    chosen = f"{setting:g}" if isinstance(setting, float | int) or setting is None else told(setting)
    return (
        f"Percent, with 95% bootstrap intervals over the items ({items}); the {sweep.objective.name}{weighed} with "
        f"its standard error. Chosen: {sweep.over} {chosen}, by the rule `{sweep.rule}`."
    )


def _scores(point: Point, objective: Objective) -> list[str]:
    means = [str(mean_interval(scores)) for scores in point.scores.values()]
    return [*means, f"{100 * objective.value(point):.1f} ± {100 * objective.standard_error(point):.1f}"]


def _bold(cells: list[str]) -> list[str]:
    return [f"**{cell}**" if cell else "" for cell in cells]


def _rows(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])
