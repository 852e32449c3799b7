"""What WorkBench's tools do to its tables, the accidents included.

A tool is a function whose parameters after the first are the benchmark's own, in its order and with
its defaults, so that Python itself refuses what the benchmark would refuse. It puts a new table into
the state or leaves the state alone; where the benchmark would raise, so does it, and nothing has
changed. The texts that the benchmark answers with do not reach any table and are not reproduced.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from alloy.environments.workbench_tables import State, Table

NOW = datetime(2023, 11, 30)
METRICS = [
    "total_visits",
    "session_duration_seconds",
    "user_engaged",
    "visits_direct",
    "visits_referral",
    "visits_search_engine",
    "visits_social_media",
]
PLOT_TYPES = ["bar", "line", "scatter", "histogram"]
LISTS = ["Backlog", "In Progress", "In Review", "Completed"]
BOARDS = ["Back end", "Front end", "Design"]
STATUSES = ["Qualified", "Won", "Lost", "Lead", "Proposal"]
PRODUCT_INTERESTS = ["Software", "Hardware", "Services", "Consulting", "Training"]


def create_event(
    state: State,
    /,
    event_name: Any = None,
    participant_email: Any = None,
    event_start: Any = None,
    duration: Any = None,
) -> None:
    if not (event_name and participant_email and event_start and duration):
        return
    cells = {
        "event_id": str(state.calendar.highest_id() + 1).zfill(8),
        "event_name": event_name,
        "participant_email": participant_email.lower(),
        "event_start": event_start,
        "duration": duration,
    }
    # The benchmark joins a one-row frame whose label is 0 and never relabels.
    state.calendar = state.calendar.appended(cells, label=0)


def delete_event(state: State, /, event_id: Any = None) -> None:
    state.calendar = _without(state.calendar, event_id)


def update_event(state: State, /, event_id: Any = None, field: Any = None, new_value: Any = None) -> None:
    if not (event_id and field and new_value):
        return
    if field == "participant_email":
        new_value = new_value.lower()
    table = state.calendar
    if not _positions(table, event_id):
        return
    if isinstance(field, bool | dict | set):
        raise TypeError("a frame has no such column index")
    for column in field if isinstance(field, list | tuple) else [field]:
        table = _updated(table, event_id, column, new_value)
    state.calendar = table


def send_email(state: State, /, recipient: Any = None, subject: Any = None, body: Any = None) -> None:
    if not (recipient and subject and body) or not _is_address(recipient):
        return
    cells = {
        "email_id": str(state.email.highest_id() + 1),
        "inbox/outbox": "outbox",
        "sender/recipient": recipient.lower(),
        "subject": subject,
        "sent_datetime": NOW,
        "body": body,
    }
    state.email = state.email.written_at_label(len(state.email.rows), cells)


def delete_email(state: State, /, email_id: Any = None) -> None:
    state.email = _without(state.email, email_id)


def forward_email(state: State, /, email_id: Any = None, recipient: Any = None) -> None:
    if not (email_id and recipient):
        return
    positions = _positions(state.email, email_id)
    if not positions or not _is_address(recipient):
        return
    email = state.email.record(positions[0])
    send_email(state, recipient.lower(), f"FW: {email['subject']}", email["body"])


def reply_email(state: State, /, email_id: Any = None, body: Any = None) -> None:
    if not (email_id and body):
        return
    positions = _positions(state.email, email_id)
    if not positions:
        return
    email = state.email.record(positions[0])
    send_email(state, email["sender/recipient"], f"{email['subject']}", body)


def create_plot(
    state: State,
    /,
    time_min: Any = None,
    time_max: Any = None,
    value_to_plot: Any = None,
    plot_type: Any = None,
) -> None:
    if not (time_min and time_max) or value_to_plot not in METRICS or plot_type not in PLOT_TYPES:
        return
    cells = {"file_path": f"plots/{time_min}_{time_max}_{value_to_plot}_{plot_type}.png"}
    state.plots = state.plots.appended(cells, label=len(state.plots.rows))


def create_task(
    state: State,
    /,
    task_name: Any = None,
    assigned_to_email: Any = None,
    list_name: Any = None,
    due_date: Any = None,
    board: Any = None,
) -> None:
    if not (task_name and assigned_to_email and list_name and due_date and board):
        return
    assigned_to_email = assigned_to_email.lower()
    if not _is_assignee(state, assigned_to_email) or list_name not in LISTS or board not in BOARDS:
        return
    cells = {
        "task_id": str(state.tasks.highest_id() + 1).zfill(8),
        "task_name": task_name,
        "assigned_to_email": assigned_to_email,
        "list_name": list_name,
        "due_date": due_date,
        "board": board,
    }
    state.tasks = state.tasks.appended(cells, label=0).relabelled()


def delete_task(state: State, /, task_id: Any = None) -> None:
    state.tasks = _without(state.tasks, task_id)


def update_task(state: State, /, task_id: Any = None, field: Any = None, new_value: Any = None) -> None:
    if not (task_id and field and new_value):
        return
    if field == "assigned_to_email":
        new_value = new_value.lower()
        if not _is_assignee(state, new_value):
            return
    if (field == "board" and new_value not in BOARDS) or (field == "list_name" and new_value not in LISTS):
        return
    if field in state.tasks.columns:
        state.tasks = _updated(state.tasks, task_id, field, new_value)


def add_customer(
    state: State,
    /,
    customer_name: Any = None,
    assigned_to_email: Any = None,
    status: Any = None,
    customer_email: Any = None,
    customer_phone: Any = None,
    last_contact_date: Any = None,
    product_interest: Any = None,
    notes: Any = "",
    follow_up_by: Any = None,
) -> None:
    if not (customer_name and assigned_to_email and status):
        return
    cells = {
        "customer_id": str(state.customers.highest_id() + 1).zfill(8),
        "customer_name": customer_name,
        "customer_email": customer_email.lower() if customer_email else customer_email,
        "customer_phone": customer_phone,
        "last_contact_date": last_contact_date,
        "product_interest": product_interest,
        "status": status,
        "assigned_to_email": assigned_to_email.lower(),
        "notes": notes,
        "follow_up_by": follow_up_by,
    }
    state.customers = state.customers.appended(cells, label=0).relabelled()


def update_customer(
    state: State, /, customer_id: Any = None, field: Any = None, new_value: Any = None
) -> None:
    if not (customer_id and field and new_value):
        return
    if field == "status" and new_value not in STATUSES:
        return
    if field == "product_interest" and new_value not in PRODUCT_INTERESTS:
        return
    if field in ("customer_email", "assigned_to_email"):
        new_value = new_value.lower()
    if field in state.customers.columns:
        state.customers = _updated(state.customers, customer_id, field, new_value)


def delete_customer(state: State, /, customer_id: Any = None) -> None:
    state.customers = _without(state.customers, customer_id)


def _is_address(recipient: Any) -> bool:
    return "@" in recipient and "." in recipient


def _is_assignee(state: State, address: str) -> bool:
    column = state.tasks.column("assigned_to_email")
    return any(isinstance(known, str) and known.lower() == address for known in column)


def _positions(table: Table, row_id: Any) -> list[int]:
    # Comparing a frame's column with a list of another length raises.
    if isinstance(row_id, list):
        raise ValueError("lengths must match to compare")
    return table.positions(row_id)


def _without(table: Table, row_id: Any) -> Table:
    return table.without(row_id) if row_id and _positions(table, row_id) else table


def _updated(table: Table, row_id: Any, column: Any, new_value: Any) -> Table:
    """The table with a column set in the rows of an id; the table itself when no row has it.

    A list or tuple is taken as one value a row, as a frame does.
    """
    positions = _positions(table, row_id)
    if not positions:
        return table
    values = new_value if isinstance(new_value, list | tuple) else [new_value] * len(positions)
    return table.with_cells(positions, column, values)


WRITING_TOOLS: dict[str, Callable[..., None]] = {
    "calendar.create_event": create_event,
    "calendar.delete_event": delete_event,
    "calendar.update_event": update_event,
    "email.send_email": send_email,
    "email.delete_email": delete_email,
    "email.forward_email": forward_email,
    "email.reply_email": reply_email,
    "analytics.create_plot": create_plot,
    "project_management.create_task": create_task,
    "project_management.delete_task": delete_task,
    "project_management.update_task": update_task,
    "customer_relationship_manager.add_customer": add_customer,
    "customer_relationship_manager.update_customer": update_customer,
    "customer_relationship_manager.delete_customer": delete_customer,
}
