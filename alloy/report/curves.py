"""What a stage logged, sorted into charts: loss, reward by environment, KL, lengths, and the rest."""

import re

from alloy.report.chart import COLOURS, Line, Panel, Point, draw
from alloy.report.notation import escape
from alloy.report.record import Series, Stage

# The first that matches a logged name wins; names are ours and TRL's.
_TITLES = (
    ("Score before lengths", r"^score/"),
    ("Not ended, without a score", r"^(unfinished|unscored)$"),
    ("Comparisons by the judge", r"^judge/"),
    ("Length by thinking, tokens", r"^tokens/"),
    ("Groups without a signal", r"^zero_signal/"),
    ("Completions with an advantage", r"^completions/with_advantage$"),
    ("Groups rolled out", r"^groups/rolled$"),
    ("Verdicts that are not ok", r"^verdict/"),
    ("Mean sampler gap, nats", r"^sampler_gap/mean$"),
    ("Largest sampler gap, nats", r"^sampler_gap/max$"),
    ("Effective sample share", r"^sampler_gap/effective$"),
    ("Length of the ended, tokens", r"terminated_length"),
    ("Shortest and longest, tokens", r"(min|max)_length$"),
    ("Spread of rewards", r"std"),
    ("Token accuracy", r"token_accuracy"),
    ("Accuracy and pass rate", r"accurac|pass_rate|pass@|success|well_formed|valid"),
    ("Chosen and rejected", r"margin|rewards?/(chosen|rejected)"),
    ("Loss", r"(^|[/_])loss($|/)"),
    ("Reward", r"^(eval[/_])?rewards?($|/)"),
    ("KL to the reference", r"(^|[/_])kl($|[/_])"),
    ("Length, tokens", r"length|completion_tokens|thinking_tokens|answer_tokens"),
    ("Curriculum", r"curriculum|difficulty"),
    ("Entropy", r"entropy"),
)
_LEADING = (
    "Loss",
    "Reward",
    "Score before lengths",
    "KL to the reference",
    "Length, tokens",
    "Length by thinking, tokens",
    "Token accuracy",
    "Accuracy and pass rate",
    "Curriculum",
    "Comparisons by the judge",
    "Chosen and rejected",
    "Groups without a signal",
    "Entropy",
)
_DIAGNOSTICS = (
    "Verdicts that are not ok",
    "Not ended, without a score",
    "Completions with an advantage",
    "Groups rolled out",
    "Spread of rewards",
    "Mean sampler gap, nats",
    "Largest sampler gap, nats",
    "Effective sample share",
)
"""Folded, before what has no title of its own: they matter when something is wrong."""
_HOLDS: dict[str, tuple[float, ...]] = {
    "Groups without a signal": (0.0, 1.0),
    "Completions with an advantage": (0.0, 1.0),
    "Verdicts that are not ok": (0.0,),
    "Not ended, without a score": (0.0,),
    "Comparisons by the judge": (0.0,),
    "Mean sampler gap, nats": (0.0,),
    "Largest sampler gap, nats": (0.0,),
    "Effective sample share": (0.0, 1.0),
}
"""What an axis holds in any case: there a small change is not to look like a large one."""
_SHARES = {
    "Groups without a signal",
    "Completions with an advantage",
    "Verdicts that are not ok",
    "Not ended, without a score",
    "Comparisons by the judge",
    "Effective sample share",
}
"""Written as percent."""
_NOT_CURVES = {"epoch", "seconds", "step", "total_flos"}
_PREFIXES = {
    "reward", "rewards", "pass_rate", "curriculum", "kl", "completions",
    "zero_signal", "groups", "verdict", "sampler_gap", "tokens",
    "score", "judge",
}  # fmt: skip
_NAMES = {
    "zero_signal/rolled": "all rolled out",
    "zero_signal/trained": "all trained on",
    "completions/with_advantage": "with an advantage",
    "completions/mean_length": "mean length",
    "mean_token_accuracy": "accuracy",
    "tokens/thinking_on": "thinking on",
    "tokens/thinking_off": "thinking off",
    "score/thinking_on": "thinking on",
    "score/thinking_off": "thinking off",
}
CURRICULUM = re.compile(r"curriculum/(.+)/(target|pass_rate)")
"""The environment of what a curriculum logged, and which of two."""


def panels(stage: Stage) -> tuple[list[Panel], list[Panel]]:
    """The charts that lead, in their order, and those that are folded away."""
    grouped: dict[str, list[Line]] = {}
    for part, log in stage.logs.items():
        for name, series in log.items():
            if name not in _NOT_CURVES and len(series.steps) > 1 and not _shown_elsewhere(stage, name):
                label = f"{part} {_short(name)}" if part else _short(name)
                grouped.setdefault(_title(name), []).append(Line(label, points(series)))
    leading = [panel for title in _LEADING for panel in _split(title, grouped.get(title, []))]
    rest = [*_DIAGNOSTICS, *sorted(grouped.keys() - set(_LEADING) - set(_DIAGNOSTICS))]
    others = [panel for title in rest for panel in _split(title, grouped.get(title, []))]
    return leading, others


def main_curve(stage: Stage) -> list[Point]:
    """The reward where there is one, else the loss; empty where too little was logged to be a curve."""
    leading, _ = panels(stage)
    for wanted in ("Reward", "Loss"):
        for panel in leading:
            if panel.title == wanted:
                first = min(panel.lines, key=lambda line: line.label not in ("reward", "loss"))
                return first.points if len(first.points) > 2 else []
    return []


def curves(stages: list[Stage]) -> str:
    """Every stage that logged something, as a row of small charts."""
    blocks = []
    for stage in stages:
        leading, others = panels(stage)
        if not leading and not others:
            continue
        block = f"<h3>{escape(stage.name)}</h3>"
        if leading:
            block += f'<div class="panels">{"".join(map(draw, leading))}</div>'
        if others:
            block += (
                f'<details class="more"><summary>{_list(others)}</summary>'
                f'<div class="panels">{"".join(map(draw, others))}</div></details>'
            )
        # Stages with few charts share a row.
        blocks.append(f'<div class="stage span-{max(1, min(4, len(leading)))}">{block}</div>')
    return f'<div class="stages">{"".join(blocks)}</div>' if blocks else ""


def _list(folded: list[Panel]) -> str:
    titles = list(dict.fromkeys(panel.title for panel in folded))
    return escape(", ".join(titles) if len(titles) < 4 else f"{len(titles)} more: {', '.join(titles[:3])}, …")


def _shown_elsewhere(stage: Stage, name: str) -> bool:
    """Whether the page has a figure of it that says more than its curve."""
    return CURRICULUM.fullmatch(name) is not None or (
        name.startswith("validation/") and bool(stage.validation)
    )


def _title(name: str) -> str:
    for title, pattern in _TITLES:
        if re.search(pattern, name):
            return title
    return name.split("/", 1)[0]


def _short(name: str) -> str:
    """The part of `reward/math` that differs within a chart."""
    prefix, slash, rest = name.partition("/")
    if not slash or prefix not in _PREFIXES or name in _NAMES:
        return _NAMES.get(name, name)
    return rest.removesuffix("/mean") if prefix == "rewards" else rest


def points(series: Series) -> list[Point]:
    return sorted(zip(series.steps, series.values, strict=True), key=lambda point: point[0])


def _split(title: str, lines: list[Line]) -> list[Panel]:
    """As many charts as it takes for each line to have its own colour."""
    shares = title in _SHARES and all(0 <= y <= 1 for line in lines for _, y in line.points)
    return [
        Panel(
            title,
            lines[start : start + COLOURS],
            x_title="step",
            shares=shares,
            holds=_HOLDS.get(title, ()),
        )
        for start in range(0, len(lines), COLOURS)
    ]
