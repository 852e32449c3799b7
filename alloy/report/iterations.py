"""What each iteration of an iterated stage had to learn from, and what came of it."""

from alloy.report.lenient import mapping, number
from alloy.report.notation import Estimate, count, figures, signed, write
from alloy.report.record import Stage

LITTLE = 0.05
"""Share of tasks with both outcomes under which an iteration has hardly anything to learn from."""


def iterations(stage: Stage) -> str:
    """A row an iteration; empty where the stage has none."""
    if not stage.parts:
        return ""
    environments = _environments(stage)
    head = [
        "iteration",
        "rollouts won",
        "tasks",
        "both outcomes",
        "never won",
        "always won",
        "pairs",
        "off-policy",
    ]
    head += [f"{label}: gain" for label in environments]
    rows = []
    for name, told in stage.parts.items():
        number_of = name.rpartition("-")[2]
        rows.append(
            [
                number_of,
                _share(told.get("sampled/success")),
                *(_count(told.get("pairs/tasks")), _share(told.get("pairs/mixed_share"))),
                *(
                    _count(told.get(f"pairs/{key}"))
                    for key in ("never_won", "always_won", "pairs", "off_policy")
                ),
                *(_gain(stage, label, number_of) for label in environments),
            ]
        )
    return (
        figures(head, rows)
        + "".join(_told(name, told) for name, told in stage.parts.items())
        + (
            '<p class="hint">Of the tasks that an iteration sampled, those with a success and a failure are what it '
            "learns from. The gain is on held-out tasks, paired, in percent points with its 95% interval, on the "
            "best policy before.</p>"
        )
    )


def _environments(stage: Stage) -> list[str]:
    metrics = mapping(stage.artifact.get("metrics"))
    labels = [key.split("/")[1] for key in metrics if key.startswith("gain/") and key.count("/") == 3]
    return list(dict.fromkeys(labels))


def _told(name: str, told: dict[str, float]) -> str:
    """A word where there was hardly anything left to learn."""
    mixed = told.get("pairs/mixed_share")
    if mixed is None or mixed >= LITTLE:
        return ""
    return (
        f"<p>In {name.replace('-', ' ')} {_share(mixed)}% of the tasks had both a success and a failure, fewer than "
        f"{100 * LITTLE:g}%: there was hardly anything left to learn from.</p>"
    )


def _share(value: float | None) -> str:
    return "–" if value is None else write(value, True)


def _count(value: float | None) -> str:
    return "–" if value is None else count(value)


def _gain(stage: Stage, label: str, iteration: str) -> str:
    metrics = mapping(stage.artifact.get("metrics"))
    found = {key: number(metrics.get(f"gain/{label}/{iteration}/{key}")) for key in ("value", "low", "high")}
    gain = Estimate(found)
    if gain.value is None or gain.low is None or gain.high is None:
        return "–"
    value, low, high = (signed(x, write(abs(x), True)) for x in (gain.value, gain.low, gain.high))
    return f"{value} [{low}, {high}]"
