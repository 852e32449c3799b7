"""Sampled completions for the rollout browser: a spread of each stage's, cut into thinking and answer.

Completions are untrusted text. They reach the page as JSON that holds no `<`, and its script puts
them there as text nodes only.
"""

import json
from pathlib import Path
from typing import Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.report.notation import escape
from alloy.report.record import Stage, items, json_rows, mapping, number, text

_A_STAGE = 200
_CHARACTERS = 6_000_000
"""Of all text together; the page stays quick to open from disk."""
_A_TEXT = 6000

Pieces = list[tuple[str, str]]


def collect(stages: list[Stage], notes: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Samples evenly spread over each stage's files, and how many there are in all."""
    with_samples = [stage for stage in stages if stage.sample_files]
    chosen: list[dict[str, Any]] = []
    total = 0
    for stage in with_samples:
        share = _CHARACTERS // len(with_samples)
        for path in stage.sample_files:
            lines, size = _measure(path)
            total += lines
            # A file's size counts its names and quotes too: the page errs on the small side.
            fitting = lines if size == 0 else int(lines * min(1.0, share / len(stage.sample_files) / size))
            wanted = spread(lines, max(1, min(_A_STAGE // len(stage.sample_files), fitting)))
            part = "" if path.parent == stage.folder else path.parent.name
            chosen += [_sample(row, stage.name, part) for row in json_rows(path, notes, wanted)]
    return chosen, total


def browser(samples: list[dict[str, Any]], total: int) -> str:
    """The filters, an empty list that the page's script fills, and the data; empty without samples."""
    if not samples:
        return ""
    stages = list(dict.fromkeys(sample["stage"] for sample in samples))
    environments = sorted({sample["environment"] for sample in samples} - {""})
    statuses = sorted({sample["status"] for sample in samples} - {""})
    rewards = [sample["reward"] for sample in samples if sample["reward"] is not None]
    low, high = (f"{min(rewards):g}", f"{max(rewards):g}") if rewards else ("", "")
    shown = f"{len(samples):,} of {total:,} logged completions, spread evenly over each stage."
    return (
        f'<p class="hint">{shown if total > len(samples) else f"All {total:,} logged completions."}</p>'
        f'<form id="filters" autocomplete="off">{_choice("stage", stages)}'
        f"{_choice('environment', environments)}{_choice('status', statuses)}"
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


def split_thinking(completion: str) -> Pieces:
    """Thinking and answer in turn.

    A completion may begin inside a thinking that its prompt opened, and may end before it closes.
    """
    pieces: Pieces = []
    head, close, tail = completion.partition(THINK_CLOSE)
    if close and THINK_OPEN not in head:
        pieces.append(("thinking", head))
        completion = tail
    while completion:
        answer, opened, rest = completion.partition(THINK_OPEN)
        pieces.append(("answer", answer))
        thinking, closed, completion = rest.partition(THINK_CLOSE)
        if opened:
            pieces.append(("thinking" if closed else "thinking, never closed", thinking))
    return [(kind, part.strip("\n")) for kind, part in pieces if part.strip()]


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
        "stage": text(row.get("stage")) or stage,
        "part": part,
        "step": number(row.get("step")),
        "environment": text(row.get("environment")),
        "reward": number(row.get("reward")),
        "status": text(row.get("status")),
        "prompt": [(kind, _cut(piece)) for kind, piece in _pieces(row.get("prompt"), "prompt")],
        "completion": [(kind, _cut(piece)) for kind, piece in _pieces(row.get("completion"), "answer")],
    }


def _pieces(value: Any, kind: str) -> Pieces:
    """Text, or turns of a conversation, as (kind, text) pieces."""
    if isinstance(value, str):
        return split_thinking(value) if kind == "answer" else [(kind, value)]
    if not isinstance(value, list):
        return [] if value is None else [(kind, json.dumps(value, ensure_ascii=False))]
    pieces: Pieces = []
    for turn in map(mapping, value):
        role = text(turn.get("role")) or kind
        if text(turn.get("thinking")):
            pieces.append(("thinking", text(turn.get("thinking"))))
        content = turn.get("content")
        if content:
            written = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            pieces += split_thinking(written) if role == "assistant" else [(role, written)]
        for call in items(turn.get("tool_calls")):
            pieces.append(("tool call", json.dumps(call, ensure_ascii=False)))
    return pieces


def _cut(piece: str) -> str:
    if len(piece) <= _A_TEXT:
        return piece
    half = _A_TEXT // 2
    return f"{piece[:half]}\n\n[… {len(piece) - 2 * half:,} characters left out …]\n\n{piece[-half:]}"


def _choice(name: str, values: list[str]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    hidden = " hidden" if len(values) < 2 else ""
    return (
        f'<label{hidden}><span>{name}</span><select name="{name}">'
        f'<option value="">all</option>{options}</select></label>'
    )


def _bound(name: str, word: str, found: str) -> str:
    return f'<input name="{name}" type="number" step="any" placeholder="{found}" aria-label="{word} reward">'
