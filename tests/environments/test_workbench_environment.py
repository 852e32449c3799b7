"""WorkBench as an environment: its tools, its worlds, its verdict, and the same verdict on recorded calls."""

import inspect
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_folder import write_folder

from alloy.environments.registry import fingerprint_environment, make_environment
from alloy.environments.task import Task
from alloy.environments.workbench import WorkbenchEnvironment, row_verifier
from alloy.environments.workbench_calls import parse_calls
from alloy.environments.workbench_reading import READING_TOOLS, SCHEMAS
from alloy.environments.workbench_tools import WRITING_TOOLS
from alloy.environments.workbench_world import WorkbenchWorld
from alloy.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "workbench"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL.name} data is not beside the project")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("workbench"))


@pytest.fixture
def environment(data_dir: Path) -> WorkbenchEnvironment:
    return WorkbenchEnvironment(str(data_dir))


@pytest.fixture
def world(environment: WorkbenchEnvironment) -> WorkbenchWorld:
    return environment.open(environment.tasks("test", 1, 0)[0])


def turns(*calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    made = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return [{"role": "assistant", "content": "", "tool_calls": made}]


def gold_turns(task: Task) -> list[dict[str, Any]]:
    """The answer's calls by name and arguments; all of them are written with keywords."""
    calls = []
    for text in task.gold["calls"]:
        (call,) = parse_calls(text)
        positional, named = call.arguments()
        assert not positional
        calls.append((call.tool, named))
    return turns(*calls)


def test_a_query_becomes_a_task_with_tools(environment: WorkbenchEnvironment) -> None:
    (task,) = environment.tasks("test", 1, 0)
    assert [turn["role"] for turn in task.messages] == ["system", "user"]
    assert "Thursday, 2023-11-30 00:00:00" in task.messages[0]["content"]
    assert len(task.tools) == 27
    assert environment.describe(task) == {"domains": "calendar", "steps": 1}


def test_the_tools_of_a_query_s_domains_alone(data_dir: Path) -> None:
    (task,) = WorkbenchEnvironment(str(data_dir), tools="domains").tasks("test", 1, 0)
    names = {tool["name"] for tool in task.tools}
    assert len(names) == 6
    assert {name.partition(".")[0] for name in names} == {"calendar", "company_directory"}


def test_every_tool_has_a_schema_with_its_own_parameters() -> None:
    assert set(SCHEMAS) == set(READING_TOOLS) | set(WRITING_TOOLS)
    for name, tool in WRITING_TOOLS.items():
        taken = list(inspect.signature(tool).parameters)[1:]
        assert set(SCHEMAS[name]["parameters"]["properties"]) == set(taken), name
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema["parameters"])
        assert len(schema["description"]) < 200


def test_the_gold_call_wins_and_nothing_or_more_loses(environment: WorkbenchEnvironment) -> None:
    (task,) = environment.tasks("test", 1, 0)
    delete = ("calendar.delete_event", {"event_id": "00000003"})
    other = ("calendar.delete_event", {"event_id": "00000004"})
    none = {"side_effects": 0.0, "invalid_calls": 0.0, "invented_tools": 0.0}
    won = environment.judge(task, turns(delete), None)
    assert (won.reward, won.parts) == (1.0, none)
    idle = environment.judge(task, [], environment.open(task))
    assert (idle.reward, idle.parts, idle.detail) == (0.0, none, "differs in calendar")
    more = environment.judge(
        task, turns(delete, other, ("calendar.fly", {}), ("calendar.delete_event", {})), None
    )
    assert (more.reward, more.parts) == (
        0.0,
        {"side_effects": 1.0, "invalid_calls": 0.25, "invented_tools": 0.25},
    )


def test_the_world_keeps_calls_as_name_and_arguments(world: WorkbenchWorld) -> None:
    world.call("calendar.delete_event", {"event_id": "00000003"})
    world.call("__import__('os').getcwd", {})
    assert world.calls == [
        {"name": "calendar.delete_event", "arguments": {"event_id": "00000003"}},
        {"name": "__import__('os').getcwd", "arguments": {}},
    ]
    assert [record.outcome for record in world.log] == ["written", "unknown tool"]


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("calendar.get_event_information_by_id", {"event_id": "00000003", "field": "event_name"},
         {"event_name": "Sync 3"}),
        ("calendar.search_events", {"query": "SYNC 4"},
         [{"event_id": "00000004", "event_name": "Sync 4", "participant_email": "cy@x.com",
           "event_start": "2023-12-01 09:00:00", "duration": "30"}]),
        ("calendar.search_events", {"query": "(", "time_min": "2023-12-01"}, []),
        ("calendar.search_events", {"time_min": "2023-12-01 09:00:01"}, []),
        ("calendar.search_events", {"query": "sync", "time_max": "2023-12-01"}, []),
        ("email.search_emails", {"query": "news 1 BO", "date_min": "2023-11-01", "date_max": "2023-11-01"},
         [{"email_id": "00000000", "inbox/outbox": "inbox", "sender/recipient": "bo@x.com", "subject": "News 1",
           "sent_datetime": "2023-11-01 10:00:00", "body": "Hi"}]),
        ("email.get_email_information_by_id", {"email_id": "00000003", "field": "body"}, {"body": None}),
        ("analytics.total_visits_count", {}, {"2023-11-01": 1}),
        ("analytics.engaged_users_count", {"time_min": "2023-11-01", "time_max": "2023-11-01"}, {"2023-11-01": 1}),
        ("analytics.engaged_users_count", {"time_min": "2023-11-02"}, {}),
        ("analytics.get_average_session_duration", {}, {"2023-11-01": 10.0}),
        ("analytics.traffic_source_count", {"traffic_source": "referral"}, {"2023-11-01": 0}),
        ("analytics.get_visitor_information_by_id", {"visitor_id": "0001"},
         [{"date_of_visit": "2023-11-01", "visitor_id": "0001", "page_views": "3",
           "session_duration_seconds": "10", "traffic_source": "direct", "user_engaged": "True"}]),
        ("project_management.search_tasks", {"task_name": "fix 0", "board": "design"},
         [{"task_id": "00000003", "task_name": "Fix 0", "assigned_to_email": "Ana.Ray@x.com",
           "list_name": "Backlog", "due_date": "2023-12-02", "board": "Design"}]),
        ("customer_relationship_manager.search_customers",
         {"customer_name": "kim 2", "last_contact_date_min": "2023-11-02", "follow_up_by_max": "2023-12-03"},
         [{"customer_id": "00000004", "assigned_to_email": "cy@x.com", "customer_name": "Kim 2",
           "customer_email": "kim2@y", "customer_phone": None, "last_contact_date": "2023-11-02",
           "product_interest": "Software", "status": "Lead", "follow_up_by": "2023-12-03", "notes": "Met"}]),
        ("customer_relationship_manager.search_customers",
         {"customer_name": "kim", "last_contact_date_min": "2023-11-03"}, []),
        ("company_directory.find_email_address", {"name": "Bo"}, ["bo@x.com"]),
        ("calendar.create_event", {"event_name": "A", "participant_email": "B@x", "event_start": "t",
                                   "duration": "5"}, "00000006"),
        ("analytics.create_plot", {"time_min": "a", "time_max": "b", "value_to_plot": "total_visits",
                                   "plot_type": "bar"}, "plots/a_b_total_visits_bar.png"),
        ("email.send_email", {"recipient": "a@b.c", "subject": "s", "body": "b"}, "ok"),
        ("calendar.delete_event", {"event_id": "00000003"}, "ok"),
    ],
)  # fmt: skip
def test_tools_answer_in_json(
    world: WorkbenchWorld, name: str, arguments: dict[str, Any], answer: Any
) -> None:
    assert json.loads(world.call(name, arguments)) == answer
    assert world.log[0].outcome in ("read", "written")


@pytest.mark.parametrize(
    ("name", "arguments", "outcome", "told"),
    [
        ("calendar.fly", {}, "unknown tool", "there is no tool 'calendar.fly'"),
        (None, {}, "unknown tool", "there is no tool 'None'"),
        ("calendar.delete_event", "x", "wrong arguments", "must be an object"),
        ("calendar.delete_event", {}, "wrong arguments", "calendar.delete_event needs event_id"),
        ("calendar.delete_event", {"event_id": "9"}, "no such row", "nothing has the event_id '9'"),
        ("calendar.delete_event", {"id": "9"}, "wrong arguments", "unexpected keyword"),
        ("calendar.get_event_information_by_id", {"event_id": "9", "field": "x"}, "no such row", "event_id '9'"),
        ("calendar.get_event_information_by_id", {"event_id": "00000003"}, "wrong arguments", "one of event_id"),
        ("calendar.get_event_information_by_id", {"event_id": "00000003", "field": ["x"]}, "wrong arguments", ""),
        ("calendar.search_events", {"query": 5}, "wrong arguments", ""),
        ("calendar.search_events", {"time_min": "soon"}, "wrong arguments", "'soon' is no date"),
        ("email.send_email", {"recipient": "bo", "subject": "s", "body": "b"}, "wrong arguments",
         "the recipient must be an email address"),
        ("analytics.create_plot", {"time_min": "a", "time_max": "b", "value_to_plot": "x", "plot_type": "bar"},
         "wrong arguments", "value_to_plot must be one of total_visits"),
        ("project_management.update_task", {"task_id": "00000003", "field": "board", "new_value": "x"},
         "wrong arguments", "board must be one of Back end"),
        ("project_management.search_tasks", {}, "wrong arguments", "give at least one"),
        ("customer_relationship_manager.update_customer",
         {"customer_id": "00000003", "field": "status", "new_value": "won"}, "wrong arguments",
         "status must be one of Qualified"),
        ("company_directory.find_email_address", {}, "wrong arguments", "name is needed"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_answered_and_changes_nothing(
    world: WorkbenchWorld, name: Any, arguments: Any, outcome: str, told: str
) -> None:
    before = world.state.copy()
    answer = json.loads(world.call(name, arguments))
    assert told in answer["error"]
    assert world.log[0].outcome == outcome
    assert world.state == before  # the very same tables


def test_a_tool_that_is_not_on_offer_does_nothing(data_dir: Path) -> None:
    environment = WorkbenchEnvironment(str(data_dir), tools="domains")
    world = environment.open(environment.tasks("test", 1, 0)[0])
    assert "not on offer" in world.call("email.delete_email", {"email_id": "00000003"})
    assert world.state.email is environment.rule.fresh.email


def test_only_the_test_split_and_no_more_than_there_are(
    data_dir: Path, environment: WorkbenchEnvironment
) -> None:
    with pytest.raises(InputError, match="only measured on"):
        environment.tasks("train", 1, 0)
    with pytest.raises(InputError, match="2 items, but there are 1 queries"):
        environment.tasks("test", 2, 0)
    with pytest.raises(InputError, match="tools = 'some': take all or domains"):
        make_environment("workbench", {"data": str(data_dir), "tools": "some"})
    with pytest.raises(InputError, match="there is no such file"):
        make_environment("workbench", {"data": str(data_dir / "none")})
    with pytest.raises(InputError, match="data = None: no CSV files"):
        fingerprint_environment("workbench", {})


def test_the_identity_of_the_tasks_follows_the_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    before = fingerprint_environment("workbench", {"data": str(folder)})
    assert fingerprint_environment("workbench", {"data": str(folder)}) == before
    path = folder / "emails.csv"
    path.write_text(path.read_text().replace("News 1", "News 9"))
    assert fingerprint_environment("workbench", {"data": str(folder)}) != before


VALUES = st.one_of(
    st.sampled_from(["00000003", "bo@x.com", "Design", "2023-12-01", "(a+)+$", "", "event_name", "status"]),
    st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)  # fmt: skip
KEYS = st.sampled_from(
    sorted({key for s in SCHEMAS.values() for key in s["parameters"]["properties"]} | {"state"})
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*SCHEMAS, "fly"]), st.dictionaries(KEYS, VALUES, max_size=5)), max_size=5
    )
)
def test_no_call_crashes_the_world_or_the_verdict(data_dir: Path, calls: list[tuple[str, Any]]) -> None:
    environment = WorkbenchEnvironment(str(data_dir))
    (task,) = environment.tasks("test", 1, 0)
    world = environment.open(task)
    for name, arguments in calls:
        json.loads(world.call(name, arguments))
    assert environment.judge(task, [], world).reward in (0.0, 1.0)


@needs_real
def test_gold_calls_win_all_480_and_nothing_wins_only_where_nothing_was_to_be_done() -> None:
    environment = WorkbenchEnvironment(str(REAL))
    tasks = environment.tasks("test", 480, 0)
    assert len({task.id for task in tasks}) == 480
    assert environment.tasks("test", 50, 0) == tasks[:50]
    won_idle = []
    for task in tasks:
        assert environment.judge(task, gold_turns(task), None).reward == 1.0, task.id
        if environment.judge(task, [], environment.open(task)).reward == 1.0:
            won_idle.append(task)
    assert (
        sum(not task.gold["calls"] for task in won_idle)
        == sum(not task.gold["calls"] for task in tasks)
        == 81
    )
    # Two answers reassign a customer to whom it belongs already.
    assert sorted(task.id for task in won_idle if task.gold["calls"]) == [
        "customer_relationship_manager-31",
        "customer_relationship_manager-32",
    ]


@needs_real
def test_worlds_and_recorded_calls_are_judged_alike() -> None:
    environment, verify = WorkbenchEnvironment(str(REAL)), row_verifier(REAL)
    tasks = environment.tasks("test", 480, 0)
    rng = random.Random(0)
    rewards = []
    for task in tasks:
        calls = [*task.gold["calls"], *rng.choice(tasks).gold["calls"]][rng.randrange(2) :]
        played = turns(*((call.tool, call.arguments()[1]) for text in calls for call in parse_calls(text)))
        verdict = environment.judge(task, played, None)
        recorded = verify({"calls": calls, "gold": task.gold["calls"]})
        assert (verdict.reward, verdict.detail) == (recorded.reward, recorded.detail)
        assert verdict.parts is not None
        assert recorded.parts is not None
        assert verdict.parts["side_effects"] == recorded.parts["side_effects"]
        rewards.append(verdict.reward)
    assert 20 < sum(r == 1.0 for r in rewards) < 300
