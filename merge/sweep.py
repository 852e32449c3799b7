"""A sweep: every setting evaluated in memory, one chosen by a stated rule, nothing written but results.

OUT/  sweep.json  table.md  alpha-tradeoff.png  alpha-tradeoff.svg
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alloy.artifact import write_atomically
from alloy.errors import InputError
from alloy.evaluate.statistics import Interval, mean_interval
from merge.again import RECORD
from merge.choose import RULES, Objective, Point, undominated
from merge.figure import draw
from merge.groups import partition
from merge.linear import LinearMixture
from merge.mixture import MAX_SHARD_BYTES, Mixture, Setting
from merge.points import Evaluate, Points
from merge.search import Step, search
from merge.table import markdown


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep and the choice among them."""

    over: str
    """What was swept: alpha, or an option of a method."""
    points: list[Point]
    """Of one setting for all tensors, in order."""
    choice: Point
    rule: str
    objective: Objective
    path: list[Step] = field(default_factory=list)
    """Of a search over groups, from the best of `points` on."""
    evaluated: int = 0
    reused: int = 0
    """Points of an earlier sweep, and new ones, `path` included."""

    @property
    def table(self) -> str:
        return markdown(self)

    def summary(self) -> dict[str, Any]:
        """What it found, for machines."""
        front = undominated(self.points)
        return {
            "over": self.over,
            "chosen": self.choice.setting,
            "rule": self.rule,
            "objective": self.objective.name,
            "weights": self.objective.weights,
            "suites": list(self.choice.means),
            "shards": self.choice.shards,
            "points": [{**self._told(p), "dominated": p not in front} for p in self.points],
            "path": [
                {
                    "group": step.group,
                    "before": step.before,
                    "after": step.after,
                    "alphas": step.here,
                    "tried": [self._told(point) for point in step.tried],
                }
                for step in self.path
            ],
        }

    def _told(self, point: Point) -> dict[str, Any]:
        return {
            self.over: point.setting,
            "scores": {suite: asdict(found) for suite, found in intervals(point).items()},
            "objective": self.objective.value(point),
            "standard_error": self.objective.standard_error(point),
            "shards": point.shards,
        }


def intervals(point: Point) -> dict[str, Interval]:
    return {suite: mean_interval(scores) for suite, scores in point.scores.items()}


def sweep(
    mixture: Mixture,
    settings: Sequence[float],
    evaluate: Evaluate,
    *,
    measure: str,
    out: Path,
    points: Path,
    rule: str = "product",
    weights: Mapping[str, float] | None = None,
    groups: Sequence[str] = (),
    rounds: int = 2,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[Point], None] = lambda point: None,
) -> Sweep:
    """Evaluate every setting and choose one; with groups, search on from it for an alpha of each.

    Args:
        measure: identity of what `evaluate` measures; points of another measure are not taken.
        out: where the table and the figure go.
        points: where evaluated points are kept.
        rule: a name in `merge.choose.RULES`.
        weights: a suite; the objective is their weighted sum then, and else the product.
        groups: as in `merge.groups`; at most `rounds` times each is moved along the settings.
        max_shard_bytes: of the files that the merge will write: a point keeps their hashes.
        progress: called with every point, as it is found.
    Raises:
        InputError: as `check`.
        StageError: a suite without a judged item, or a score outside 0 to 1.
    """
    values = sorted(set(settings))
    check(mixture, values, groups)
    out.mkdir(parents=True, exist_ok=True)
    known = Points(
        mixture,
        evaluate,
        measure=measure,
        folder=points,
        max_shard_bytes=max_shard_bytes,
        tell=progress,
    )
    objective = Objective(weights)

    def pick(among: Sequence[Point]) -> Point:
        return RULES[rule](among, objective)

    line = [known.at(value) for value in values]
    choice = pick(line)
    path = search(choice, groups, values, known.at, pick, rounds) if groups else []
    choice = path[-1].point if path else choice
    evaluated = len(known) - known.reused
    result = Sweep(mixture.over, line, choice, rule, objective, path, evaluated, known.reused)
    parents = {p.role: {"path": str(p.path), "fingerprint": p.fingerprint} for p in mixture.parents}
    asked = {"parents": parents, "asked": mixture.asked, "max_shard_bytes": max_shard_bytes}
    write_atomically(out / RECORD, json.dumps({**result.summary(), **asked}, indent=1))
    write_atomically(out / "table.md", result.table)
    draw(result, out)
    return result


def check(mixture: Mixture, settings: Sequence[Setting], groups: Sequence[str]) -> None:
    """Refuse what cannot be swept, before a model is loaded.

    Raises:
        InputError: settings or groups that make no sense for these parents, or parents that suites cannot ask.
    """
    kinds = mixture.plan.config.get("architectures") or []
    if any("Classification" in kind for kind in kinds):
        raise InputError(
            f"{mixture.plan.donor.path} is a {kinds[0]}, and suites ask language models. Give alpha instead of a sweep."
        )
    for setting in settings:
        mixture.blend_at(setting)
    if not groups:
        return
    if not isinstance(mixture, LinearMixture):
        raise InputError("groups: only a linear merge has an alpha for each group. Leave groups out.")
    try:
        partition([pair.name for pair in mixture.plan.pairs], groups)
    except ValueError as error:
        raise InputError(f"groups: {error}.") from None
