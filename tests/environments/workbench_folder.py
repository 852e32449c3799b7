"""A small folder with WorkBench's files, of our own making."""

import csv
from pathlib import Path

EVENT = ["event_id", "event_name", "participant_email", "event_start", "duration"]
EMAIL = ["email_id", "inbox/outbox", "sender/recipient", "subject", "sent_datetime", "body"]
TASK = ["task_id", "task_name", "assigned_to_email", "list_name", "due_date", "board"]
CUSTOMER = ["customer_id", "assigned_to_email", "customer_name", "customer_email", "customer_phone"]
CUSTOMER += ["last_contact_date", "product_interest", "status", "follow_up_by", "notes"]
VISIT = ["date_of_visit", "visitor_id", "page_views", "session_duration_seconds", "traffic_source"]
VISIT += ["user_engaged"]


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_folder(folder: Path) -> Path:
    """Six rows in each table, ids out of order, and one query."""
    ids = [f"{number:08d}" for number in (3, 0, 4, 1, 2, 5)]
    people = ["Ana.Ray@x.com", "bo@x.com", "cy@x.com"]
    write_csv(
        folder / "calendar_events.csv",
        [EVENT]
        + [[i, f"Sync {i[-1]}", people[n % 3], "2023-12-01 09:00:00", "30"] for n, i in enumerate(ids)],
    )
    write_csv(
        folder / "emails.csv",
        [EMAIL]
        + [
            [i, "inbox", people[n % 3], f"News {n}", "2023-11-01 10:00:00", ["", "Hi"][n % 2]]
            for n, i in enumerate(ids)
        ],
    )
    write_csv(
        folder / "project_tasks.csv",
        [TASK]
        + [
            [i, f"Fix {n}", people[n % 3], ["Backlog", "In Review"][n % 2], "2023-12-02", "Design"]
            for n, i in enumerate(ids)
        ],
    )
    write_csv(
        folder / "customer_relationship_manager_data.csv",
        [CUSTOMER]
        + [
            [
                i,
                people[n % 3],
                f"Kim {n}",
                f"kim{n}@y",
                "",
                "2023-11-02",
                "Software",
                "Lead",
                "2023-12-03",
                ["", "NA", "Met"][n % 3],
            ]
            for n, i in enumerate(ids)
        ],
    )
    write_csv(folder / "analytics_data.csv", [VISIT, ["2023-11-01", "0001", "3", "10", "direct", "True"]])
    write_csv(folder / "email_addresses.csv", [[address] for address in people])
    (folder / "queries_and_answers").mkdir()
    write_csv(
        folder / "queries_and_answers" / "calendar.csv",
        [
            ["query", "answer", "base_template", "chosen_template", "domains"],
            [
                "Cancel it",
                "['calendar.delete_event.func(event_id=\"00000003\")']",
                "Cancel {x}",
                "Cancel {x}",
                "['calendar']",
            ],
        ],
    )
    return folder
