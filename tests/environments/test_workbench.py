"""The WorkBench adapter against hand-made cases and against the rule written on pandas frames."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_folder import CUSTOMER, EVENT, TASK, write_folder
from workbench_oracle import end_frames, is_correct

from alloy.environments.workbench import load_tasks, replay, row_verifier
from alloy.environments.workbench_tables import JUDGED_TABLES, State, Table, differing_tables, read_state
from alloy.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "workbench"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL.name} data is not beside the project")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("workbench"))


def verdict(data_dir: Path, calls: list[Any], gold: list[str], error: str = "") -> float | None:
    return row_verifier(data_dir)({"query": "", "calls": calls, "gold": gold, "error": error}).reward


DELETE_3 = 'calendar.delete_event.func(event_id="00000003")'
DELETE_4 = 'calendar.delete_event.func(event_id="00000004")'
MEET = 'calendar.create_event.func("Meet", participant_email="Bo@x.com", event_start="x", duration="5")'


def test_case_does_not_count_except_in_three_columns(data_dir: Path) -> None:
    assert verdict(data_dir, [MEET.replace("Meet", "MEET")], [MEET]) == 1.0
    lead = 'customer_relationship_manager.add_customer.func("A", assigned_to_email="b", status="{}")'
    assert verdict(data_dir, [lead.format("lead")], [lead.format("Lead")]) == 0.0


def test_an_error_loses_and_reads_do_not_matter(data_dir: Path) -> None:
    search = 'calendar.search_events.func(query="(")'
    assert verdict(data_dir, [search, DELETE_3], [DELETE_3]) == 1.0
    assert verdict(data_dir, [DELETE_3], [DELETE_3], error="Context window exceeded") == 0.0
    assert verdict(data_dir, [], [], error="") == 1.0


@pytest.mark.parametrize(
    "nothing",
    [
        "calendar.delete_event.func(event_id=3",
        'calendar.delete_event.func(event_id="00000004", event_id="00000004")',
        'calendar.delete_event.func(id="00000004")',
        'calendar.delete_event.func("00000004", event_id="00000004")',
        'calendar.delete_event.func("00000004", "more")',
        'calendar.delete_event.func(event_id=["00000004"])',
        'calendar.delete_event.func(event_id="0000000" + str(4))',
        'calendar.delete_event(event_id="00000004")',
        'calendar.remove_event.func(event_id="00000004")',
        'calendar.update_event.func(event_id="00000004", field="participant_email", new_value=5)',
        'email.send_email.func(recipient="bo", subject="a", body="b")',
        'email.send_email.func(recipient="bo@x.com", subject="", body="b")',
        'email.send_email.func(recipient="bo@x.com", subject="a", body="one\nline")',
        'project_management.create_task.func(task_name="a", assigned_to_email="no@x.com", '
        'list_name="Backlog", due_date="d", board="Design")',
        'project_management.update_task.func(task_id="00000003", field="colour", new_value="red")',
        'customer_relationship_manager.update_customer.func("00000003", field="status", new_value="won")',
        "__import__('os').getcwd()",
        "\x00",
        "(" * 500,
        "",
        None,
        7,
    ],
)
def test_what_would_raise_or_is_refused_changes_nothing(data_dir: Path, nothing: Any) -> None:
    assert verdict(data_dir, [nothing, DELETE_3], [DELETE_3]) == 1.0
    assert verdict(data_dir, [nothing], [DELETE_3]) == 0.0


@pytest.mark.parametrize(
    "same",
    [
        'calendar.delete_event.func("00000003")',
        '  calendar.delete_event.func(event_id="00000003")\n',
        'calendar.delete_event.func(**{"event_id": "00000003"})',
        'calendar.delete_event.func(*["00000003"])',
        'calendar.delete_event.func(event_id="0000" "0003")',
        'calendar.delete_event.func(event_id="00000003" or "x")',
        'calendar.delete_event.func(event_id="00000003"),',
    ],
)
def test_other_ways_to_write_the_same_call(data_dir: Path, same: str) -> None:
    assert verdict(data_dir, [same], [DELETE_3]) == 1.0


def test_the_order_of_new_events_counts_though_their_labels_are_all_0(data_dir: Path) -> None:
    other = MEET.replace("Meet", "Lunch")
    assert verdict(data_dir, [MEET, other], [other, MEET]) == 0.0
    calendar = replay(read_state(data_dir), [MEET, other]).calendar
    assert calendar.labels == (0, 1, 2, 3, 4, 5, 0, 0)
    assert [row[0] for row in calendar.rows[-2:]] == ["00000006", "00000007"]


def test_a_new_email_overwrites_the_row_whose_label_is_the_number_of_rows(data_dir: Path) -> None:
    fresh = read_state(data_dir)
    send = 'email.send_email.func(recipient="BO@x.com", subject="S", body="B")'
    sent = replay(fresh, [send]).email
    assert sent.labels[-1] == 6
    assert sent.rows[-1][:4] == ("6", "outbox", "bo@x.com", "S")
    # One row of six is gone, so the new one is written under label 5, which the last row has.
    after = replay(fresh, ['email.delete_email.func(email_id="00000003")', send]).email
    assert after.labels == (1, 2, 3, 4, 5)
    assert after.rows[-1][0] == "6"
    assert "00000005" not in after.column("email_id")


def test_creating_a_task_relabels_all_rows_and_deleting_does_not(data_dir: Path) -> None:
    fresh = read_state(data_dir)
    delete = 'project_management.delete_task.func(task_id="00000000")'
    create = (
        'project_management.create_task.func(task_name="New", assigned_to_email="BO@X.com", '
        'list_name="Backlog", due_date="2023-12-09", board="Back end")'
    )
    assert replay(fresh, [delete]).tasks.labels == (0, 2, 3, 4, 5)
    tasks = replay(fresh, [delete, create]).tasks
    assert tasks.labels == (0, 1, 2, 3, 4, 5)
    assert tasks.rows[-1][:3] == ("00000006", "New", "bo@x.com")


def test_an_unknown_event_field_becomes_a_column(data_dir: Path) -> None:
    call = 'calendar.update_event.func(event_id="00000003", field="room", new_value="B1")'
    calendar = replay(read_state(data_dir), [call]).calendar
    assert calendar.columns[-1] == "room"
    assert calendar.rows[0][-1] == "B1"
    assert verdict(data_dir, [call], []) == 0.0


def test_what_is_not_a_string_counts_as_missing(data_dir: Path) -> None:
    call = 'email.send_email.func(recipient="bo@x.com", subject={}, body="b")'
    assert verdict(data_dir, [call.format("5")], [call.format("[6]")]) == 1.0
    assert verdict(data_dir, [call.format("5")], [call.format('"5"')]) == 0.0


def test_notes_not_given_are_empty_and_not_missing(data_dir: Path) -> None:
    add = 'customer_relationship_manager.add_customer.func("A", "b@x", "Lead"{})'
    assert verdict(data_dir, [add.format(', notes=""')], [add.format("")]) == 1.0
    assert verdict(data_dir, [add.format(", notes=None")], [add.format("")]) == 0.0
    assert verdict(data_dir, [add.format(", customer_phone=None")], [add.format("")]) == 1.0
    assert verdict(data_dir, [add.format(', customer_phone=""')], [add.format("")]) == 0.0


def test_side_effects_are_told_apart_from_doing_nothing(data_dir: Path) -> None:
    verify = row_verifier(data_dir)
    assert verify({"calls": [], "gold": [DELETE_3]}).parts == {"side_effects": 0.0}
    wrong = verify({"calls": [DELETE_4], "gold": [DELETE_3]})
    assert wrong.parts == {"side_effects": 1.0}
    assert wrong.detail == "differs in calendar"
    assert verify({"calls": [DELETE_3], "gold": [DELETE_3]}).parts == {"side_effects": 0.0}


def test_a_row_that_cannot_be_judged_is_an_error_and_no_zero(data_dir: Path) -> None:
    verify = row_verifier(data_dir)
    assert verify({"calls": DELETE_3, "gold": []}).status == "error"
    assert verify({"calls": [], "gold": None}).status == "error"
    assert verify({"calls": []}).reward is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"calendar_events\.csv: there is no such file"):
        row_verifier(tmp_path)
    with pytest.raises(InputError, match="no CSV files"):
        load_tasks(tmp_path)


def test_a_broken_row_is_named_with_its_line(data_dir: Path, tmp_path: Path) -> None:
    for path in data_dir.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "emails.csv").write_text("email_id,subject\n1,a\n2\n")
    with pytest.raises(InputError, match=r"emails\.csv:3: 1 cells under 2 columns"):
        row_verifier(tmp_path)


def test_queries_become_tasks(data_dir: Path) -> None:
    (task,) = load_tasks(data_dir)
    assert (task.id, task.template) == ("calendar-0", "Cancel {x}")
    assert task.messages == [{"role": "user", "content": "Cancel it"}]
    assert task.gold == {"calls": [DELETE_3], "domains": ["calendar"]}


IDS = [f"{number:08d}" for number in range(8)] + ["6", "7", "5", ""]
TEXTS = ["Sync 3", "sync 3", "x", "BO@x.com", "bo@x.com", "Ana.Ray@X.com", "zed@x", "a.b", "", "nan"]
TEXTS += ["Backlog", "In Progress", "backlog", "Design", "design", "Won", "Lead", "won", "Software"]
ODD = [None, 0, 5, 1.5, True, False, [], ["z"], ["a", "b"], {}, {"k": 1}, b"B"]
FIELDS = EVENT + TASK + CUSTOMER + ["room", "status", 5, True, ["event_name"], ["room", "duration"]]
NEW_CUSTOMER = ["customer_name", "assigned_to_email", "status", "customer_email", "customer_phone"]
NEW_CUSTOMER += ["last_contact_date", "product_interest", "notes", "follow_up_by"]
PARAMETERS = {
    "calendar.create_event": EVENT[1:],
    "calendar.delete_event": ["event_id"],
    "calendar.update_event": ["event_id", "field", "new_value"],
    "calendar.search_events": ["query"],
    "email.send_email": ["recipient", "subject", "body"],
    "email.delete_email": ["email_id"],
    "email.forward_email": ["email_id", "recipient"],
    "email.reply_email": ["email_id", "body"],
    "analytics.create_plot": ["time_min", "time_max", "value_to_plot", "plot_type"],
    "project_management.create_task": TASK[1:],
    "project_management.delete_task": ["task_id"],
    "project_management.update_task": ["task_id", "field", "new_value"],
    "customer_relationship_manager.add_customer": NEW_CUSTOMER,
    "customer_relationship_manager.update_customer": ["customer_id", "field", "new_value"],
    "customer_relationship_manager.delete_customer": ["customer_id"],
}
COLUMNS = {
    "calendar.update_event": EVENT,
    "project_management.update_task": TASK,
    "customer_relationship_manager.update_customer": CUSTOMER,
}
FITTING = {
    "board": ["Design", "Back end"],
    "list_name": ["Backlog", "Completed"],
    "status": ["Won", "Lost"],
    "value_to_plot": ["total_visits", "user_engaged"],
    "plot_type": ["bar", "line"],
    "recipient": ["bo@x.com", "Ana.Ray@X.com"],
    "assigned_to_email": ["bo@x.com", "Ana.Ray@X.com", "cy@x.com"],
    "participant_email": ["bo@x.com", "CY@x.com"],
    "field": FIELDS,
}


def random_call(rng: random.Random, odd: float) -> str:
    tool = rng.choice(list(PARAMETERS))
    parts = []
    for parameter in PARAMETERS[tool]:
        pool = FITTING.get(parameter, IDS if parameter.endswith("_id") else TEXTS)
        if rng.random() < odd:
            pool = rng.choice([ODD, TEXTS, IDS])
        value = rng.choice(pool)
        if parameter == "field" and rng.random() < 0.8:
            value = rng.choice(COLUMNS[tool])
        text = f"{parameter}={value!r}" if rng.random() < 0.95 or parts else repr(value)
        if rng.random() > 0.02 + odd / 10:
            parts.append(text)
    if rng.random() < odd / 5:
        parts.append(
            rng.choice(["colour='red'", "'more'", parts[-1] if parts else "1", "*['x']", "**{'body': 'q'}"])
        )
    rng.random() < odd / 5 and rng.shuffle(parts)
    call = f"{tool}.func({', '.join(parts)})"
    return call[: rng.randrange(len(call))] if rng.random() < odd / 20 else call


def as_compared(table: Table, frame: Any) -> bool:
    """Whether a table is what a frame of the oracle is: columns, labels, and cells without case."""
    if list(table.columns) != list(frame.columns) or list(table.labels) != list(frame.index):
        return False
    for row, (_, cells) in zip(table.rows, frame.iterrows(), strict=True):
        for column, cell, wanted in zip(table.columns, row, cells, strict=True):
            if column not in ("status", "list_name", "board"):
                cell = cell.lower() if isinstance(cell, str) else None
            missing = [value is None or value != value for value in (cell, wanted)]
            if missing[0] != missing[1] or (not missing[0] and cell != wanted):
                return False
    return True


@pytest.mark.parametrize("odd", [0.0, 0.15, 0.5])
def test_tables_end_as_the_frames_do(data_dir: Path, odd: float) -> None:
    rng = random.Random(f"tables {odd}")
    fresh = read_state(data_dir)
    for _ in range(40):
        calls = [random_call(rng, odd) for _ in range(rng.randrange(1, 9))]
        state, frames = replay(fresh, calls), end_frames(data_dir, calls)
        for name in JUDGED_TABLES:
            assert as_compared(getattr(state, name), frames[name]), (name, calls)


def test_verdicts_are_those_of_the_rule_on_frames(data_dir: Path) -> None:
    rng = random.Random(1)
    verify = row_verifier(data_dir)
    right = 0
    for _ in range(60):
        gold = [random_call(rng, 0.03) for _ in range(rng.randrange(1, 6))]
        calls = list(gold)
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(4):
                case 0:
                    calls.insert(rng.randrange(len(calls) + 1), random_call(rng, 0.3))
                case 1 if calls:
                    calls.pop(rng.randrange(len(calls)))
                case 2:
                    rng.shuffle(calls)
                case 3:
                    calls = [call.replace("bo@", "BO@") for call in calls]
        wanted = is_correct(data_dir, calls, gold)
        right += wanted
        assert verify({"calls": calls, "gold": gold}).reward == float(wanted), (calls, gold)
    assert 15 < right < 45


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.text(), st.none(), st.integers(), st.from_regex(r"[a-z_.]{0,30}\(.*\)"))))
def test_no_text_crashes_the_verdict(calls: list[Any]) -> None:
    nothing = Table(("id",), (), ())
    state = State(nothing, nothing, nothing, nothing, nothing, ())
    assert differing_tables(replay(state, calls), state) == []


@needs_real
def test_gold_calls_win_all_480_queries_and_nothing_loses_them() -> None:
    tasks = load_tasks(REAL)
    verify = row_verifier(REAL)
    assert len(tasks) == 480
    assert all(
        verify({"calls": task.gold["calls"], "gold": task.gold["calls"]}).reward == 1 for task in tasks
    )
    fresh = read_state(REAL)
    idle = [task for task in tasks if verify({"calls": [], "gold": task.gold["calls"]}).reward == 1]
    assert sum(not task.gold["calls"] for task in idle) == 81
    # Two answers reassign a customer to whom it belongs already: there is nothing to do after all.
    assert [task.id for task in idle if task.gold["calls"]] == [
        "customer_relationship_manager-31",
        "customer_relationship_manager-32",
    ]
    for task in idle:
        end = replay(fresh, task.gold["calls"])
        assert end.customers.rows == fresh.customers.rows


@needs_real
def test_a_verdict_takes_less_than_a_millisecond() -> None:
    verify = row_verifier(REAL)
    rows = [{"calls": task.gold["calls"], "gold": task.gold["calls"]} for task in load_tasks(REAL)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for row in rows:
            verify(row)
        seconds.append(time.process_time() - start)
    assert min(seconds) / len(rows) < 1e-3
