"""The workplace: a company of our own making, asked to be changed through its tools.

A task is won exactly when the company ends as the gold calls would leave it, so that a change nobody
asked for loses as much as one that was not made. Reading is free.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from alloy.environments.call_log import CallRecord, Outcome, fault_shares
from alloy.environments.task import Message, Split, Task, World
from alloy.environments.workplace_company import FEWEST_ROWS, FEWEST_WORDS, MOST_ROWS
from alloy.environments.workplace_state import Change, State
from alloy.environments.workplace_tasks import KINDS, Kind, make_task
from alloy.environments.workplace_tools import FIELDS, READ_ONLY_TOOLS, TOOLS, NoSuchRow
from alloy.errors import InputError
from alloy.verify.verdict import Verdict


class WorkplaceWorld:
    """One company behind one task; `log` keeps what was called, for counting.

    Attributes:
        begun: the company as it was at first.
        state: the company as it is now.
        offered: the names of the tools on offer.
        log: every call, in order.
        read_only_tools: the names of the tools that change nothing.
    """

    read_only_tools = READ_ONLY_TOOLS

    def __init__(self, state: State, offered: frozenset[str]) -> None:
        self.begun = state.copy()
        self.state = state
        self.offered = offered
        self.log: list[CallRecord] = []

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """The tool's answer: compact JSON, "ok", or a text that begins with "error:"."""
        outcome, answer = self._call(name, arguments)
        self.log.append(CallRecord(str(name), outcome))
        return answer

    def _call(self, name: Any, arguments: Any) -> tuple[Outcome, str]:
        tool = TOOLS.get(name) if isinstance(name, str) else None
        if tool is None:
            return "unknown tool", f"error: there is no tool {str(name)[:40]!r}"
        if name not in self.offered:
            return "not offered", f"error: {name} is not on offer here"
        complaint = tool.complaint(arguments)
        if complaint:
            return "wrong arguments", f"error: {complaint}"
        try:
            answer = tool.run(self.state, **arguments)
        except NoSuchRow as error:
            return "no such row", f"error: {error}"
        return ("written" if tool.writes else "read"), answer


class WorkplaceEnvironment:
    """Tasks in small companies, generated from a seed.

    Args:
        rows_per_table: events, emails, customers, tasks and people of a company.
        tools_offered: tools shown with a task; more where a task needs more.
        kinds: what is asked for: `write` (one change, all values given), `search` (an id has to be read
            first), `conditional` (something has to be read to decide), `nothing` (the condition is false
            or the row is not there), `domains` (several parts of the company), `steps` (two changes or more).
        thinking: whether the demonstrations carry a line of thinking in every turn.
        words: of each list that names are made of, so that a small model meets each often; all when None.
        lapses: share of the demonstrations that are careless, as collected ones are: the last change is
            claimed but not made, or made although its condition is false. What is asked stays the same.

    The phrasings of the splits are disjoint, the values come from the same words. Task.gold holds `kind`,
    `action`, `domains`, `steps` (calls of the demonstration), `tables` (the company), `calls` (the changes).
    """

    name = "workplace"

    def __init__(
        self,
        rows_per_table: int = 4,
        tools_offered: int = 3,
        kinds: Sequence[Kind] = KINDS,
        thinking: bool = True,
        words: int | None = None,
        lapses: float = 0.0,
    ) -> None:
        if not FEWEST_ROWS <= rows_per_table <= MOST_ROWS:
            raise InputError(f"rows_per_table = {rows_per_table}: take {FEWEST_ROWS} to {MOST_ROWS}.")
        if tools_offered < 1:
            raise InputError(f"tools_offered = {tools_offered}: take 1 or more.")
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise InputError(f"kinds = {list(kinds)!r}: take some of {', '.join(KINDS)}.")
        self.rows_per_table = rows_per_table
        self.tools_offered = tools_offered
        self.kinds = tuple(kinds)
        if words is not None and (words < FEWEST_WORDS or words * words < 2 * rows_per_table + 4):
            raise InputError(f"words = {words}: too few for {rows_per_table} names a table. Take more.")
        if not 0 <= lapses <= 1:
            raise InputError(f"lapses = {lapses}: a share from 0 to 1 is needed.")
        self.thinking = thinking
        self.words = words
        self.lapses = lapses

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        return [
            make_task(
                Random(f"workplace/{split}/{seed}/{number}"),
                f"{split}-{seed}-{number}",
                split,
                self.kinds,
                self.rows_per_table,
                self.tools_offered,
                self.thinking,
                self.words,
                self.lapses,
            )
            for number in range(count)
        ]

    def open(self, task: Task) -> WorkplaceWorld:
        """A fresh company for a task."""
        return WorkplaceWorld(
            State.from_tables(task.gold["tables"]), frozenset(tool["name"] for tool in task.tools)
        )

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """1 when the company is as the gold calls leave it, else 0.

        Without a world the calls of the completion are made in a fresh one. `parts`: `side_effects`, 1 when
        something was changed that was not to be changed, or not so; `invalid_calls`, the share of the calls
        that could not be read or named a wrong argument or row; `invented_tools`, that of the calls of a tool
        that was not on offer.
        """
        if world is None:
            world = replay(self.open(task), completion)
        if not isinstance(world, WorkplaceWorld):
            raise TypeError(f"a {type(world).__name__} is no world of the workplace")
        begun = world.begun
        wanted = begun.copy()
        for call in task.gold["calls"]:
            TOOLS[call["name"]].run(wanted, **call["arguments"])
        shares = fault_shares(world.log, sum(len(turn.get("invalid_calls") or []) for turn in completion))
        if world.state.same_as(wanted):
            return Verdict(1.0, parts={"side_effects": 0.0, **shares})
        done, asked = world.state.changes_since(begun), wanted.changes_since(begun)
        unasked, missing = _beyond(done, asked), _beyond(asked, done)
        told = [f"unasked: {_tell(change)}" for change in unasked]
        told += [f"not done: {_tell(change)}" for change in missing]
        return Verdict(0.0, "ok", "; ".join(told), {"side_effects": float(bool(unasked)), **shares})

    def describe(self, task: Task) -> dict[str, Any]:
        """What evaluation groups tasks by: `kind`, `domains` (joined by +), `steps`."""
        return {
            "kind": task.gold["kind"],
            "domains": "+".join(task.gold["domains"]),
            "steps": task.gold["steps"],
        }


def replay(world: WorkplaceWorld, completion: Sequence[Message]) -> WorkplaceWorld:
    """Make the calls of the assistant turns in a world."""
    for turn in completion:
        for call in turn.get("tool_calls") or []:
            world.call(call.get("name"), call.get("arguments"))
    return world


def _beyond(changes: list[Change], others: list[Change]) -> list[Change]:
    """The changes that are not among the others, each as often as it is too many."""
    left = list(others)
    beyond = []
    for change in changes:
        if change in left:
            left.remove(change)
        else:
            beyond.append(change)
    return beyond


def _tell(change: Change) -> str:
    table, key, before, after = change
    row = after or before
    cells = dict(zip(FIELDS[table], row, strict=True)) if row else {}
    return f"{table} {key} {cells if after else 'deleted'}"
