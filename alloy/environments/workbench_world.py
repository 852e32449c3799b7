"""WorkBench's tables behind one query, changed through its tools by a model."""

import json
from collections.abc import Sequence
from typing import Any

from alloy.environments.call_log import CallRecord, Outcome
from alloy.environments.workbench_reading import READING_TOOLS, SCHEMAS, NothingFound
from alloy.environments.workbench_tables import JUDGED_TABLES, MISSING, State
from alloy.environments.workbench_tools import WRITING_TOOLS

_MADE = {
    "calendar.create_event": "calendar",
    "project_management.create_task": "tasks",
    "customer_relationship_manager.add_customer": "customers",
    "analytics.create_plot": "plots",
}
"""Tools that answer with the first cell of the row that they made."""
_CHOICES = {
    "list_name": "project_management.create_task",
    "board": "project_management.create_task",
    "status": "customer_relationship_manager.search_customers",
    "product_interest": "customer_relationship_manager.search_customers",
}


class WorkbenchWorld:
    """Fresh tables for one query.

    Attributes:
        state: the tables as they are now.
        offered: the names of the tools on offer.
        calls: what was called, as {"name", "arguments"}; never a text that would have to be evaluated.
        log: what became of each call.
        read_only_tools: the names of the tools that change nothing.
    """

    read_only_tools = frozenset(READING_TOOLS)

    def __init__(self, fresh: State, offered: frozenset[str]) -> None:
        self.state = fresh.copy()
        self.offered = offered
        self.calls: list[dict[str, Any]] = []
        self.log: list[CallRecord] = []

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """The tool's result as JSON; {"error": ...} for a call that is wrong or changes nothing."""
        self.calls.append({"name": name, "arguments": arguments})
        outcome, answer = self._call(name, arguments)
        self.log.append(CallRecord(str(name), outcome))
        return json.dumps(_plain(answer), ensure_ascii=False, default=str)

    def _call(self, name: Any, arguments: Any) -> tuple[Outcome, Any]:
        if not isinstance(name, str) or name not in SCHEMAS:
            return "unknown tool", _error(f"there is no tool {str(name)[:60]!r}")
        if name not in self.offered:
            return "not offered", _error(f"{name} is not on offer here")
        if not isinstance(arguments, dict):
            return "wrong arguments", _error(f"the arguments of {name} must be an object")
        try:
            if name in READING_TOOLS:
                return "read", READING_TOOLS[name](self.state, **arguments)
            return self._write(name, arguments)
        except NothingFound as error:
            return "no such row", _error(error)
        except (
            Exception
        ) as error:  # whatever the arguments raise, the benchmark goes on, and so does the world
            return "wrong arguments", _error(error)

    def _write(self, name: str, arguments: dict[str, Any]) -> tuple[Outcome, Any]:
        before = self.state.copy()
        WRITING_TOOLS[name](self.state, **arguments)
        if all(getattr(self.state, table) is getattr(before, table) for table in JUDGED_TABLES):
            return self._refusal(name, arguments)
        made = _MADE.get(name)
        return "written", getattr(self.state, made).rows[-1][0] if made else "ok"

    def _refusal(self, name: str, arguments: dict[str, Any]) -> tuple[Outcome, Any]:
        """Why nothing was changed."""
        needed = SCHEMAS[name]["parameters"]["required"]
        lacking = [key for key in needed if not arguments.get(key)]
        if lacking:
            return "wrong arguments", _error(f"{name} needs {', '.join(lacking)}")
        for key in ("event_id", "email_id", "task_id", "customer_id"):
            table = {"event_id": "calendar", "email_id": "email", "task_id": "tasks"}.get(key, "customers")
            if key in needed and not getattr(self.state, table).positions(arguments[key]):
                return "no such row", _error(f"nothing has the {key} {str(arguments[key])[:40]!r}")
        return "wrong arguments", _error(f"nothing was changed: {_rule(name, arguments)}")


def _rule(name: str, arguments: dict[str, Any]) -> str:
    """What a value that is refused breaks."""
    if name.startswith("email."):
        return "the recipient must be an email address"
    if name == "analytics.create_plot":
        fields = SCHEMAS[name]["parameters"]["properties"]
        return "; ".join(
            f"{key} must be one of {', '.join(fields[key]['enum'])}" for key in ("value_to_plot", "plot_type")
        )
    told = []
    for key in [arguments["field"]] if "field" in arguments else ["list_name", "board"]:
        if isinstance(key, str) and key in _CHOICES:
            allowed = SCHEMAS[_CHOICES[key]]["parameters"]["properties"][key]["enum"]
            told.append(f"{key} must be one of {', '.join(allowed)}")
    if name.startswith("project_management."):
        told.append("a task can be assigned to those who have tasks")
    return "; ".join(told) or "there is no such field"


def _error(what: object) -> dict[str, str]:
    return {"error": str(what)[:300]}


def _plain(value: Any) -> Any:
    """What an empty cell holds is no JSON."""
    if value is MISSING:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
