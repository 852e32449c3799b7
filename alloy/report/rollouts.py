"""Completions for the rollout browser: a spread of what each stage sampled, and of what it answered when measured.

Completions are untrusted text. They reach the page as JSON that holds no `<`, and its script puts
them there as text nodes only.
"""

import json
from pathlib import Path
from typing import Any

from alloy.report.lenient import json_rows, mapping, number, text
from alloy.report.notation import escape
from alloy.report.pieces import cut
from alloy.report.record import Stage

_A_STAGE = 200
_A_SUITE = 12
"""Answers of each model to each suite; the same tasks of every model."""
_CHARACTERS = 2_000_000
"""Of the text of both kinds, each; the page stays quick to open from disk."""


def collect(stages: list[Stage], notes: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Samples evenly spread over each stage's files, and how many there are in all."""
    sampled = [(stage.name, path, _part(stage, path)) for stage in stages for path in stage.sample_files]
    files = {stage.name: len(stage.sample_files) for stage in stages}
    chosen: list[dict[str, Any]] = []
    total = 0
    for name, path, part in sampled:
        share = _CHARACTERS // sum(count > 0 for count in files.values()) // files[name]
        wanted, lines = _wanted(path, max(1, _A_STAGE // files[name]), share)
        total += lines
        chosen += [_sample(row, name, part) for row in json_rows(path, notes, wanted)]
    answered = [file for stage in stages for file in _answer_files(stage)]
    for model, suite, metric, path in answered:
        wanted, lines = _wanted(path, _A_SUITE, _CHARACTERS // len(answered))
        total += lines
        chosen += [_answer(row, model, suite, metric) for row in json_rows(path, notes, wanted)]
    return chosen, total


def _part(stage: Stage, path: Path) -> str:
    return "" if path.parent == stage.folder else path.parent.name


def _answer_files(evaluation: Stage) -> list[tuple[str, str, str, Path]]:
    """(model, suite, the metric that the table shows, file) of what an evaluation kept."""
    found = []
    for model, suites in mapping(evaluation.results.get("files")).items():
        for suite, file in mapping(suites).items():
            path = evaluation.folder / "items" / Path(text(file).replace("\0", "")).name
            cells = mapping(mapping(evaluation.results.get("cells")).get(model))
            if path.suffix == ".jsonl" and path.is_file():
                found.append((model, suite, text(mapping(cells.get(suite)).get("metric")), path))
    return found


def _wanted(path: Path, most: int, characters: int) -> tuple[set[int], int]:
    """The lines of a file to show, and how many it has."""
    lines, size = _measure(path)
    # A file's size counts its names and quotes too: the page errs on the small side.
    fitting = lines if size == 0 else int(lines * min(1.0, characters / size))
    return spread(lines, max(1, min(most, fitting))), lines


def browser(samples: list[dict[str, Any]], total: int) -> str:
    """The filters, an empty list that the page's script fills, and the data; empty without samples."""
    if not samples:
        return ""
    stages = list(dict.fromkeys(sample["stage"] for sample in samples))
    environments = sorted({sample["environment"] for sample in samples} - {""})
    statuses = sorted({sample["status"] for sample in samples} - {""})
    rewards = [sample["reward"] for sample in samples if sample["reward"] is not None]
    low, high = (f"{min(rewards):g}", f"{max(rewards):g}") if rewards else ("", "")
    sources = list(dict.fromkeys(sample["source"] for sample in samples))
    thinking = sorted({sample["thinking"] for sample in samples} - {""}, reverse=True)
    left_out = total - len(samples)
    shown = f"{len(samples):,} of {total:,} logged completions, spread evenly over each stage; {left_out:,} are left out."
    return (
        f'<p class="hint">{shown if left_out > 0 else f"All {total:,} logged completions."} Thinking is folded.</p>'
        f'<form id="filters" autocomplete="off">{_choice("stage", stages)}'
        f"{_choice('environment', environments)}{_choice('source', sources)}{_choice('thinking', thinking)}"
        f"{_choice('status', statuses)}"
        f'<label class="pair"><span>reward</span>{_bound("low", "lowest", low)}–'
        f"{_bound('high', 'highest', high)}</label>"
        '<label class="search"><span>text</span>'
        '<input name="text" type="search" placeholder="in prompt or completion"></label></form>'
        '<p id="found" class="hint" role="status"></p><div id="rollouts"></div>'
        '<button id="older" type="button" hidden>Show more</button>'
        "<noscript><p>The rollouts are shown by a script, and scripts are off here.</p></noscript>"
        f'<script type="application/json" id="samples">{embed(samples)}</script>'
    )


def embed(value: Any) -> str:
    """JSON that cannot end a script element nor open a comment in one."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def _measure(path: Path) -> tuple[int, int]:
    try:
        with path.open("rb") as stream:
            return sum(1 for _ in stream), path.stat().st_size
    except OSError:
        return 0, 0


def spread(count: int, wanted: int) -> set[int]:
    """So many of the numbers from 0 to count - 1, evenly, the first and the last among them."""
    if wanted >= count:
        return set(range(count))
    return {round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)}


def _sample(row: dict[str, Any], stage: str, part: str) -> dict[str, Any]:
    return {
        **_told(row),
        "source": "training",
        "stage": text(row.get("stage")) or stage,
        "part": part,
        "step": number(row.get("step")),
        "environment": text(row.get("environment")),
        "reward": number(row.get("reward")),
    }


def _answer(row: dict[str, Any], model: str, suite: str, metric: str) -> dict[str, Any]:
    scores = mapping(row.get("scores"))
    budget = number(row.get("budget"))
    return {
        **_told(row),
        "source": "evaluation",
        "stage": model,
        "part": f"budget {budget:g}" if budget is not None else "",
        "step": None,
        "environment": suite,
        "reward": number(scores.get("success", scores.get(metric))),
    }


def _told(row: dict[str, Any]) -> dict[str, Any]:
    thinking = row.get("thinking")
    return {
        "task": text(row.get("task")),
        "thinking": {True: "on", False: "off"}.get(thinking, "") if isinstance(thinking, bool) else "",
        "status": text(row.get("status")),
        "prompt": cut(row.get("prompt"), "prompt"),
        "completion": cut(row.get("completion"), "answer"),
    }


def _choice(name: str, values: list[str]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    hidden = " hidden" if len(values) < 2 else ""
    return (
        f'<label{hidden}><span>{name}</span><select name="{name}">'
        f'<option value="">all</option>{options}</select></label>'
    )


def _bound(name: str, word: str, found: str) -> str:
    return f'<input name="{name}" type="number" step="any" placeholder="{found}" aria-label="{word} reward">'
