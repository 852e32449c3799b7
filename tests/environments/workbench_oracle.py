"""WorkBench's rule once more, on pandas frames and with Python's own evaluation, for tests only."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

NOW = pd.Timestamp("2023-11-30 00:00:00")
CSV = {
    "calendar": "calendar_events.csv",
    "email": "emails.csv",
    "tasks": "project_tasks.csv",
    "customers": "customer_relationship_manager_data.csv",
}
VALUES = ["total_visits", "session_duration_seconds", "user_engaged", "visits_direct", "visits_referral"]
VALUES += ["visits_search_engine", "visits_social_media"]
LISTS = ["Backlog", "In Progress", "In Review", "Completed"]
BOARDS = ["Back end", "Front end", "Design"]
STATUSES = ["Qualified", "Won", "Lost", "Lead", "Proposal"]
INTERESTS = ["Software", "Hardware", "Services", "Consulting", "Training"]


@cache
def _fresh(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=object)  # strings in columns of objects, as pandas 2 reads them


class Benchmark:
    """Frames and the tools that change them; a fresh one a trajectory."""

    def __init__(self, data_dir: Path) -> None:
        self.frames = {name: _fresh(data_dir / file).copy() for name, file in CSV.items()}
        self.frames["plots"] = pd.DataFrame(columns=["file_path"], dtype=object)

    def run(self, calls: list[str]) -> dict[str, pd.DataFrame]:
        namespace = {
            domain: SimpleNamespace(
                **{tool: SimpleNamespace(func=getattr(self, f"{domain}_{tool}")) for tool in tools}
            )
            for domain, tools in TOOLS.items()
        }
        for call in calls:
            try:
                eval(call, {"__builtins__": {}}, namespace)
            except Exception:
                continue
        return self.frames

    def _next(self, table: str) -> int:
        return int(self.frames[table].iloc[:, 0].max()) + 1

    def _append(self, table: str, row: dict[str, Any], relabel: bool) -> None:
        new = pd.DataFrame({column: [value] for column, value in row.items()})
        self.frames[table] = pd.concat([self.frames[table], new], ignore_index=relabel)

    def _delete(self, table: str, row_id: Any) -> None:
        frame = self.frames[table]
        ids = frame.columns[0]
        if row_id and row_id in frame[ids].values:
            self.frames[table] = frame[frame[ids] != row_id]

    def _set(self, table: str, row_id: Any, field: Any, value: Any) -> None:
        frame = self.frames[table].copy()
        ids = frame.columns[0]
        if row_id in frame[ids].values:
            frame.loc[frame[ids] == row_id, field] = value
            self.frames[table] = frame

    def _assignees(self) -> Any:
        return self.frames["tasks"]["assigned_to_email"].str.lower().values

    def calendar_create_event(
        self, event_name=None, participant_email=None, event_start=None, duration=None
    ) -> None:
        if event_name and participant_email and event_start and duration:
            row = {
                "event_id": str(self._next("calendar")).zfill(8),
                "event_name": event_name,
                "participant_email": participant_email.lower(),
                "event_start": event_start,
                "duration": duration,
            }
            self._append("calendar", row, relabel=False)

    def calendar_delete_event(self, event_id=None) -> None:
        self._delete("calendar", event_id)

    def calendar_update_event(self, event_id=None, field=None, new_value=None) -> None:
        if event_id and field and new_value:
            if field == "participant_email":
                new_value = new_value.lower()
            self._set("calendar", event_id, field, new_value)

    def calendar_search_events(self, query="", time_min=None, time_max=None) -> None:
        self.frames["calendar"]["event_name"].str.contains(query, case=False)

    def email_send_email(self, recipient=None, subject=None, body=None) -> None:
        if not recipient or not subject or not body or "@" not in recipient or "." not in recipient:
            return
        frame = self.frames["email"].copy()
        row = [str(self._next("email")), "outbox", recipient.lower(), subject, NOW, body]
        frame.loc[len(frame)] = row
        self.frames["email"] = frame

    def email_delete_email(self, email_id=None) -> None:
        self._delete("email", email_id)

    def _email(self, email_id: Any) -> dict[str, Any] | None:
        frame = self.frames["email"]
        if email_id not in frame["email_id"].values:
            return None
        return frame[frame["email_id"] == email_id].to_dict(orient="records")[0]

    def email_forward_email(self, email_id=None, recipient=None) -> None:
        email = self._email(email_id) if email_id and recipient else None
        if email and "@" in recipient and "." in recipient:
            self.email_send_email(recipient.lower(), f"FW: {email['subject']}", email["body"])

    def email_reply_email(self, email_id=None, body=None) -> None:
        email = self._email(email_id) if email_id and body else None
        if email:
            self.email_send_email(email["sender/recipient"], f"{email['subject']}", body)

    def analytics_create_plot(self, time_min=None, time_max=None, value_to_plot=None, plot_type=None) -> None:
        known = value_to_plot in VALUES and plot_type in ["bar", "line", "scatter", "histogram"]
        if time_min and time_max and known:
            plots = self.frames["plots"]
            plots.loc[len(plots)] = [f"plots/{time_min}_{time_max}_{value_to_plot}_{plot_type}.png"]

    def project_management_create_task(
        self, task_name=None, assigned_to_email=None, list_name=None, due_date=None, board=None
    ) -> None:
        if not all([task_name, assigned_to_email, list_name, due_date, board]):
            return
        assigned_to_email = assigned_to_email.lower()
        if assigned_to_email in self._assignees() and list_name in LISTS and board in BOARDS:
            row = {
                "task_id": str(self._next("tasks")).zfill(8),
                "task_name": task_name,
                "assigned_to_email": assigned_to_email,
                "list_name": list_name,
                "due_date": due_date,
                "board": board,
            }
            self._append("tasks", row, relabel=True)

    def project_management_delete_task(self, task_id=None) -> None:
        self._delete("tasks", task_id)

    def project_management_update_task(self, task_id=None, field=None, new_value=None) -> None:
        if not task_id or not field or not new_value:
            return
        if field == "assigned_to_email":
            new_value = new_value.lower()
            if new_value not in self._assignees():
                return
        if field == "board" and new_value not in BOARDS:
            return
        if field == "list_name" and new_value not in LISTS:
            return
        if field in self.frames["tasks"].columns:
            self._set("tasks", task_id, field, new_value)

    def customer_relationship_manager_add_customer(
        self,
        customer_name=None,
        assigned_to_email=None,
        status=None,
        customer_email=None,
        customer_phone=None,
        last_contact_date=None,
        product_interest=None,
        notes="",
        follow_up_by=None,
    ) -> None:
        if not all([customer_name, assigned_to_email, status]):
            return
        row = {
            "customer_id": str(self._next("customers")).zfill(8),
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
        self._append("customers", row, relabel=True)

    def customer_relationship_manager_update_customer(
        self, customer_id=None, field=None, new_value=None
    ) -> None:
        if not customer_id or not field or not new_value:
            return
        if field == "status" and new_value not in STATUSES:
            return
        if field == "product_interest" and new_value not in INTERESTS:
            return
        if field in ("customer_email", "assigned_to_email"):
            new_value = new_value.lower()
        if field in self.frames["customers"].columns:
            self._set("customers", customer_id, field, new_value)

    def customer_relationship_manager_delete_customer(self, customer_id=None) -> None:
        self._delete("customers", customer_id)


TOOLS: dict[str, list[str]] = {}
for _domain in ["calendar", "email", "analytics", "project_management", "customer_relationship_manager"]:
    TOOLS[_domain] = [
        name.removeprefix(f"{_domain}_") for name in vars(Benchmark) if name.startswith(f"{_domain}_")
    ]


def without_case(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for column in frame.columns:
        cells = list(frame[column])
        if column not in ("status", "list_name", "board"):
            cells = [cell.lower() if isinstance(cell, str) else None for cell in cells]
        frame[column] = pd.Series(cells, index=frame.index, dtype=object)
    return frame


def end_frames(data_dir: Path, calls: list[str]) -> dict[str, pd.DataFrame]:
    """The five tables after the calls, as they are compared."""
    frames = Benchmark(data_dir).run(calls)
    return {name: without_case(frame) for name, frame in frames.items()}


def is_correct(data_dir: Path, calls: list[str], gold: list[str], error: str = "") -> bool:
    if error:
        return False
    end, wanted = end_frames(data_dir, calls), end_frames(data_dir, gold)
    return all(end[name].equals(wanted[name]) for name in end)
