"""One HTML file of a run, which opens from disk and loads nothing."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from alloy.artifact import write_atomically
from alloy.report.breakdown import breakdown
from alloy.report.budgets import budget_curve
from alloy.report.curriculum import curriculum
from alloy.report.curves import curves
from alloy.report.iterations import iterations
from alloy.report.lenient import number, text
from alloy.report.lineage import graph
from alloy.report.merging import trade_off
from alloy.report.notation import count, duration, escape
from alloy.report.preferences import preferences
from alloy.report.provenance import provenance
from alloy.report.recipe import planned_of
from alloy.report.record import Record, Stage, read_record
from alloy.report.rollouts import browser, collect
from alloy.report.scores import table
from alloy.report.targets import targets
from alloy.report.validation import validation
from alloy.report.win_rates import win_rates

_HERE = Path(__file__).parent


def build(run_root: Path, recipe: str | None = None) -> Path:
    """Write `report.html` into a recipe's run folder, from what lies there.

    Stages that are interrupted, stale, missing or partly unreadable are shown as such; what is not there is
    left out and noted at the page's end.

    Args:
        recipe: says which stages there should be; the one with the run's name under configs/ when not given.
    Raises:
        InputError: there is no such folder, or no such recipe.
    """
    notes: list[str] = []
    planned = planned_of(Path(run_root), recipe, notes)
    record = read_record(Path(run_root), planned)
    record.notes[:0] = notes
    path = Path(run_root) / "report.html"
    # A lone surrogate, which JSON can hold, has no UTF-8 form.
    write_atomically(path, render(record).encode("utf-8", "replace").decode("utf-8"))
    return path


def render(record: Record) -> str:
    """The page of a run."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    sections = _sections(record)
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, title, content in sections
    )
    # Only this very script runs, and nothing is fetched, whatever a completion holds.
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; base-uri 'none'"
    recipe = escape(record.recipe)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{recipe} · Alloy</title>'
        f"<style>{style}</style></head><body>"
        f'<header><p class="brand">Alloy</p><h1>{recipe}</h1>{_summary(record)}</header>'
        f"<nav>{links}</nav><main>{body}</main><script>{script}</script></body></html>\n"
    )


def _sections(record: Record) -> list[tuple[str, str, str]]:
    """(id, title, content) of what there is to show; what there is not becomes a note."""
    notes = list(record.notes)
    stages = record.stages
    samples, total = collect(stages, notes)
    found = [
        ("stages", "Stages", graph(stages) if stages else ""),
        ("results", "Results", _each(stages, lambda stage: table(stage) + targets(stage))),
        ("breakdown", "By kind of task", _each(stages, breakdown)),
        ("wins", "Win rates", _each(stages, win_rates)),
        ("curves", "Curves", _with_hint(curves(stages))),
        ("curriculum", "Curriculum", _each(stages, curriculum)),
        ("validation", "Validation", _each(stages, validation)),
        ("preferences", "Reward model", _each(stages, preferences)),
        ("iterations", "Iterations", _each(stages, iterations)),
        ("alpha", "Merge", _each(stages, trade_off)),
        ("budget", "Thinking budget", _each(stages, budget_curve)),
        ("rollouts-section", "Rollouts", browser(samples, total)),
        ("provenance", "Provenance", provenance(stages)),
    ]
    missing = {
        "results": "No evaluation has results yet: run the stage that evaluates.",
        "curves": "No stage has logged curves.",
        "curriculum": "No stage has drawn its tasks by a curriculum.",
        "validation": "No stage has chosen its step on held-out tasks.",
        "alpha": "No merge has swept alpha.",
        "budget": "No thinking budgets were evaluated.",
        "rollouts-section": "No completions were sampled.",
        "provenance": "No stage is finished, so nothing is known of where it came from.",
    }
    if stages:
        notes += [missing[name] for name, _, content in found if not content and name in missing]
    sections = [section for section in found if section[2]]
    if notes:
        listed = "".join(f"<li>{escape(note)}</li>" for note in dict.fromkeys(notes))
        sections.append(("notes", "Left out", f"<ul>{listed}</ul>"))
    return sections


def _each(stages: list[Stage], draw_stage: Callable[[Stage], str]) -> str:
    """A section's content from every stage that has some, named where several have."""
    drawn = [(stage.name, content) for stage in stages if (content := draw_stage(stage))]
    if len(drawn) == 1:
        return drawn[0][1]
    return "".join(f"<h3>{escape(name)}</h3>{content}" for name, content in drawn)


def _with_hint(content: str) -> str:
    hint = (
        '<p class="hint">Over training steps. Bold is a moving average, faint what was logged, a band its '
        "range where a long log was thinned. The figure beside a name is the last one logged.</p>"
    )
    return hint + content if content else ""


def _summary(record: Record) -> str:
    """How far the run is, what it took and where."""
    artifacts = [stage.artifact for stage in record.stages if stage.artifact]
    finished = sum(stage.state == "finished" for stage in record.stages)
    seconds = sum(number(a.get("seconds")) or 0 for a in artifacts)
    tokens = sum(number(a.get("tokens")) or 0 for a in artifacts)
    devices = ", ".join(dict.fromkeys(text(a.get("device")) for a in artifacts if text(a.get("device"))))
    latest = max((text(a.get("created")) for a in artifacts), default="")
    facts = [(f"{finished} of {len(record.stages)}", "stages finished")]
    facts += [(duration(seconds), "of work")] if seconds else []
    facts += [(count(tokens), "tokens")] if tokens else []
    facts += [(escape(devices), "device")] if devices else []
    facts += [(escape(latest[:10]), "last finished")] if latest else []
    return f"<dl>{''.join(f'<div><dd>{value}</dd><dt>{name}</dt></div>' for value, name in facts)}</dl>"
