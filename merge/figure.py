"""The trade-off of a sweep, drawn: scores over the setting, and suite against suite where there are two."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alloy.evaluate.statistics import mean_interval
from merge.choose import undominated

if TYPE_CHECKING:
    from merge.sweep import Sweep


def draw(result: "Sweep", out: Path) -> None:
    """alpha-tradeoff.png and .svg; the same sweep draws the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    suites = list(result.choice.scores)
    panels = 2 if len(suites) == 2 else 1
    figure = Figure(figsize=(7 if panels == 1 else 11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _over_settings(axes[0], result)
    if panels == 2:
        _against(axes[1], result, *suites)
    # Its words can be read and searched.
    with rc_context({"svg.hashsalt": "alpha", "svg.fonttype": "none"}):
        figure.savefig(out / "alpha-tradeoff.png", dpi=150)
        figure.savefig(out / "alpha-tradeoff.svg", metadata={"Date": None})


def _over_settings(axes: Any, result: "Sweep") -> None:
    values = [point.setting for point in result.points]
    for suite in result.choice.scores:
        intervals = [mean_interval(point.scores[suite]) for point in result.points]
        (line,) = axes.plot(values, [100 * i.value for i in intervals], marker="o", markersize=4, label=suite)
        low, high = [100 * i.low for i in intervals], [100 * i.high for i in intervals]
        axes.fill_between(values, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    worth = [100 * result.objective.value(point) for point in result.points]
    axes.plot(values, worth, "k--", marker="s", markersize=3, label=result.objective.name)
    if result.path:
        start = result.path[0].before
        axes.axvline(start, color="grey", linewidth=1, label=f"search over groups from {start:g}")
        reached = 100 * result.objective.value(result.choice)
        axes.axhline(reached, color="k", linewidth=1, linestyle=":", label="by groups")
    else:
        chosen = result.choice.setting
        axes.axvline(chosen, color="grey", linewidth=1, label=f"chosen: {chosen:g}")
    ends = ": 0 is the reasoning parent, 1 the chat parent" if result.over == "alpha" else ""
    axes.set(xlabel=f"{result.over}{ends}", ylabel="score, percent", ylim=(-2, 102))
    axes.legend(frameon=False)


def _against(axes: Any, result: "Sweep", first: str, second: str) -> None:
    """One suite over the other: points that another dominates are hollow, a search is a line of its own."""

    def place(points: Any) -> tuple[list[float], list[float]]:
        return [100 * p.means[first] for p in points], [100 * p.means[second] for p in points]

    front = undominated(result.points)
    axes.plot(*place(result.points), color="grey", linewidth=1, zorder=1)
    dominated = [point for point in result.points if point not in front]
    axes.plot(*place(dominated), "o", color="grey", markerfacecolor="white", label="dominated")
    axes.plot(*place(front), "o", color="grey", label="not dominated")
    for point in result.points:
        x, y = place([point])
        axes.annotate(
            f"{point.setting:g}", (x[0], y[0]), xytext=(4, 4), textcoords="offset points", fontsize=8
        )
    if result.path:
        start = next(point for point in result.points if point.setting == result.path[0].before)
        axes.plot(
            *place([start, *(step.point for step in result.path)]), "k.-", linewidth=1, label="by groups"
        )
    axes.plot(*place([result.choice]), "k*", markersize=12, label="chosen")
    axes.set(xlabel=f"{first}, percent", ylabel=f"{second}, percent")
    axes.legend(frameon=False)
