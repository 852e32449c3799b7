"""The company's tools: each a function on the state, its JSON schema beside it, all in one dict.

Names, descriptions and schemas are short: they stand in every prompt.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alloy.environments.workplace_state import FIELDS, State

SHOWN_ROWS = 3
LISTS = ("todo", "doing", "done")
STATUSES = ("lead", "won", "lost")
PLOT_KINDS = ("bar", "line")

NOUNS = {"events": "event", "inbox": "email", "customers": "customer", "tasks": "task"}


class NoSuchRow(LookupError):
    """The id or name that a tool was given names nothing."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what the policy is shown of it, and what it does.

    Attributes:
        domain: the part of the company it belongs to.
        writes: whether it changes the state.
        run: takes the state and the checked arguments, returns the answer.
        schema: {"name", "description", "parameters"}, shared by all tasks that offer the tool.
    """

    domain: str
    writes: bool
    run: Callable[..., str]
    schema: dict[str, Any]

    def complaint(self, arguments: Any) -> str | None:
        """What is wrong with the arguments, by the schema; None when nothing is. No other argument fits."""
        name, parameters = self.schema["name"], self.schema["parameters"]
        properties = parameters["properties"]
        if not isinstance(arguments, dict):
            return f"the arguments of {name} must be an object"
        for key in parameters["required"]:
            if key not in arguments:
                return f'{name} needs "{key}"'
        for key, value in arguments.items():
            if key not in properties:
                return f"{name} takes no {_quoted(key)}"
            if not isinstance(value, str):
                return f'"{key}" must be a string'
            allowed = properties[key].get("enum")
            if allowed and value not in allowed:
                return f'"{key}" must be one of {", ".join(map(_quoted, allowed))}'
        return None


def _quoted(value: Any) -> str:
    return json.dumps(str(value)[:40], ensure_ascii=False)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _rows_where(table: str, field: str) -> Callable[..., str]:
    """A tool that shows the first rows with a given value in a field; rows with ids show them."""
    fields = FIELDS[table]

    def run(state: State, **arguments: str) -> str:
        found = []
        for key, row in state.matching(table, field, arguments[field]):
            shown = dict(zip(fields, row, strict=True))
            found.append({"id": key, **shown} if table in NOUNS else shown)
            if len(found) == SHOWN_ROWS:
                break
        return _compact(found)

    return run


def _cell_of_day(field: str) -> Callable[..., str]:
    at = FIELDS["visits"].index(field)

    def run(state: State, day: str) -> str:
        for _, row in state.matching("visits", "day", day):
            return _compact({field: row[at]})
        raise NoSuchRow(f"nothing is known of {_quoted(day)}")

    return run


def _require(state: State, table: str, key: str) -> tuple[str, ...]:
    row = state.tables[table].get(key)
    if row is None:
        raise NoSuchRow(f"no {NOUNS[table]} has the id {_quoted(key)}")
    return row


def _setting(table: str, field: str) -> Callable[..., str]:
    """A tool that sets one field of the row with an id."""

    def run(state: State, id: str, **arguments: str) -> str:
        _require(state, table, id)
        state.update(table, id, field, arguments[field])
        return "ok"

    return run


def _deleting(table: str) -> Callable[..., str]:
    def run(state: State, id: str) -> str:
        _require(state, table, id)
        state.delete(table, id)
        return "ok"

    return run


def _adding(table: str, **given: str) -> Callable[..., str]:
    """A tool that adds a row from its arguments and from what a new row always holds."""

    def run(state: State, **arguments: str) -> str:
        cells = {**given, **arguments}
        return _compact({"id": state.insert(table, tuple(cells[field] for field in FIELDS[table]))})

    return run


def _reply(state: State, id: str, text: str) -> str:
    _, sender = _require(state, "inbox", id)
    return _compact({"id": state.insert("sent", (sender, text))})


def _forward(state: State, id: str, to: str) -> str:
    subject, _ = _require(state, "inbox", id)
    return _compact({"id": state.insert("sent", (to, f"fw: {subject}"))})


def _tool(
    domain: str, name: str, description: str, parameters: str, run: Callable[..., str], writes: bool = True
) -> Tool:
    """A tool whose parameters are named in one string; a name that has fixed choices brings them."""
    choices = {"list": LISTS, "status": STATUSES, "kind": PLOT_KINDS}
    properties = {
        key: {"type": "string", "enum": list(choices[key])} if key in choices else {"type": "string"}
        for key in parameters.split()
    }
    schema = {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
    return Tool(domain, writes, run, schema)


def _reading(domain: str, name: str, description: str, parameter: str, run: Callable[..., str]) -> Tool:
    return _tool(domain, name, description, parameter, run, writes=False)


TOOLS: dict[str, Tool] = {
    tool.schema["name"]: tool
    for tool in (
        _reading("calendar", "find_events", "Find events by name", "name", _rows_where("events", "name")),
        _reading("calendar", "list_events", "List the events of a day", "day", _rows_where("events", "day")),
        _tool("calendar", "add_event", "Add an event", "name day", _adding("events")),
        _tool("calendar", "move_event", "Move an event to a day", "id day", _setting("events", "day")),
        _tool("calendar", "rename_event", "Rename an event", "id name", _setting("events", "name")),
        _tool("calendar", "delete_event", "Delete an event", "id", _deleting("events")),
        _reading(
            "email", "find_emails", "Find emails by subject", "subject", _rows_where("inbox", "subject")
        ),
        _reading(
            "email", "list_emails", "List the emails of a sender", "sender", _rows_where("inbox", "sender")
        ),
        _tool("email", "send_email", "Send a text to an address", "to text", _adding("sent")),
        _tool("email", "reply_email", "Reply to an email", "id text", _reply),
        _tool("email", "forward_email", "Forward an email to an address", "id to", _forward),
        _tool("email", "delete_email", "Delete an email", "id", _deleting("inbox")),
        _reading(
            "customers", "find_customers", "Find customers by name", "name", _rows_where("customers", "name")
        ),
        _reading(
            "customers",
            "list_customers",
            "List the customers of an owner",
            "owner",
            _rows_where("customers", "owner"),
        ),
        _tool(
            "customers", "add_customer", "Add a customer", "name owner", _adding("customers", status="lead")
        ),
        _tool(
            "customers",
            "set_status",
            "Set the status of a customer",
            "id status",
            _setting("customers", "status"),
        ),
        _tool(
            "customers",
            "set_owner",
            "Set the owner of a customer",
            "id owner",
            _setting("customers", "owner"),
        ),
        _tool("customers", "delete_customer", "Delete a customer", "id", _deleting("customers")),
        _reading("tasks", "find_tasks", "Find tasks by name", "name", _rows_where("tasks", "name")),
        _reading("tasks", "list_tasks", "List the tasks of an owner", "owner", _rows_where("tasks", "owner")),
        _tool("tasks", "add_task", "Add a task", "name owner", _adding("tasks", list="todo")),
        _tool("tasks", "move_task", "Move a task to a list", "id list", _setting("tasks", "list")),
        _tool("tasks", "assign_task", "Set the owner of a task", "id owner", _setting("tasks", "owner")),
        _tool("tasks", "delete_task", "Delete a task", "id", _deleting("tasks")),
        _reading("analytics", "count_visits", "Count the visits of a day", "day", _cell_of_day("visits")),
        _reading("analytics", "top_source", "Main source of a day's visits", "day", _cell_of_day("source")),
        _tool("analytics", "make_plot", "Plot the visits of a day", "day kind", _adding("plots")),
        _reading("directory", "find_person", "Find a person by name", "name", _rows_where("people", "name")),
        _reading(
            "directory", "list_team", "List the people of a team", "team", _rows_where("people", "team")
        ),
    )
}
READ_ONLY_TOOLS = frozenset(name for name, tool in TOOLS.items() if not tool.writes)
