"""The shapes in which preferences are published, read into one: a conversation and two answers to it.

A shape is a function from a row to a `Preference`, or to None for a tie, which says nothing of what is
preferred; it raises `RowError` with what is wrong.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from alloy.data.shapes import RowError, messages
from alloy.environments.task import Message

PreferenceShapeName = Literal["auto", "chosen-rejected", "helpsteer3", "ultrafeedback", "hh-rlhf"]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one conversation, the preferred first.

    Attributes:
        margin: how much it is preferred, in the data's own unit; None where that is not told.
        helpfulness: of the chosen and the rejected answer, 1 to 5; None where that is not told.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    margin: float | None = None
    helpfulness: tuple[float, float] | None = None


PreferenceShape = Callable[[dict[str, Any]], Preference | None]


def chosen_rejected(row: dict[str, Any]) -> Preference | None:
    """`prompt`, `chosen` and `rejected`, each a text or a list of turns; `margin` where there is one.

    Without `prompt` the two are whole conversations, equal but for the last turn.
    """
    missing = [key for key in ("prompt", "chosen", "rejected") if row.get(key) is None]
    if missing == ["prompt"] and isinstance(row["chosen"], list):
        prompt, chosen, rejected = _parted(row["chosen"], row["rejected"])
    elif missing:
        raise RowError(f"no {' and no '.join(missing)}. Say with `columns` which is which")
    else:
        prompt = _prompt(row["prompt"])
        chosen, rejected = (_answer(row[key]) for key in ("chosen", "rejected"))
    return _preference(prompt, chosen, rejected, _number(row, "margin"))


def helpsteer3(row: dict[str, Any]) -> Preference | None:
    """NVIDIA's HelpSteer3: `context`, `response1`, `response2`, `overall_preference` from -3 to 3.

    -3 is much better for the first response, 3 for the second; the size is the margin.
    """
    given = row.get("overall_preference")
    if isinstance(given, bool) or not isinstance(given, int | float) or not -3 <= given <= 3:
        raise RowError(f"overall_preference is {given!r}: a number from -3 to 3 is needed")
    prompt = _prompt(row.get("context"))
    first, second = (_answer(row.get(key)) for key in ("response1", "response2"))
    if given == 0:
        return None
    chosen, rejected = (first, second) if given < 0 else (second, first)
    return _preference(prompt, chosen, rejected, abs(float(given)))


def ultrafeedback(row: dict[str, Any]) -> Preference | None:
    """UltraFeedback, binarised: `chosen` and `rejected` as turns, `score_chosen` and `score_rejected` 1 to 10.

    The scores' difference is the margin.
    """
    scores = [_number(row, key) for key in ("score_chosen", "score_rejected")]
    if scores[0] is None or scores[1] is None:
        raise RowError("no score_chosen or no score_rejected: it is not UltraFeedback binarised")
    prompt, chosen, rejected = _parted(row.get("chosen"), row.get("rejected"))
    if scores[0] == scores[1]:
        return None
    if scores[0] < scores[1]:
        raise RowError(f"score_chosen {scores[0]:g} is below score_rejected {scores[1]:g}")
    rated = (1 + (scores[0] - 1) * 4 / 9, 1 + (scores[1] - 1) * 4 / 9)
    return _preference(prompt, chosen, rejected, scores[0] - scores[1], rated)


_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def hh_rlhf(row: dict[str, Any]) -> Preference | None:
    """Anthropic's HH-RLHF: `chosen` and `rejected` as transcripts, equal up to the last "Assistant:"."""
    turns = {key: _transcript(row.get(key), key) for key in ("chosen", "rejected")}
    return _preference(*_parted(turns["chosen"], turns["rejected"]), None)


PREFERENCE_SHAPES: dict[str, PreferenceShape] = {
    "chosen-rejected": chosen_rejected,
    "helpsteer3": helpsteer3,
    "ultrafeedback": ultrafeedback,
    "hh-rlhf": hh_rlhf,
}


def preference_shape_of(row: dict[str, Any]) -> PreferenceShape:
    """The shape that a row's columns tell; plain chosen and rejected where they tell nothing else."""
    if {"context", "response1", "response2", "overall_preference"} <= row.keys():
        return helpsteer3
    if {"chosen", "rejected", "score_chosen", "score_rejected"} <= row.keys():
        return ultrafeedback
    chosen = row.get("chosen")
    if row.get("prompt") is None and isinstance(chosen, str) and _SPEAKER.match(chosen):
        return hh_rlhf
    return chosen_rejected


def to_preference(raw: Any, shape: str, columns: dict[str, str]) -> Preference | None:
    """A row as it stands in its source; None for a tie.

    Args:
        columns: ours to theirs.
    Raises:
        RowError: what is wrong with it.
    """
    if isinstance(raw, RowError):
        raise raw
    row = {ours: raw.get(theirs) for ours, theirs in columns.items()} | {
        key: value for key, value in raw.items() if key not in columns
    }
    read = preference_shape_of(row) if shape == "auto" else PREFERENCE_SHAPES[shape]
    return read(row)


def _preference(
    prompt: list[Message],
    chosen: str,
    rejected: str,
    margin: float | None,
    helpfulness: tuple[float, float] | None = None,
) -> Preference | None:
    if not any(turn["role"] == "user" for turn in prompt):
        raise RowError("the prompt has no user turn")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer.strip():
            raise RowError(f"the {name} answer is empty")
    # Two equal answers tell nothing, whatever the row says of them.
    return None if chosen == rejected else Preference(prompt, chosen, rejected, margin, helpfulness)


def _prompt(value: Any) -> list[Message]:
    if isinstance(value, str) and value.startswith("["):
        # It may be a text that begins with a bracket.
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list) and value:
        return messages({"messages": value}).messages
    raise RowError(f"a prompt is a text or a list of turns, not {str(value)[:60]!r}")


def _answer(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        last = value[-1]
        if isinstance(last, dict) and isinstance(last.get("content"), str):
            return str(messages({"messages": [last]}).messages[0]["content"])
    raise RowError(f"an answer is a text or a list of turns, not {str(value)[:60]!r}")


def _parted(chosen: Any, rejected: Any) -> tuple[list[Message], str, str]:
    """What two conversations have in common, and the answers in which they differ."""
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(turns, list) or len(turns) < 2:
            raise RowError(f"{name} is no conversation of a prompt and an answer")
    first, second = (messages({"messages": turns}).messages for turns in (chosen, rejected))
    if first[:-1] != second[:-1]:
        raise RowError("chosen and rejected differ before their last turn")
    if first[-1]["role"] != "assistant" or second[-1]["role"] != "assistant":
        raise RowError("the last turn of chosen or rejected is not the assistant's")
    return first[:-1], first[-1]["content"], second[-1]["content"]


def _transcript(value: Any, name: str) -> list[Message]:
    """The turns of a transcript; two in a row of one speaker are one."""
    if not isinstance(value, str) or not _SPEAKER.match(value):
        raise RowError(f'{name} is no transcript: it begins with "\\n\\nHuman:"')
    parts = _SPEAKER.split(value)[1:]
    turns: list[Message] = []
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{text.strip()}"
        else:
            turns.append({"role": role, "content": text.strip()})
    return turns


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowError(f"{key} is {value!r}, a number is needed")
    return value
