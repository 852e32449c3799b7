"""WorkBench's tools that only read its tables, and what all of its tools look like to a model.

What they find is the benchmark's; what they say is JSON. A search takes its words as they stand: nothing
that a model writes is compiled, where the benchmark reads a few of them as regular expressions.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from statistics import fmean
from typing import Any

from alloy.environments.workbench_tables import State, Table
from alloy.environments.workbench_tools import (
    BOARDS,
    LISTS,
    METRICS,
    PLOT_TYPES,
    PRODUCT_INTERESTS,
    STATUSES,
)

SHOWN = 5
"""Rows that a search shows, unless it is one for tasks."""


class NothingFound(LookupError):
    """The id that was given names no row."""


def _field_by_id(table: str, key: str) -> Callable[..., Any]:
    def run(state: State, /, field: Any = None, **given: Any) -> Any:
        row = _by_id(getattr(state, table), given.pop(key, None), key)
        if given:
            raise TypeError(f"there is no argument {next(iter(given))!r}")
        if field not in row:
            raise ValueError(f"field must be one of {', '.join(map(str, row))}")
        return {field: row[field]}

    return run


def _by_id(table: Table, row_id: Any, key: str) -> dict[Any, Any]:
    if not row_id or isinstance(row_id, list):
        raise TypeError(f"{key} is needed, a text")
    positions = table.positions(row_id)
    if not positions:
        raise NothingFound(f"nothing has the {key} {str(row_id)[:40]!r}")
    return table.record(positions[0])


def search_events(state: State, /, query: Any = "", time_min: Any = None, time_max: Any = None) -> Any:
    first, last = _time(time_min), _time(time_max)
    found = []
    for row in _records(state.calendar):
        begins = _time(row["event_start"], datetime.min) or datetime.min
        if (
            (_has(row["event_name"], query) or _has(row["participant_email"], query))
            and (first is None or begins >= first)
            and (last is None or begins <= last)
        ):
            found.append(row)
    return found[:SHOWN]


def search_emails(state: State, /, query: Any = "", date_min: Any = None, date_max: Any = None) -> Any:
    first, last = _time(date_min), _time(date_max)
    words = query.lower().split()
    found = []
    for row in _records(state.email):
        day = str(row["sent_datetime"])[:10]
        text = f"{row['subject']} {row['body']} {row['sender/recipient']}".lower()
        if (
            all(word in text for word in words)
            and (first is None or day >= first.date().isoformat())
            and (last is None or day <= last.date().isoformat())
        ):
            found.append(row)
    return sorted(found, key=lambda row: str(row["sent_datetime"]), reverse=True)[:SHOWN]


def get_visitor(state: State, /, visitor_id: Any = None) -> Any:
    if not visitor_id:
        raise TypeError("visitor_id is needed, a text")
    found = [row for row in _records(state.analytics) if row["visitor_id"] == visitor_id]
    if not found:
        raise NothingFound(f"nothing has the visitor_id {str(visitor_id)[:40]!r}")
    return found


def _by_day(measure: Callable[[list[dict[Any, Any]]], Any]) -> Callable[..., Any]:
    """A tool that measures the visits of each day between two dates, both included."""

    def run(state: State, /, time_min: Any = None, time_max: Any = None) -> Any:
        days: dict[str, list[dict[Any, Any]]] = {}
        for row in _records(state.analytics):
            day = row["date_of_visit"]
            if (not time_min or day >= time_min) and (not time_max or day <= time_max):
                days.setdefault(day, []).append(row)
        return {day: measure(days[day]) for day in sorted(days)}

    return run


def traffic_source_count(
    state: State, /, time_min: Any = None, time_max: Any = None, traffic_source: Any = None
) -> Any:
    def of_source(rows: list[dict[Any, Any]]) -> int:
        return sum(not traffic_source or row["traffic_source"] == traffic_source for row in rows)

    return _by_day(of_source)(state, time_min, time_max)


def _search(
    table: str, texts: tuple[str, ...], dates: tuple[str, ...], shown: int | None
) -> Callable[..., Any]:
    """A tool that finds rows by parts of texts and by bounds of dates; at least one must be given."""
    known = {*texts, *(f"{date}_{end}" for date in dates for end in ("min", "max"))}

    def run(state: State, /, **given: Any) -> Any:
        for name in given:
            if name not in known:
                raise TypeError(f"there is no argument {name!r}")
        wanted = {name: value for name, value in given.items() if value}
        if not wanted:
            raise TypeError("no search parameters: give at least one")
        return [row for row in _records(getattr(state, table)) if _fits(row, wanted)][:shown]

    return run


def _fits(row: dict[Any, Any], wanted: dict[str, Any]) -> bool:
    for name, value in wanted.items():
        if name in row:
            fits = _has(row[name], value)
        else:
            cell = row[name.removesuffix("_min").removesuffix("_max")]
            fits = isinstance(cell, str) and (cell >= value if name.endswith("_min") else cell <= value)
        if not fits:
            return False
    return True


def find_email_address(state: State, /, name: Any = "") -> Any:
    if not name:
        raise TypeError("name is needed, a text")
    return [address for address in state.directory if name.lower() in address]


def _records(table: Table) -> Iterable[dict[Any, Any]]:
    return (table.record(position) for position in range(len(table.rows)))


def _has(cell: Any, words: str) -> bool:
    return isinstance(cell, str) and words.lower() in cell.lower()


def _time(text: Any, otherwise: datetime | None = None) -> datetime | None:
    """A date with or without a time; what is no such text raises unless there is another value."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        if otherwise is None:
            raise ValueError(
                f"{str(text)[:40]!r} is no date like 2023-11-30 or 2023-11-30 09:00:00"
            ) from None
        return otherwise


READING_TOOLS: dict[str, Callable[..., Any]] = {
    "calendar.get_event_information_by_id": _field_by_id("calendar", "event_id"),
    "calendar.search_events": search_events,
    "email.get_email_information_by_id": _field_by_id("email", "email_id"),
    "email.search_emails": search_emails,
    "analytics.get_visitor_information_by_id": get_visitor,
    "analytics.total_visits_count": _by_day(len),
    "analytics.engaged_users_count": _by_day(lambda rows: sum(row["user_engaged"] == "True" for row in rows)),
    "analytics.get_average_session_duration": _by_day(
        lambda rows: fmean(float(row["session_duration_seconds"]) for row in rows)
    ),
    "analytics.traffic_source_count": traffic_source_count,
    "project_management.get_task_information_by_id": _field_by_id("tasks", "task_id"),
    "project_management.search_tasks": _search(
        "tasks", ("task_name", "assigned_to_email", "list_name", "due_date", "board"), (), None
    ),
    "customer_relationship_manager.search_customers": _search(
        "customers",
        ("customer_name", "customer_email", "product_interest", "status", "assigned_to_email"),
        ("last_contact_date", "follow_up_by"),
        SHOWN,
    ),
    "company_directory.find_email_address": find_email_address,
}

_TIME = "YYYY-MM-DD HH:MM:SS"
_DAY = "YYYY-MM-DD"
_WHAT: dict[str, dict[str, Any]] = {
    "event_id": {"description": "8 digits"},
    "email_id": {"description": "8 digits"},
    "task_id": {"description": "8 digits"},
    "customer_id": {"description": "8 digits"},
    "event_start": {"description": _TIME},
    "time_min": {"description": f"{_DAY}, or {_TIME} in the calendar; included"},
    "time_max": {"description": f"{_DAY}, or {_TIME} in the calendar; included"},
    "duration": {"description": "minutes"},
    "traffic_source": {"enum": ["direct", "referral", "search engine", "social media"]},
    "value_to_plot": {"enum": METRICS},
    "plot_type": {"enum": PLOT_TYPES},
    "list_name": {"enum": LISTS},
    "board": {"enum": BOARDS},
    "status": {"enum": STATUSES},
    "product_interest": {"enum": PRODUCT_INTERESTS},
}
"""What there is to say of a parameter, wherever it is taken; a date is written as _DAY says."""


def _tool(name: str, description: str, needed: str = "", optional: str = "") -> dict[str, Any]:
    properties = {}
    for parameter in f"{needed} {optional}".split():
        told = _WHAT.get(parameter)
        if (told is None and "date" in parameter) or parameter.startswith("follow_up_by"):
            told = {"description": _DAY}
        properties[parameter] = {"type": "string", **(told or {})}
    schema = {"type": "object", "properties": properties, "required": needed.split()}
    return {"name": name, "description": description, "parameters": schema}


_CRM = "customer_relationship_manager"
SCHEMAS: dict[str, dict[str, Any]] = {
    schema["name"]: schema
    for schema in (
        _tool("calendar.get_event_information_by_id", "One field of an event: event_id, event_name, "
              "participant_email, event_start, duration", "event_id field"),
        _tool("calendar.search_events", "Events whose name or participant has the query in it; at most 5", "",
              "query time_min time_max"),
        _tool("calendar.create_event", "Add an event", "event_name participant_email event_start duration"),
        _tool("calendar.delete_event", "Delete an event", "event_id"),
        _tool("calendar.update_event", "Set one field of an event", "event_id field new_value"),
        _tool("email.get_email_information_by_id", "One field of an email: email_id, inbox/outbox, "
              "sender/recipient, subject, sent_datetime, body", "email_id field"),
        _tool("email.search_emails", "Emails with every word of the query in subject, body or sender; the newest "
              "first, at most 5", "", "query date_min date_max"),
        _tool("email.send_email", "Send an email", "recipient subject body"),
        _tool("email.delete_email", "Delete an email", "email_id"),
        _tool("email.forward_email", "Forward an email", "email_id recipient"),
        _tool("email.reply_email", "Reply to an email", "email_id body"),
        _tool("analytics.get_visitor_information_by_id", "All visits of a visitor", "visitor_id"),
        _tool("analytics.create_plot", "Plot a value of the visits between two dates",
              "time_min time_max value_to_plot plot_type"),
        _tool("analytics.total_visits_count", "Visits by day", "", "time_min time_max"),
        _tool("analytics.engaged_users_count", "Engaged users by day", "", "time_min time_max"),
        _tool("analytics.traffic_source_count", "Visits from a source by day", "",
              "time_min time_max traffic_source"),
        _tool("analytics.get_average_session_duration", "Average session in seconds by day", "",
              "time_min time_max"),
        _tool("project_management.get_task_information_by_id", "One field of a task: task_id, task_name, "
              "assigned_to_email, list_name, due_date, board", "task_id field"),
        _tool("project_management.search_tasks", "Tasks that have what is given in their fields", "",
              "task_name assigned_to_email list_name due_date board"),
        _tool("project_management.create_task", "Add a task",
              "task_name assigned_to_email list_name due_date board"),
        _tool("project_management.delete_task", "Delete a task", "task_id"),
        _tool("project_management.update_task", "Set one field of a task", "task_id field new_value"),
        _tool(f"{_CRM}.search_customers", "Customers that have what is given in their fields; at most 5", "",
              "customer_name customer_email product_interest status assigned_to_email last_contact_date_min "
              "last_contact_date_max follow_up_by_min follow_up_by_max"),
        _tool(f"{_CRM}.update_customer", "Set one field of a customer: customer_name, assigned_to_email, "
              "customer_email, customer_phone, last_contact_date, product_interest, status, notes, follow_up_by",
              "customer_id field new_value"),
        _tool(f"{_CRM}.add_customer", "Add a customer", "customer_name assigned_to_email status",
              "customer_email customer_phone last_contact_date product_interest notes follow_up_by"),
        _tool(f"{_CRM}.delete_customer", "Delete a customer", "customer_id"),
        _tool("company_directory.find_email_address", "Email addresses with a name in them", "name"),
    )
}  # fmt: skip
"""All tools by name, as a model is shown them."""
