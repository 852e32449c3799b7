"""WorkBench's five tables, as light as they can be and still behave like the frames they were.

The benchmark keeps pandas frames and compares them with their row labels. A table here is three
plain sequences; every change makes a new table that shares its rows with the old one, so a copy of
the state is free, a failed call leaves nothing behind, and two end states are compared by looking
at the few rows that are not the very same object.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloy.errors import InputError

Row = tuple[Any, ...]

MISSING = float("nan")
"""What an empty cell holds; written into a text it reads "nan", as in the benchmark."""

# The texts that pandas reads as an empty cell.
EMPTY_CELLS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)

CASE_SENSITIVE_COLUMNS = frozenset(["status", "list_name", "board"])

FILES = {
    "calendar": "calendar_events.csv",
    "email": "emails.csv",
    "tasks": "project_tasks.csv",
    "customers": "customer_relationship_manager_data.csv",
    "analytics": "analytics_data.csv",
}
DIRECTORY_FILE = "email_addresses.csv"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns, and rows under labels that need not be unique. The first column is the id."""

    columns: tuple[Any, ...]
    labels: tuple[int, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[Any]:
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def positions(self, row_id: Any) -> list[int]:
        """Where the rows with this id stand."""
        return [position for position, row in enumerate(self.rows) if row[0] == row_id]

    def record(self, position: int) -> dict[Any, Any]:
        return dict(zip(self.columns, self.rows[position], strict=True))

    def highest_id(self) -> int:
        """The highest id as a number; ids are compared as the strings that they are."""
        return int(max(row[0] for row in self.rows))

    def appended(self, cells: dict[str, Any], label: int) -> "Table":
        """With a row at the end; a column that `cells` does not name stays empty in it."""
        row = tuple(cells.get(column, MISSING) for column in self.columns)
        return Table(self.columns, (*self.labels, label), (*self.rows, row))

    def relabelled(self) -> "Table":
        return Table(self.columns, tuple(range(len(self.rows))), self.rows)

    def without(self, row_id: Any) -> "Table":
        """Without the rows of this id; the others keep their labels."""
        kept = [position for position, row in enumerate(self.rows) if row[0] != row_id]
        return Table(
            self.columns,
            tuple(self.labels[position] for position in kept),
            tuple(self.rows[position] for position in kept),
        )

    def written_at_label(self, label: int, cells: dict[str, Any]) -> "Table":
        """A row written under a label: over the row that has it, or else at the end."""
        if label not in self.labels:
            return self.appended(cells, label)
        position = self.labels.index(label)
        row = tuple(cells.get(column, MISSING) for column in self.columns)
        return Table(self.columns, self.labels, (*self.rows[:position], row, *self.rows[position + 1 :]))

    def with_cells(self, positions: Iterable[int], column: Any, values: Sequence[Any]) -> "Table":
        """One value a position in a column; an unknown column is added at the end, empty elsewhere."""
        columns, rows = self.columns, list(self.rows)
        if column not in columns:
            columns = (*columns, column)
            rows = [(*row, MISSING) for row in rows]
        at = columns.index(column)
        for position, value in zip(positions, values, strict=True):
            row = rows[position]
            rows[position] = (*row[:at], value, *row[at + 1 :])
        return Table(columns, self.labels, tuple(rows))


@dataclass(slots=True)
class State:
    """The tables of one trajectory; `analytics` and `directory` are only ever read."""

    calendar: Table
    email: Table
    tasks: Table
    customers: Table
    analytics: Table
    directory: tuple[str, ...]
    plots: Table = field(default_factory=lambda: Table(("file_path",), (), ()))

    def copy(self) -> "State":
        return State(
            self.calendar,
            self.email,
            self.tasks,
            self.customers,
            self.analytics,
            self.directory,
            self.plots,
        )


JUDGED_TABLES = ("calendar", "email", "plots", "tasks", "customers")


def read_state(data_dir: Path) -> State:
    """The fresh tables from WorkBench's CSV files, every cell a string.

    Raises:
        InputError: a file is missing or a row has more or fewer cells than the header.
    """
    tables = {name: _read_table(data_dir / file) for name, file in FILES.items()}
    directory = [row[0] for _, row in _read_rows(data_dir / DIRECTORY_FILE) if row]
    return State(**tables, directory=tuple(directory))


def _read_table(path: Path) -> Table:
    lines = _read_rows(path)
    if not lines:
        raise InputError(f"{path}: the file is empty; its first line names the columns.")
    columns = tuple(lines[0][1])
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise InputError(
                f"{path}:{number}: {len(cells)} cells under {len(columns)} columns. "
                "Take the file from WorkBench again."
            )
        rows.append(tuple(MISSING if cell in EMPTY_CELLS else cell for cell in cells))
    return Table(columns, tuple(range(len(rows))), tuple(rows))


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the number of its last line; empty lines are dropped."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Name the folder that holds WorkBench's CSV files.")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        return [(reader.line_num, cells) for cells in reader if cells]


def differing_tables(one: State, other: State) -> list[str]:
    """The judged tables in which two states differ, as the benchmark sees it: without case."""
    return [
        name for name in JUDGED_TABLES if not _same(getattr(one, name), getattr(other, name), _without_case)
    ]


def changed_tables(before: State, after: State) -> list[str]:
    """The judged tables that are not what they were, to the letter."""
    return [name for name in JUDGED_TABLES if not _same(getattr(before, name), getattr(after, name), _as_is)]


def _same(one: Table, other: Table, view: Callable[[Any, Any], Any]) -> bool:
    if one is other:
        return True
    if one.columns != other.columns or one.labels != other.labels:
        return False
    for row, twin in zip(one.rows, other.rows, strict=True):
        if row is twin:
            continue
        for column, cell, twin_cell in zip(one.columns, row, twin, strict=True):
            if view(column, cell) != view(column, twin_cell):
                return False
    return True


def _as_is(column: Any, cell: Any) -> Any:
    return None if cell is None or cell is MISSING else cell


def _without_case(column: Any, cell: Any) -> Any:
    """A cell as it is compared; None is missing, and so is all that is not a string once lower-cased."""
    if column in CASE_SENSITIVE_COLUMNS:
        return _as_is(column, cell)
    return cell.lower() if isinstance(cell, str) else None
