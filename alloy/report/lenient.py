"""Files and values of a run folder, read so that nothing in them can stop the report.

What is missing or of another type reads as empty; what is broken becomes a note.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    """A dict with its keys as text; empty for anything else."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def json_rows(path: Path, notes: list[str], wanted: set[int] | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, one at a time; `wanted` picks lines by number from 0.

    A line cut off by a kill, or one that is no object, is passed over and counted in a note.
    """
    broken = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            for index, line in enumerate(stream):
                if (wanted is not None and index not in wanted) or not line.strip():
                    continue
                row = _parse(line)
                if isinstance(row, dict):
                    yield row
                else:
                    broken += 1
    except OSError as error:
        notes.append(f"{_where(path)} could not be read: {error.strerror or error}.")
    if broken:
        notes.append(
            f"{_where(path)}: {broken} {'line is' if broken == 1 else 'lines are'} no JSON object, left out."
        )


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _where(path: Path) -> str:
    return "/".join(path.parts[-2:])


def read_text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        notes.append(f"{_where(path)} could not be read: {error.strerror or error}.")
        return ""


def read_object(path: Path, notes: list[str], needed: str = "") -> dict[str, Any]:
    """What a JSON file holds; empty where it is missing, or has nothing under the key that is needed."""
    content = read_text(path, notes)
    value = _parse(content) if content else {}
    if not isinstance(value, dict):
        notes.append(f"{_where(path)} is no JSON object, left out.")
        return {}
    if content and needed and not isinstance(value.get(needed), dict | list):
        notes.append(f"{_where(path)} has no {needed}, left out.")
        return {}
    return mapping(value)
