"""What a curriculum drew from and drew: pass rates as profiled, and what was won over the steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from alloy.report.chart import Line, Panel, draw
from alloy.report.curves import CURRICULUM, points
from alloy.report.lenient import mapping, number
from alloy.report.notation import escape, listed, numbers, write
from alloy.report.record import Stage
from alloy.report.rollouts import spread

_FINEST = 20
"""Steps from never to always passed that a histogram has room for."""
_PROFILES = 4
"""Side by side in one chart."""


@dataclass(frozen=True)
class Profile:
    """Pass rates of a stage's tasks by environment, measured at a step from so many rollouts of each.

    `rollouts` is 0 where the file does not tell.
    """

    step: float
    rollouts: int
    rates: dict[str, list[float]]

    @property
    def name(self) -> str:
        return f"step {self.step:g}" if self.step else "parent"


@dataclass(frozen=True)
class Dropping:
    """Which tasks the config leaves out of the draw: those always passed, those never passed."""

    solved: bool
    unsolved: bool

    def fits(self, rates: Sequence[float]) -> int:
        return sum((self.solved and rate >= 1) or (self.unsolved and rate <= 0) for rate in rates)

    def count(self, rates: Sequence[float]) -> int:
        """How many of an environment are left out: none, where none would remain."""
        fitting = self.fits(rates)
        return fitting if fitting < len(rates) else 0


def curriculum(stage: Stage) -> str:
    """Histograms of pass rates, and target, draw and reward over steps; an environment a chart."""
    profiles = profiles_of(stage)
    labels = list(dict.fromkeys(label for profile in profiles for label in profile.rates))
    return _profiled(stage, profiles, labels) + _drawn(stage, labels)


def profiles_of(stage: Stage) -> list[Profile]:
    """A stage's profiles by step; what is no pass rate is passed over, and so is an environment without any."""
    found = []
    for given in stage.profiles:
        rates = {
            label: known
            for label, tasks in mapping(given.get("rates")).items()
            if (known := _pass_rates(tasks))
        }
        if rates:
            rollouts = int(min(max(number(given.get("rollouts")) or 0, 0), 1e6))
            found.append(Profile(number(given.get("step")) or 0.0, rollouts, rates))
    return sorted(found, key=lambda profile: profile.step)


def _pass_rates(tasks: Any) -> list[float]:
    return [rate for task in mapping(tasks).values() if (rate := number(task)) is not None and 0 <= rate <= 1]


def histogram(rates: Sequence[float], parts: int) -> list[int]:
    """Tasks at 0, 1/parts, ... 1: at the ends those never and always passed, others at the nearest between.

    An outcome may be worth a part of a pass, so that a rate can lie between two places.
    """
    counts = [0] * (parts + 1)
    for rate in rates:
        between = min(max(round(rate * parts), 1), parts - 1)
        counts[0 if rate <= 0 else parts if rate >= 1 else between] += 1
    return counts


def _places(profiles: Sequence[Profile]) -> tuple[int, list[str]]:
    """Into how many parts pass rates are sorted, and what each place from 0 to 1 is called, in percent."""
    rollouts = max(profile.rollouts for profile in profiles) or _FINEST
    parts = min(max(rollouts, 2), _FINEST)
    if rollouts == 1:
        return parts, ["0", "between", "100"]
    return parts, [f"{100 * i / parts:.3g}" for i in range(parts + 1)]


def _profiled(stage: Stage, profiles: list[Profile], labels: list[str]) -> str:
    if not profiles:
        return ""
    parts, names = _places(profiles)
    dropping = _dropping(stage)
    charts, rows, untouched = [], [], []
    for label in labels:
        known = [profile for profile in profiles if label in profile.rates]
        lines = [_bars(profile, profile.rates[label], parts, dropping) for profile in known]
        drawn = [lines[i] for i in sorted(spread(len(lines), _PROFILES))]
        tasks = max(len(profile.rates[label]) for profile in known)
        title = f"{label}: {tasks:,} tasks by pass rate"
        charts.append(draw(Panel(title, drawn, "pass rate, %", names, bars=True)))
        for profile in known:
            rates = profile.rates[label]
            counts = [str(count) for count in histogram(rates, parts)]
            left_out = str(dropping.count(rates)) if dropping else "–"
            rows.append([label, profile.name, str(len(rates)), write(fmean(rates), True), *counts, left_out])
            if dropping and dropping.fits(rates) == len(rates):
                untouched.append(f"{label} ({profile.name})")
    head = ["environment", "policy", "tasks", "mean", *(f"at {name}" for name in names), "left out"]
    return (
        f"<p>{_how(stage.name, profiles)} {_told(stage, profiles, dropping, untouched)}</p>"
        f'<div class="panels small">{"".join(charts)}</div>'
        '<p class="hint">Tasks over their pass rate in percent. Bars stand side by side in the order of the '
        "names; beside a name are the mean pass rate and how many tasks are left out.</p>"
        f"{numbers(head, rows)}"
    )


def _bars(profile: Profile, rates: Sequence[float], parts: int, dropping: Dropping | None) -> Line:
    counts = histogram(rates, parts)
    told = f"mean {write(fmean(rates), True)}"
    hollow: list[float] = []
    if dropping:
        left_out = dropping.count(rates)
        told += f", {left_out} left out"
        hollow += [0.0] if left_out and dropping.unsolved else []
        hollow += [float(parts)] if left_out and dropping.solved else []
    places = [(float(place), float(count)) for place, count in enumerate(counts)]
    return Line(profile.name, places, told=told, hollow=tuple(hollow))


def _dropping(stage: Stage) -> Dropping | None:
    settings = mapping(stage.settings.get("curriculum"))
    solved, unsolved = settings.get("drop_solved"), settings.get("drop_unsolved")
    return Dropping(solved, unsolved) if isinstance(solved, bool) and isinstance(unsolved, bool) else None


def _how(name: str, profiles: Sequence[Profile]) -> str:
    """By whom and when tasks were profiled."""
    times = profiles[0].rollouts
    steps = [f"{profile.step:g}" for profile in profiles if profile.step]
    when = ["before training"] if len(steps) < len(profiles) else []
    if steps:
        when.append(f"at {'step' if len(steps) == 1 else 'steps'} {listed(steps)}")
    shown = f" The charts show {_PROFILES} of these {len(profiles)}." if len(profiles) > _PROFILES else ""
    often = f" {times} {'time' if times == 1 else 'times'}" if times else ""
    return f"{escape(name)} rolled every task out{often} {' and again '.join(when)}.{shown}"


def _told(stage: Stage, profiles: Sequence[Profile], dropping: Dropping | None, untouched: list[str]) -> str:
    """Which tasks are left out of the draw."""
    if dropping is None:
        return "Its config does not say which of them it leaves out."
    kinds = ["always passed"] * dropping.solved + ["never passed"] * dropping.unsolved
    if not kinds:
        return "None is left out of the draw."
    some = any(dropping.count(rates) for profile in profiles for rates in profile.rates.values())
    told = f"Tasks that were {' or '.join(kinds)} are left out of the draw"
    told += ": their bars are outlined." if some else "; there was none to leave out."
    if untouched:
        told += f" Where none would remain, all stay: {escape(listed(untouched))}."
    if mapping(stage.settings.get("curriculum")).get("follow") is True:
        told += " A task that was trained on takes the pass rate of its latest group: it may leave the draw or come back."
    return told


def _drawn(stage: Stage, order: list[str]) -> str:
    """Target, draw and reward over steps, an environment a chart, in the histograms' order."""
    charts = []
    for part, log in stage.logs.items():
        labels = {match[1] for name in log if (match := CURRICULUM.fullmatch(name))}
        for label in [label for label in order if label in labels] + sorted(labels - set(order)):
            lines = [
                Line(name, points(log[key]))
                for name, key in (
                    ("target", f"curriculum/{label}/target"),
                    ("drawn", f"curriculum/{label}/pass_rate"),
                    ("reward won", f"rewards/{label}/mean"),
                )
                if key in log
            ]
            shares = all(0 <= y <= 1 for line in lines for _, y in line.points)
            title = f"{part} {label}".strip()
            charts.append(draw(Panel(f"{title}: over steps", lines, "step", shares=shares, holds=(0.0, 1.0))))
    if not charts:
        return ""
    return (
        f"<p>What {escape(stage.name)} drew: the pass rate that the draw aims at, the mean pass rate of the tasks "
        f'that were drawn, and the mean reward that was won, its weight and shaping included.</p><div class="panels small">{"".join(charts)}</div>'
    )
