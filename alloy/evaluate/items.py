"""The items of a suite on one model, a line each: kept as they are made, so that a run goes on where it was."""

import json
from pathlib import Path
from typing import Any

from alloy.artifact import write_atomically

Row = dict[str, Any]
"""One completion: `item`, `task`, `sample`, `budget`, `length`, `portion`, `prompt`, `completion`, `thinking`,
`finished`, `status` and `detail` of the verdict, `scores` by metric (null where the verifier failed), `weights`
of those that are shares of several things, `followed` by instruction, `labels`, and `seconds`: the portion's
wall-clock time divided by its items."""


class ItemLog:
    """A JSONL file of items, whole portions at a time; in memory alone without a path.

    A portion that a kill cut short is dropped when the file is opened again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._torn = False
        if path is not None and path.is_file():
            read = [_read(line) for line in path.read_bytes().split(b"\n")[:-1]]
            self.rows = [row for row in read if row is not None]
            self._torn = len(self.rows) < len(read) or not path.read_bytes().endswith(b"\n")

    def keep(self, sizes: dict[int, int]) -> set[int]:
        """Drop what belongs to no whole portion.

        Args:
            sizes: items of each portion of the suite.
        Returns: the numbers of those that are whole.
        """
        held: dict[int, list[Row]] = {}
        for row in self.rows:
            held.setdefault(row["portion"], []).append(row)
        whole = {number for number, rows in held.items() if len(rows) == sizes.get(number)}
        kept = [row for number in sorted(whole) for row in held[number]]
        if (self._torn or kept != self.rows) and self.path is not None:
            write_atomically(self.path, "".join(map(_line, kept)))
        self.rows = kept
        return whole

    def add(self, rows: list[Row]) -> None:
        """Add a portion, and write it down before anything else is made."""
        self.rows += rows
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(map(_line, rows)))


def _line(row: Row) -> str:
    # A lone surrogate has no UTF-8 form; what is written instead is its escape in JSON.
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def _read(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("portion"), int) else None
