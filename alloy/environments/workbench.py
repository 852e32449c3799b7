"""WorkBench (olly-styles/WorkBench) from its own files: its 480 queries and its verdict on recorded calls.

The rule is reproduced to the letter, accidents included: the predicted and the gold calls are each
replayed from fresh tables, and the verdict is right when all five tables end equal, without case in
most columns, with the row labels of the frames that the benchmark keeps. Nothing is evaluated: calls
are parsed as literals. The benchmark runs on pandas; where pandas 2 and 3 store a value that is not a
string differently (recorded calls hold only strings), pandas 2 is followed.
"""

import ast
import csv
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from alloy.environments.task import Task
from alloy.environments.workbench_calls import NotACall, parse_calls
from alloy.environments.workbench_tables import State, changed_tables, differing_tables, read_state
from alloy.environments.workbench_tools import WRITING_TOOLS
from alloy.errors import InputError
from alloy.verify.verdict import Verdict

QUERIES_FOLDER = "queries_and_answers"
QUERY_COLUMNS = ("query", "answer", "base_template", "chosen_template", "domains")
GOLD_STATES_KEPT = 1024


def replay(fresh: State, calls: Iterable[object]) -> State:
    """The tables after the calls; `fresh` stays as it is. A call that would raise changes nothing."""
    state = fresh.copy()
    for text in calls:
        try:
            for call in parse_calls(text):
                tool = WRITING_TOOLS.get(call.tool)
                if tool is not None:
                    positional, named = call.arguments()
                    tool(state, *positional, **named)
        except NotACall:
            continue
        except Exception:  # the model's arguments can raise anything; the benchmark goes on, so do we
            continue
    return state


def row_verifier(data_dir: Path) -> Callable[[dict[str, Any]], Verdict]:
    """A judge of recorded rows {"query", "calls", "gold", "error"}, exactly as the benchmark's evaluator.

    A non-empty `error` loses whatever the calls are. `parts` tells `side_effects`: 1 for a losing row
    whose calls changed something. A row without lists of calls cannot be judged: status `error`.

    Calls are taken as they stand: a raw line break inside a quoted value is a syntax error in Python, so
    that call changes nothing.

    Raises:
        InputError: the folder lacks one of WorkBench's CSV files, or one is broken.
    """
    fresh = read_state(data_dir)

    @lru_cache(maxsize=GOLD_STATES_KEPT)
    def gold_state(gold: tuple[str, ...]) -> State:
        return replay(fresh, gold)

    def verify(row: dict[str, Any]) -> Verdict:
        calls, gold = row.get("calls"), row.get("gold")
        if not isinstance(calls, list):
            return Verdict(None, "error", f"calls is {type(calls).__name__}, not a list of calls")
        if not isinstance(gold, list) or not all(isinstance(call, str) for call in gold):
            return Verdict(None, "error", "gold is not a list of calls")
        end = replay(fresh, calls)
        differing = differing_tables(end, gold_state(tuple(gold)))
        if not differing and not row.get("error"):
            return Verdict(1.0, parts={"side_effects": 0.0})
        detail = f"error: {row['error']}" if row.get("error") else f"differs in {', '.join(differing)}"
        return Verdict(0.0, "ok", detail, {"side_effects": float(bool(changed_tables(fresh, end)))})

    return verify


def load_tasks(data_dir: Path) -> list[Task]:
    """The queries of every file in `queries_and_answers`, in the order of file name and line.

    `gold` holds the `calls` that answer the query and its `domains`. There are no tool schemas and no
    demonstrations: the benchmark records calls in its own notation.

    Raises:
        InputError: no query files, a missing column, or an answer that is not a list of calls.
    """
    folder = data_dir / QUERIES_FOLDER
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise InputError(f"{folder}: no CSV files. Name the folder that holds WorkBench's CSV files.")
    return [task for path in files for task in _read_queries(path)]


def _read_queries(path: Path) -> list[Task]:
    tasks = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lacking = [column for column in QUERY_COLUMNS if column not in (reader.fieldnames or [])]
        if lacking:
            raise InputError(
                f"{path}:1: no column {lacking[0]!r}; a query file has {', '.join(QUERY_COLUMNS)}."
            )
        for number, row in enumerate(reader):
            where = f"{path}:{reader.line_num}"
            tasks.append(
                Task(
                    id=f"{path.stem}-{number}",
                    environment="workbench",
                    template=row["base_template"],
                    messages=[{"role": "user", "content": row["query"]}],
                    gold={
                        "calls": _strings(row["answer"], "answer", where),
                        "domains": _strings(row["domains"], "domains", where),
                    },
                )
            )
    return tasks


def _strings(text: str, column: str, where: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{where}: {column} = {text[:80]!r}: write a Python list of strings.")
    return value
