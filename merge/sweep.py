"""A sweep: every alpha evaluated in memory, one chosen by a stated rule, nothing written but results.

OUT/  sweep.json  table.md  alpha-tradeoff.png  alpha-tradeoff.svg
POINTS/  one file an alpha: a finer grid, and an interrupted one, take what is there
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_json, write_atomically
from alloy.evaluate.statistics import Interval, mean_interval
from alloy.policy import load_tokenizer
from merge.checkpoint import Checkpoint, Role, read_json
from merge.choose import RULES, Point
from merge.live import LiveModel
from merge.preflight import preflight

Evaluate = Callable[[Any, Any, float], dict[str, list[float]]]
"""(model, tokenizer, alpha) -> by suite, the scores of its items; the same items at every alpha."""


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep and the choice among them."""

    points: list[Point]
    choice: Point
    rule: str
    reused: int
    """Points that were not evaluated again."""

    def intervals(self, point: Point) -> dict[str, Interval]:
        return {suite: mean_interval(scores) for suite, scores in point.scores.items()}

    def markdown(self) -> str:
        """The table of points, the chosen one in bold, and the rule."""
        suites = list(self.choice.scores)
        rows = [["alpha", *suites, "product"], ["---"] * (len(suites) + 2)]
        for point in self.points:
            cells = [f"{point.alpha:g}", *(str(i) for i in self.intervals(point).values()), _percent(point)]
            rows.append([f"**{cell}**" for cell in cells] if point is self.choice else cells)
        items = ", ".join(f"{len(self.choice.scores[suite])} of {suite}" for suite in suites)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return (
            f"{table}\n\nPercent, with 95% bootstrap intervals over the items ({items}); the product with "
            f"its standard error. Chosen: alpha {self.choice.alpha:g}, by the rule `{self.rule}`.\n"
        )

    def summary(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "chosen": self.choice.alpha,
            "rule": self.rule,
            "suites": list(self.choice.means),
            "points": [
                {
                    "alpha": point.alpha,
                    "scores": {suite: asdict(i) for suite, i in self.intervals(point).items()},
                    "objective": point.product,
                    "standard_error": point.standard_error,
                }
                for point in self.points
            ],
        }


def _percent(point: Point) -> str:
    return f"{100 * point.product:.1f} ± {100 * point.standard_error:.1f}"


def sweep(
    reasoning: Checkpoint,
    chat: Checkpoint,
    alphas: Sequence[float],
    evaluate: Evaluate,
    *,
    measure: str,
    out: Path,
    points: Path,
    rule: str = "product",
    donor: Role | None = None,
    dtype: str | None = None,
    progress: Callable[[Point], None] = lambda point: None,
) -> Sweep:
    """Evaluate every alpha and choose one.

    Args:
        measure: identity of what `evaluate` measures; points of another measure are not taken.
        out: where the table and the figure go.
        points: where evaluated points are kept.
        rule: a name in `merge.choose.RULES`.
        donor, dtype: as in `merge.preflight.preflight`.
        progress: called with every point, in order of alpha.
    Raises:
        InputError: the parents do not fit.
        StageError: a suite without a judged item, or a score outside 0 to 1.
    """
    plan = preflight(reasoning, chat, donor=donor, dtype=dtype)
    points.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    live: LiveModel | None = None
    tokenizer = None
    found: list[Point] = []
    reused = 0
    for alpha in sorted(set(alphas)):
        identity = [reasoning.fingerprint, chat.fingerprint, donor, dtype, alpha.hex(), measure]
        path = points / f"{fingerprint_json(identity)[:24]}.json"
        if path.is_file():
            found.append(Point(alpha, read_json(path)["scores"]))
            reused += 1
        else:
            live = live or LiveModel(plan)
            tokenizer = tokenizer or load_tokenizer(plan.donor.folder)
            found.append(Point(alpha, evaluate(live.set(alpha), tokenizer, alpha)))
            write_atomically(path, json.dumps(asdict(found[-1])))
        progress(found[-1])
    result = Sweep(found, RULES[rule](found), rule, reused)
    write_atomically(out / "sweep.json", json.dumps(result.summary(), indent=1))
    write_atomically(out / "table.md", result.markdown())
    draw(result, out)
    return result


def draw(result: Sweep, out: Path) -> None:
    """The trade-off: every suite and the product over alpha, the choice marked."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    alphas = [point.alpha for point in result.points]
    for suite in result.choice.scores:
        intervals = [mean_interval(point.scores[suite]) for point in result.points]
        (line,) = axes.plot(alphas, [100 * i.value for i in intervals], marker="o", markersize=4, label=suite)
        low, high = [100 * i.low for i in intervals], [100 * i.high for i in intervals]
        axes.fill_between(alphas, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.plot(
        alphas, [100 * p.product for p in result.points], "k--", marker="s", markersize=3, label="product"
    )
    axes.axvline(result.choice.alpha, color="grey", linewidth=1, label=f"chosen: {result.choice.alpha:g}")
    axes.set(
        xlabel="alpha: 0 is the reasoning parent, 1 the chat parent", ylabel="score, percent", ylim=(-2, 102)
    )
    axes.legend(frameon=False)
    # The same sweep draws the same bytes, and its words can be read and searched.
    with rc_context({"svg.hashsalt": "alpha", "svg.fonttype": "none"}):
        figure.savefig(out / "alpha-tradeoff.png", dpi=150)
        figure.savefig(out / "alpha-tradeoff.svg", metadata={"Date": None})
