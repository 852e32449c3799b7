"""The workplace: its tools, its tasks, its verdicts."""

import json
import re
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.environments.call_log import CallRecord
from alloy.environments.task import Task
from alloy.environments.workplace import WorkplaceEnvironment, WorkplaceWorld, replay
from alloy.environments.workplace_phrases import PHRASINGS, phrasings
from alloy.environments.workplace_state import State
from alloy.environments.workplace_tasks import ACTIONS, KINDS
from alloy.environments.workplace_tools import READ_ONLY_TOOLS, TOOLS
from alloy.errors import InputError

SPLITS = ("train", "validation", "test")

TABLES = {
    "events": {"27": ["budget review", "monday"], "31": ["team lunch", "friday"]},
    "inbox": {"40": ["new offer", "ada@oak.com"]},
    "customers": {"50": ["blue fox", "lead", "ada"]},
    "tasks": {"61": ["fix login", "todo", "ada"], "62": ["test page", "done", "ben"]},
    "visits": {"0": ["monday", "64", "ads"]},
    "people": {"0": ["ada", "ada@oak.com", "sales"], "1": ["ben", "ben@elm.com", "legal"]},
}


@pytest.fixture
def world() -> WorkplaceWorld:
    return WorkplaceWorld(State.from_tables(TABLES), frozenset(TOOLS))


def handmade(request: str, calls: list[dict[str, Any]]) -> Task:
    gold = {
        "kind": "search",
        "action": "x",
        "domains": ["calendar"],
        "steps": 1,
        "tables": TABLES,
        "calls": calls,
    }
    schemas = [tool.schema for tool in TOOLS.values()]
    return Task("1", "workplace", "search/x/0", [{"role": "user", "content": request}], schemas, gold)


CANCEL = handmade('Cancel "team lunch".', [{"name": "delete_event", "arguments": {"id": "31"}}])


def test_reading_tools_answer_in_compact_json(world: WorkplaceWorld) -> None:
    assert (
        world.call("find_events", {"name": "Team Lunch"})
        == '[{"id":"31","name":"team lunch","day":"friday"}]'
    )
    assert world.call("find_tasks", {"name": "no such"}) == "[]"
    assert (
        world.call("find_person", {"name": "ben"}) == '[{"name":"ben","email":"ben@elm.com","team":"legal"}]'
    )
    assert world.call("count_visits", {"day": "monday"}) == '{"visits":"64"}'
    assert world.state.same_as(State.from_tables(TABLES))
    assert {record.outcome for record in world.log} == {"read"}


def test_writing_tools_change_the_state(world: WorkplaceWorld) -> None:
    assert world.call("move_event", {"id": "27", "day": "friday"}) == "ok"
    assert world.call("reply_email", {"id": "40", "text": "well done"}) == '{"id":"63"}'
    assert world.call("forward_email", {"id": "40", "to": "ben@elm.com"}) == '{"id":"64"}'
    assert world.call("add_task", {"name": "send form", "owner": "ben"}) == '{"id":"65"}'
    assert world.call("delete_customer", {"id": "50"}) == "ok"
    tables = world.state.tables
    assert tables["events"]["27"] == ("budget review", "friday")
    assert list(tables["sent"].values()) == [("ada@oak.com", "well done"), ("ben@elm.com", "fw: new offer")]
    assert tables["tasks"]["65"] == ("send form", "todo", "ben")
    assert tables["customers"] == {}


@pytest.mark.parametrize(
    ("name", "arguments", "answer", "outcome"),
    [
        ("fly", {}, "error: there is no tool 'fly'", "unknown tool"),
        (None, {}, "error: there is no tool 'None'", "unknown tool"),
        (["find_tasks"], {}, "error: there is no tool \"['find_tasks']\"", "unknown tool"),
        ("delete_event", {}, 'error: delete_event needs "id"', "wrong arguments"),
        ("delete_event", {"id": 27}, 'error: "id" must be a string', "wrong arguments"),
        ("delete_event", {"id": "27", "why": "x"}, 'error: delete_event takes no "why"', "wrong arguments"),
        ("delete_event", "27", "error: the arguments of delete_event must be an object", "wrong arguments"),
        (
            "move_task",
            {"id": "61", "list": "later"},
            'error: "list" must be one of "todo", "doing", "done"',
            "wrong arguments",
        ),
        ("delete_event", {"id": "61"}, 'error: no event has the id "61"', "no such row"),
        ("count_visits", {"day": "sunday"}, 'error: nothing is known of "sunday"', "no such row"),
    ],
)
def test_a_wrong_call_is_answered_and_changes_nothing(
    world: WorkplaceWorld, name: Any, arguments: Any, answer: str, outcome: Any
) -> None:
    assert world.call(name, arguments) == answer
    assert world.log == [CallRecord(str(name), outcome)]
    assert world.state.same_as(State.from_tables(TABLES))


def test_a_tool_that_is_not_on_offer_does_nothing() -> None:
    world = WorkplaceWorld(State.from_tables(TABLES), frozenset(["find_events"]))
    assert world.call("delete_event", {"id": "27"}) == "error: delete_event is not on offer here"
    assert "27" in world.state.tables["events"]


def test_only_the_expected_end_wins() -> None:
    environment = WorkplaceEnvironment()
    world = environment.open(CANCEL)
    world.call("find_events", {"name": "team lunch"})
    assert environment.judge(CANCEL, [], world).reward == 0.0
    world.call("delete_event", {"id": "31"})
    assert environment.judge(CANCEL, [], world).reward == 1.0
    world.call("add_event", {"name": "team lunch", "day": "friday"})
    verdict = environment.judge(CANCEL, [], world)
    assert verdict.reward == 0.0
    assert verdict.parts == {"side_effects": 1.0, "invalid_calls": 0.0, "invented_tools": 0.0}
    assert verdict.detail == "unasked: events new {'name': 'team lunch', 'day': 'friday'}"


def test_what_was_not_done_is_told_and_is_no_side_effect() -> None:
    environment = WorkplaceEnvironment()
    world = environment.open(CANCEL)
    world.call("drop_event", {"id": "31"})
    world.call("delete_event", {"id": "99"})
    verdict = environment.judge(CANCEL, [], world)
    assert verdict.detail == "not done: events 31 deleted"
    assert verdict.parts == {"side_effects": 0.0, "invalid_calls": 0.5, "invented_tools": 0.5}


def test_a_call_that_cannot_be_read_is_an_invalid_one() -> None:
    environment = WorkplaceEnvironment()
    world = environment.open(CANCEL)
    world.call("delete_event", {"id": "31"})
    turns = [{"role": "assistant", "content": "", "invalid_calls": ["{", "}", "x"]}]
    verdict = environment.judge(CANCEL, turns, world)
    assert (verdict.reward, verdict.parts) == (
        1.0,
        {"side_effects": 0.0, "invalid_calls": 0.75, "invented_tools": 0.0},
    )


def test_a_change_taken_back_is_no_change() -> None:
    environment = WorkplaceEnvironment()
    nothing = handmade("Nothing.", [])
    world = environment.open(nothing)
    world.call("move_task", {"id": "61", "list": "done"})
    assert environment.judge(nothing, [], world).reward == 0.0
    world.call("move_task", {"id": "61", "list": "todo"})
    assert environment.judge(nothing, [], world).reward == 1.0


def test_the_order_of_new_rows_does_not_count_but_their_number_does() -> None:
    environment = WorkplaceEnvironment()
    one = {"name": "send_email", "arguments": {"to": "a@b.c", "text": "hi"}}
    other = {"name": "send_email", "arguments": {"to": "a@b.c", "text": "yo"}}
    task = handmade("Send both.", [one, other])
    turns = [{"role": "assistant", "content": "", "tool_calls": [other, one]}]
    assert environment.judge(task, turns, None).reward == 1.0
    assert environment.judge(task, turns + turns, None).reward == 0.0


def test_copies_do_not_share_what_is_written() -> None:
    state = State.from_tables(TABLES)
    state.update("events", "27", "day", "friday")
    twin = state.copy()
    state.delete("events", "31")
    twin.insert("events", ("new", "monday"))
    assert set(state.tables["events"]) == {"27"}
    assert set(twin.tables["events"]) == {"27", "31", "63"}
    assert state.tables["tasks"] is twin.tables["tasks"]


@pytest.mark.parametrize("split", SPLITS)
def test_demonstrations_win_and_doing_nothing_wins_only_where_nothing_is_to_be_done(split: Any) -> None:
    environment = WorkplaceEnvironment()
    tasks = environment.tasks(split, 2000, seed=5)
    for task in tasks:
        assert environment.judge(task, task.demonstration, None).reward == 1.0, task
        idle = environment.judge(task, [], environment.open(task))
        assert idle.reward == float(task.gold["kind"] == "nothing"), task
        assert idle.parts is not None
        assert idle.parts["side_effects"] == 0.0
    assert {task.gold["kind"] for task in tasks} == set(KINDS)
    assert {task.gold["action"] for task in tasks} == {action.name for action in ACTIONS}


def test_any_further_write_loses() -> None:
    environment = WorkplaceEnvironment(tools_offered=len(TOOLS))
    for task in environment.tasks("train", 150, seed=2):
        for name, tool in TOOLS.items():
            if not tool.writes:
                continue
            world = replay(environment.open(task), task.demonstration)
            before = world.state.copy()
            # An id that is there, texts that are nowhere: the call is bound to change something.
            table = {"calendar": "events", "email": "inbox", "customers": "customers", "tasks": "tasks"}
            ids = list(world.state.tables[table.get(tool.domain, "plots")]) or ["0"]
            arguments = {}
            for key, schema in tool.schema["parameters"]["properties"].items():
                arguments[key] = ids[0] if key == "id" else "zzz"
                if "enum" in schema:
                    row = world.state.tables[table.get(tool.domain, "plots")].get(ids[0], ())
                    arguments[key] = next(value for value in schema["enum"] if value not in row)
            world.call(name, arguments)
            if world.log[-1].outcome == "written":
                assert not world.state.same_as(before)
                verdict = environment.judge(task, [], world)
                assert verdict.reward == 0.0, (task, name, arguments)


def test_demonstrations_read_before_they_use_an_id_or_an_address() -> None:
    for task in WorkplaceEnvironment().tasks("train", 400, seed=3):
        seen = task.messages[-1]["content"]
        for turn in task.demonstration:
            for call in turn.get("tool_calls", []):
                for value in call["arguments"].values():
                    assert f'"{value}"' in seen, (value, task)
            seen += turn["content"]


def test_lapses_spoil_demonstrations_and_leave_what_is_asked_as_it_is() -> None:
    clean = WorkplaceEnvironment()
    careless = WorkplaceEnvironment(lapses=1.0)
    for straight, lapsed in zip(clean.tasks("train", 150, 0), careless.tasks("train", 150, 0), strict=True):
        assert (straight.messages, straight.tools, straight.gold) == (
            lapsed.messages,
            lapsed.tools,
            lapsed.gold,
        )
        reward = careless.judge(lapsed, lapsed.demonstration, None).reward
        if lapsed.demonstration == straight.demonstration:
            # Only a search for what is not there has nothing to be careless about.
            assert straight.gold["kind"] == "nothing"
            assert reward == 1.0
        else:
            assert reward == 0.0, lapsed.id
            made = sum(len(turn.get("tool_calls", [])) for turn in lapsed.demonstration)
            extra = 1 if straight.gold["kind"] == "nothing" else -1
            assert made == straight.gold["steps"] + extra
            assert lapsed.demonstration[-1]["content"] == "Done."


def test_lapses_come_in_their_share() -> None:
    clean, some = WorkplaceEnvironment(kinds=["write"]), WorkplaceEnvironment(kinds=["write"], lapses=0.3)
    pairs = zip(clean.tasks("train", 1000, 0), some.tasks("train", 1000, 0), strict=True)
    share = sum(a.demonstration != b.demonstration for a, b in pairs) / 1000
    assert 0.25 < share < 0.35  # three standard errors of a coin of 0.3


def test_every_turn_thinks_only_when_asked_to() -> None:
    for thinking in (True, False):
        for task in WorkplaceEnvironment(thinking=thinking).tasks("test", 60, seed=0):
            turns = [turn for turn in task.demonstration if turn["role"] == "assistant"]
            assert all(bool(turn.get("thinking")) == thinking for turn in turns)
            assert turns[-1]["content"] in ("Done.", "Nothing to do.")
            assert "tool_calls" not in turns[-1]


def test_offered_tools_are_those_needed_and_no_more_than_asked() -> None:
    few, many = WorkplaceEnvironment(tools_offered=1), WorkplaceEnvironment(tools_offered=8)
    for task in few.tasks("train", 200, seed=0):
        names = {tool["name"] for tool in task.tools}
        assert len(names) <= 3
        called = {c["name"] for turn in task.demonstration for c in turn.get("tool_calls", [])}
        assert called <= names
    assert all(len(task.tools) == 8 for task in many.tasks("train", 50, seed=0))


def test_a_task_without_anything_to_do_offers_what_its_twin_offers() -> None:
    twins = {action.name: action.tools for action in ACTIONS if action.kind != "nothing"}
    for action in ACTIONS:
        if action.kind == "nothing":
            assert action.tools == twins[action.name]
            assert any(name not in READ_ONLY_TOOLS for name in action.tools)


def test_phrasings_are_disjoint_by_split_and_every_kind_has_at_least_twelve() -> None:
    texts = {
        split: {text for action in PHRASINGS for _, text in phrasings(action, split)} for split in SPLITS
    }
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    for kind in KINDS:
        names = [action.name for action in ACTIONS if action.kind == kind]
        assert sum(len(PHRASINGS[name]) for name in names) >= 12
    assert len({(action.kind, action.name) for action in ACTIONS}) == len(ACTIONS)


def test_held_out_phrasings_use_only_words_that_training_knows() -> None:
    def words(split: Any) -> set[str]:
        text = " ".join(text for action in PHRASINGS for _, text in phrasings(action, split))
        return set(re.findall(r"[a-z]+|[^a-z\s]", re.sub(r"\{\w+\}", "", text).lower()))

    assert words("validation") <= words("train")
    assert words("test") <= words("train")


def test_templates_of_tasks_are_disjoint_by_split() -> None:
    environment = WorkplaceEnvironment()
    seen = {split: {task.template for task in environment.tasks(split, 600, seed=1)} for split in SPLITS}
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_the_same_seed_gives_the_same_tasks_and_a_longer_list_starts_with_the_shorter() -> None:
    environment = WorkplaceEnvironment()
    assert environment.tasks("test", 20, seed=9) == environment.tasks("test", 40, seed=9)[:20]
    assert environment.tasks("test", 5, seed=9)[0] != environment.tasks("test", 5, seed=10)[0]
    assert (
        environment.tasks("train", 1, seed=9)[0].messages != environment.tasks("test", 1, seed=9)[0].messages
    )


def test_tasks_do_not_repeat() -> None:
    tasks = WorkplaceEnvironment().tasks("validation", 3000, seed=0)
    assert len({json.dumps([task.messages, task.gold["tables"]]) for task in tasks}) == 3000
    # By requests alone: 3000 drawn at random from 100,000 alike would be 2955 different ones at most times.
    requests = {task.messages[-1]["content"] for task in tasks if task.gold["kind"] == "steps"}
    assert len(requests) > 0.99 * sum(task.gold["kind"] == "steps" for task in tasks)


def test_tasks_survive_json() -> None:
    environment = WorkplaceEnvironment()
    for task in environment.tasks("train", 30, seed=0):
        gold, turns = json.loads(json.dumps([task.gold, task.demonstration]))
        again = Task(task.id, task.environment, task.template, task.messages, task.tools, gold)
        assert environment.judge(again, turns, None).reward == 1.0


def test_kinds_and_sizes_are_kept_to() -> None:
    environment = WorkplaceEnvironment(rows_per_table=7, kinds=("search", "nothing"))
    tasks = environment.tasks("train", 50, seed=0)
    assert {task.gold["kind"] for task in tasks} == {"search", "nothing"}
    assert all(len(task.gold["tables"]["events"]) == 7 for task in tasks)
    large = WorkplaceEnvironment(rows_per_table=100, tools_offered=99)
    for task in large.tasks("test", 12, seed=0):
        assert len(task.tools) == len(TOOLS)
        assert large.judge(task, task.demonstration, None).reward == 1.0
    small = WorkplaceEnvironment(rows_per_table=3)
    assert all(small.judge(t, t.demonstration, None).reward == 1 for t in small.tasks("train", 300, seed=4))


def test_a_task_is_described_by_kind_domains_and_steps() -> None:
    environment = WorkplaceEnvironment(kinds=("domains",))
    tasks = environment.tasks("train", 40, seed=0)
    task = next(task for task in tasks if task.gold["action"] == "forward_to_person")
    assert environment.describe(task) == {"kind": "domains", "domains": "directory+email", "steps": 3}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows_per_table": 2}, "rows_per_table = 2: take 3 to 100."),
        ({"tools_offered": 0}, "tools_offered = 0: take 1 or more."),
        ({"kinds": ("read",)}, r"kinds = \['read'\]: take some of write, search"),
        ({"kinds": ()}, r"kinds = \[\]"),
        ({"lapses": 1.5}, r"lapses = 1.5: a share from 0 to 1"),
    ],
)
def test_a_wrong_option_says_its_rule(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WorkplaceEnvironment(**wrong)


VALUES = st.one_of(
    st.sampled_from(["27", "31", "61", "todo", "lead", "bar", "ada", "monday", "fix login", ""]),
    st.text(max_size=8),
    st.none(),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=3), max_size=2),
)
KEYS = st.sampled_from(
    ["id", "name", "day", "list", "status", "kind", "to", "text", "owner", "self", "state"]
)
ARGUMENTS = st.one_of(VALUES, st.dictionaries(st.one_of(KEYS, st.text(max_size=4)), VALUES, max_size=4))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.sampled_from(sorted(TOOLS)), VALUES), ARGUMENTS), max_size=6))
def test_no_call_crashes_the_world_or_the_verdict(calls: list[tuple[Any, Any]]) -> None:
    environment = WorkplaceEnvironment()
    world = environment.open(CANCEL)
    for name, arguments in calls:
        answer = world.call(name, arguments)
        assert isinstance(answer, str)
        json.dumps(answer)
    assert environment.judge(CANCEL, [], world).reward in (0.0, 1.0)
    turns = [
        {"role": "assistant", "content": "", "tool_calls": [{"name": n, "arguments": a} for n, a in calls]}
    ]
    assert environment.judge(CANCEL, turns, None) == environment.judge(CANCEL, turns, world)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(TOOLS)), ARGUMENTS)
def test_arguments_are_refused_exactly_when_the_closed_schema_refuses_them(name: str, arguments: Any) -> None:
    schema = {**TOOLS[name].schema["parameters"], "additionalProperties": False}
    fits = jsonschema.Draft202012Validator(schema).is_valid(arguments)
    assert (TOOLS[name].complaint(arguments) is None) == fits


def test_schemas_are_valid_and_short() -> None:
    for tool in TOOLS.values():
        jsonschema.Draft202012Validator.check_schema(tool.schema["parameters"])
        assert 2 <= len(tool.schema["description"].split()) <= 6
        assert len(json.dumps(tool.schema, separators=(",", ":"))) < 260


def test_a_verdict_takes_less_than_a_millisecond() -> None:
    environment = WorkplaceEnvironment()
    played = [
        (task, replay(environment.open(task), task.demonstration))
        for task in environment.tasks("train", 200, 0)
    ]
    start = time.process_time()
    for task, world in played:
        environment.judge(task, task.demonstration, world)
    assert (time.process_time() - start) / len(played) < 1e-3
