"""WorkBench (olly-styles/WorkBench) from its own files: its 480 queries, and its verdict on what was done.

A model is measured in worlds over its tables, and recorded calls are judged by the same rule, which is
reproduced to the letter, accidents included: the predicted and the gold calls are each
replayed from fresh tables, and the verdict is right when all five tables end equal, without case in
most columns, with the row labels of the frames that the benchmark keeps. Nothing is evaluated: calls
are parsed as literals. The benchmark runs on pandas; where pandas 2 and 3 store a value that is not a
string differently (recorded calls hold only strings), pandas 2 is followed.
"""

import ast
import csv
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from alloy.artifact import fingerprint_file, fingerprint_json
from alloy.environments.call_log import fault_shares
from alloy.environments.phrasing import seed_of
from alloy.environments.task import Message, Split, Task, World
from alloy.environments.workbench_calls import NotACall, parse_calls
from alloy.environments.workbench_reading import SCHEMAS
from alloy.environments.workbench_tables import State, changed_tables, differing_tables, read_state
from alloy.environments.workbench_tools import NOW, WRITING_TOOLS
from alloy.environments.workbench_world import WorkbenchWorld
from alloy.errors import InputError
from alloy.verify.verdict import Verdict

QUERIES_FOLDER = "queries_and_answers"
QUERY_COLUMNS = ("query", "answer", "base_template", "chosen_template", "domains")
GOLD_STATES_KEPT = 1024
DIRECTORY = "company_directory.find_email_address"
SYSTEM = (
    f"It is {NOW:%A}, {NOW:%Y-%m-%d %H:%M:%S}. Meetings start at 9:00 or later and end by 18:00. "
    "Use the tools, and do what is asked without asking back."
)


class Rule:
    """The benchmark's rule on end states, over one set of fresh tables.

    Attributes:
        fresh: the tables that every trajectory starts from.
    """

    def __init__(self, fresh: State) -> None:
        self.fresh = fresh
        self._gold_state = lru_cache(maxsize=GOLD_STATES_KEPT)(lambda gold: replay(fresh, gold))

    def verdict(self, end: State, gold: Sequence[str], error: str = "") -> Verdict:
        """1 when the tables are as the gold calls leave them; a non-empty `error` loses in any case.

        `parts` tells `side_effects`: 1 for a losing trajectory that changed something.
        """
        differing = differing_tables(end, self._gold_state(tuple(gold)))
        if not differing and not error:
            return Verdict(1.0, parts={"side_effects": 0.0})
        detail = f"error: {error}" if error else f"differs in {', '.join(differing)}"
        return Verdict(0.0, "ok", detail, {"side_effects": float(bool(changed_tables(self.fresh, end)))})


class WorkbenchEnvironment:
    """The benchmark's queries, its tools and its tables; for measuring, never for training.

    Args:
        data: the folder with the benchmark's CSV files.
        tools: on offer: all 27, or those of the query's domains and the directory, as the benchmark has it
            both ways.

    Task.gold holds the `calls` of the answer, in the benchmark's notation, and its `domains`.
    """

    name = "workbench"

    def __init__(self, data: str, tools: Literal["all", "domains"] = "all") -> None:
        if tools not in ("all", "domains"):
            raise InputError(f"tools = {tools!r}: take all or domains.")
        self.offered = tools
        self.rule = Rule(read_state(Path(data)))
        self.queries = load_tasks(Path(data))

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the benchmark's files.

        Raises:
            InputError: the options name no folder with CSV files.
        """
        folder = Path(str(options.get("data")))
        files = sorted(folder.rglob("*.csv"))
        if not files:
            raise InputError(
                f"data = {options.get('data')!r}: no CSV files. Name the folder with WorkBench's."
            )
        return fingerprint_json([[str(file.relative_to(folder)), fingerprint_file(file)] for file in files])

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different queries in the seed's order.

        Raises:
            InputError: another split than test, or more than there are.
        """
        if split != "test":
            raise InputError(f"workbench: split {split!r}: a benchmark is only measured on. Take test.")
        if count > len(self.queries):
            raise InputError(
                f"workbench: {count} items, but there are {len(self.queries)} queries. Take fewer."
            )
        drawn = random.Random(seed_of(self.name, split, seed, 0)).sample(self.queries, len(self.queries))
        return [self._shown(task) for task in drawn[:count]]

    def _shown(self, task: Task) -> Task:
        tools = [
            schema
            for name, schema in SCHEMAS.items()
            if self.offered == "all" or name == DIRECTORY or name.partition(".")[0] in task.gold["domains"]
        ]
        return replace(task, messages=[{"role": "system", "content": SYSTEM}, *task.messages], tools=tools)

    def open(self, task: Task) -> WorkbenchWorld:
        """Fresh tables for a query."""
        return WorkbenchWorld(self.rule.fresh, frozenset(tool["name"] for tool in task.tools))

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """The benchmark's verdict on the tables that were left; `parts` has the calls' faults beside it.

        Without a world the calls of the completion are made in a fresh one.
        """
        if world is None:
            world = self.open(task)
            for turn in completion:
                for call in turn.get("tool_calls") or []:
                    world.call(call["name"], call["arguments"])
        if not isinstance(world, WorkbenchWorld):
            raise TypeError(f"a {type(world).__name__} is no world of WorkBench")
        verdict = self.rule.verdict(world.state, task.gold["calls"])
        unreadable = sum(len(turn.get("invalid_calls") or []) for turn in completion)
        return replace(verdict, parts={**(verdict.parts or {}), **fault_shares(world.log, unreadable)})

    def describe(self, task: Task) -> dict[str, Any]:
        """What evaluation groups tasks by: `domains` (joined by +), `steps` (changes that the answer makes)."""
        return {"domains": "+".join(sorted(task.gold["domains"])), "steps": len(task.gold["calls"])}


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

    A non-empty `error` loses whatever the calls are. `parts` is as in `Rule.verdict`. A row without lists of
    calls cannot be judged: status `error`.

    Calls are taken as they stand: a raw line break inside a quoted value is a syntax error in Python, so
    that call changes nothing.

    Raises:
        InputError: the folder lacks one of WorkBench's CSV files, or one is broken.
    """
    rule = Rule(read_state(data_dir))

    def verify(row: dict[str, Any]) -> Verdict:
        calls, gold = row.get("calls"), row.get("gold")
        if not isinstance(calls, list):
            return Verdict(None, "error", f"calls is {type(calls).__name__}, not a list of calls")
        if not isinstance(gold, list) or not all(isinstance(call, str) for call in gold):
            return Verdict(None, "error", "gold is not a list of calls")
        return rule.verdict(replay(rule.fresh, calls), gold, row.get("error") or "")

    return verify


def load_tasks(data_dir: Path) -> list[Task]:
    """The queries of every file in `queries_and_answers`, in the order of file name and line.

    `gold` holds the `calls` that answer the query and its `domains`. There are no demonstrations: the
    benchmark's answers are the changes alone, without what has to be read before.

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
