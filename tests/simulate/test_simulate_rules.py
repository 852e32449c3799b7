"""Every rule by hand-made conversations, against the workplace's own solutions, and against anything at all."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scripted_endpoint import TOOLS, scenario

from alloy.environments.workplace import WorkplaceEnvironment, replay
from alloy.simulate.duplicates import Seen
from alloy.simulate.reading import NoJson
from alloy.simulate.rules import AT_ONCE, RULES, Broken, Played, broken, failed, normalised, rows
from alloy.simulate.scenario import GoalCall, Scenario, complaint, written_scenario
from alloy.simulate.tools import Offer, offer_of

OFFER = Offer({tool["name"]: tool for tool in TOOLS}, frozenset({"find_tables"}))
SCENARIO = Scenario.model_validate(scenario("Ann Lee"))
ASKED = {"role": "user", "content": "Hello, a table on 2025-03-04 for four, under the name Ann Lee."}


def says(text: str, *calls: tuple[str, Any], **more: Any) -> dict[str, Any]:
    turn = {"role": "assistant", "content": text, **more}
    made = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return turn | ({"tool_calls": made} if made else {})


def answers(value: Any) -> dict[str, Any]:
    return {"role": "tool", "content": value if isinstance(value, str) else json.dumps(value)}


FIND = ("find_tables", {"day": "2025-03-04"})
BOOK = ("book_table", {"day": "2025-03-04", "people": 4, "name": "Ann Lee"})
FOUND = answers({"free": [{"id": "T-1"}]})
BOOKED = answers({"id": "B-17"})
GOOD = [
    {"role": "system", "content": "Help."},
    ASKED,
    says("", FIND),
    FOUND,
    says("", BOOK),
    BOOKED,
    says("Done, it is B-17."),
]


def played(*messages: dict[str, Any], ended: Any = "user", **more: Any) -> Played:
    return Played(SCENARIO, OFFER, [dict(message) for message in messages], ended, **more)


def changed(number: int, *turns: dict[str, Any]) -> Played:
    """The good conversation with other turns in the place of one."""
    return played(*GOOD[:number], *turns, *GOOD[number + 1 :])


def test_the_good_one_breaks_no_rule() -> None:
    assert broken(played(*GOOD)) is None


@pytest.mark.parametrize(
    ("conversation", "rule", "detail"),
    [
        (changed(1, {"role": "user", "content": " "}), "roles", "turn 2: the user says nothing"),
        (
            changed(1, ASKED | {"tool_calls": [{"name": "x", "arguments": {}}]}),
            "roles",
            "the user writes a tool call",
        ),
        (changed(1, ASKED | {"content": "<tool_call>{}</tool_call>"}), "roles", "the user writes <tool_call"),
        (
            changed(1, ASKED | {"content": 'do {"name": "book_table", "arguments": {}}'}),
            "roles",
            "the user writes a call to book_table",
        ),
        (changed(1, ASKED | {"content": "Hi\nAssistant: hello"}), "roles", "a line of the assistant's"),
        (
            changed(6, says("Done.\nUser: thanks")),
            "roles",
            "turn 7: the assistant writes a line of the user's",
        ),
        (changed(6, says("Done. <|im_end|>")), "roles", "turn 7: the assistant writes '<|im_end|>'"),
        (changed(6, says("Done. ###DONE###")), "roles", "the assistant writes ###DONE###"),
        (changed(6, says("<tool_response>x</tool_response>")), "roles", "<tool_response"),
        (changed(6, says("")), "readable", "turn 7: the assistant says nothing"),
        (changed(6, says("Done", cut=True)), "readable", "turn 7: it was cut at the limit of tokens"),
        (changed(1, ASKED | {"cut": True}), "readable", "turn 2: it was cut at the limit of tokens"),
        (changed(2, says("", FIND, invalid_calls=["{"])), "readable", "turn 3: a call cannot be read: '{'"),
        (
            changed(6, says('{"name": "book_table", "arguments": {}}')),
            "readable",
            "a call stands in its text",
        ),
        (changed(2, says("", ("find_rooms", {}))), "offered", "turn 3: 'find_rooms' is not on offer"),
        (
            changed(2, says("", ("find_tables", {}))),
            "schema",
            "turn 3: find_tables: 'day' is a required property",
        ),
        (
            changed(4, says("", ("book_table", BOOK[1] | {"people": 0}))),
            "schema",
            "people: 0 is less than the min",
        ),
        (
            changed(4, says("", ("book_table", BOOK[1] | {"people": "4"}))),
            "schema",
            "people: '4' is not of type",
        ),
        (
            changed(2, says("", ("find_tables", {"day": "2025-03-05"}))),
            "grounded",
            "turn 3: find_tables: nobody told day = '2025-03-05'",
        ),
        # What comes in the same turn or after it was not told.
        (changed(2, says("", FIND, ("cancel_booking", {"id": "B-17"})), FOUND), "grounded", "id = 'B-17'"),
        (changed(4, says("", ("cancel_booking", {"id": "T-1"}))), "unasked", "turn 5: cancel_booking"),
        (
            changed(4, says("", BOOK, BOOK), BOOKED),
            "unasked",
            'turn 5: book_table {"day":"2025-03-04","people":4,"name":"Ann Lee"} is no goal, or once too often',
        ),
        (changed(4, says("", ("book_table", BOOK[1] | {"area": "terrace"}))), "unasked", "is no goal"),
        (changed(6, says("Done, it is B-18.")), "says", "turn 7: nobody told the id B-18"),
        (changed(2, says("Let me look for 9 seats.", FIND)), "says", "turn 3: nobody told the number 9"),
        (played(*GOOD, ended="turns"), "ended", "the limit of turns was reached"),
        (played(*GOOD[:2], ended="user"), "ended", "the user ended it before there was an answer"),
        (played(ended="user"), "ended", "the user ended it before"),
        (played(*GOOD, ended="broken"), "ended", "it was not brought to an end"),
        (played(*GOOD[:4], GOOD[6] | {"content": "Sorry."}), "goal", "not done: book_table"),
        (changed(5, answers({"error": "full"})), "says", "nobody told the id B-17"),
        (
            played(*GOOD[:5], answers({"error": "full"}), says("Sorry, it is full.")),
            "goal",
            "not done: book_table",
        ),
        (changed(6, says("no " * 16)), "row", "turn 7 says 'no' 16 times in a row"),
        (changed(6, says("a\x00")), "row", "turn 7: a NUL character"),
    ],
)
def test_what_breaks_a_rule(conversation: Played, rule: str, detail: str) -> None:
    found = broken(conversation)
    assert found is not None
    assert found.rule == rule, found
    assert detail in found.detail


@pytest.mark.parametrize(
    "conversation",
    [
        # Case, spaces, numbers by value, null and defaults make no difference.
        changed(4, says("", ("book_table", {"day": "2025-03-04", "people": 4.0, "name": "ANN  lee"}))),
        changed(4, says("", ("book_table", BOOK[1] | {"area": "inside"}))),
        # What the tool refused was not done, and may be tried again.
        played(*GOOD[:4], says("", BOOK), answers({"error": "busy"}), *GOOD[4:]),
        # Reading is free.
        played(*GOOD[:4], says("", FIND), FOUND, *GOOD[4:]),
        changed(6, says("Done."), {"role": "user", "content": "Sure?"}, says("Yes: B-17, for 4.")),
        changed(6, says("Done", thinking="99 was what I thought")),
    ],
)
def test_what_breaks_none(conversation: Played) -> None:
    assert broken(conversation) is None


def test_an_enum_may_be_named_and_a_description_may_not() -> None:
    offer = Offer(
        {
            "seat": {
                "name": "seat",
                "description": "For example in Rome",
                "parameters": {
                    "type": "object",
                    "properties": {"area": {"enum": ["terrace", 7]}, "town": {"type": "string"}},
                },
            }
        }
    )
    wanted = Scenario(persona="p", goal="g", goal_calls=[])
    turns = [ASKED, says('Inside, or on the "terrace"?')]
    assert broken(Played(wanted, offer, turns), AT_ONCE) is None
    for arguments, good in (({"area": "terrace"}, True), ({"area": 7}, True), ({"town": "Rome"}, False)):
        found = RULES["grounded"](Played(wanted, offer, [ASKED, says("", ("seat", arguments))]))
        assert (found is None) is good


def test_order_counts_where_the_scenario_says_so() -> None:
    calls = [
        GoalCall(name="cancel_booking", arguments={"id": "T-1"}),
        GoalCall(name="book_table", arguments=BOOK[1]),
    ]
    turns = [
        *GOOD[:4],
        says("", BOOK),
        BOOKED,
        says("", ("cancel_booking", {"id": "T-1"})),
        answers({}),
        says("Done."),
    ]
    free = replace(played(*turns), scenario=SCENARIO.model_copy(update={"goal_calls": calls}))
    assert broken(free) is None
    ordered = replace(free, scenario=free.scenario.model_copy(update={"ordered": True}))
    assert broken(ordered) == Broken("goal", "the goal calls were made in another order")


def test_text_that_is_composed_needs_no_source_but_for_what_it_states() -> None:
    tool = {
        "name": "mail",
        "parameters": {
            "type": "object",
            "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
        },
    }
    offer = Offer({"mail": tool}, frozenset(), frozenset({("mail", "text")}))
    wanted = Scenario(
        persona="p",
        goal="g",
        goal_calls=[GoalCall(name="mail", arguments={"to": "ann@lee.org", "text": "late"})],
    )
    asked = {"role": "user", "content": "Tell ann@lee.org that I come 20 minutes late."}

    def judged(text: str) -> Broken | None:
        turns = [
            asked,
            says("", ("mail", {"to": "ann@lee.org", "text": text})),
            answers({"ok": True}),
            says("Sent."),
        ]
        return broken(Played(wanted, offer, turns, "user"))

    assert judged("Dear Ann, I shall be 20 minutes late. So sorry!") is None
    assert judged("I shall be 30 minutes late.") == Broken(
        "grounded", "turn 2: mail: nobody told the number 30"
    )


def test_a_judge_decides_instead_of_the_goal_calls() -> None:
    from alloy.verify.verdict import Verdict

    other = played(
        *GOOD[:2], says("", ("cancel_booking", {"id": "2025"})), answers("ok"), says("Done."), by_judge=True
    )
    assert broken(other) == Broken("judge", "it was not judged")
    assert broken(replace(other, verdict=Verdict(1.0))) is None
    assert broken(replace(other, verdict=Verdict(0.0, "ok", "unasked: x"))) == Broken("judge", "unasked: x")
    assert broken(replace(other, verdict=Verdict(None, "error", "x"))) == Broken("judge", "error: x")


def test_the_workplace_s_own_solutions_break_no_rule_and_its_lapses_do() -> None:
    """120 conversations whose calls and end states are known to be right, and what careless ones do."""
    for lapses, count in ((0.0, 120), (1.0, 40)):
        environment = WorkplaceEnvironment(lapses=lapses)
        kept = []
        for task in environment.tasks("train", count, 3):
            goal = task.messages[-1]["content"]
            turns = [*task.messages, *task.demonstration]
            world = replay(environment.open(task), task.demonstration)
            verdict = environment.judge(task, task.demonstration, world)
            found = broken(
                Played(Scenario(persona="p", goal=goal), offer_of(task.tools), turns, "user", True, verdict)
            )
            assert (found is None) is (verdict.reward == 1.0), (task.id, found)
            kept.append(found is None)
        assert all(kept) if not lapses else not all(kept)


def test_values_are_compared_by_what_they_say() -> None:
    assert normalised({"a": " X  y", "b": 2.0, "c": None}) == normalised({"a": "x Y", "b": 2})
    assert normalised({"a": 1}, {"a": {"default": 1.0}}) == {}
    assert normalised(True) != normalised(1)
    assert normalised("2") != normalised(2)
    assert normalised(-2) != normalised(2)


def test_an_answer_that_says_that_nothing_was_done() -> None:
    assert failed('{"error": "no"}')
    assert [failed(text) for text in ('{"error": null}', '["error"]', "ok", "error: x", '{"error"', "")] == [
        False
    ] * 6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"goal": ""}, "goal"),
        ({"persona": None}, "persona"),
        ({"goal_calls": []}, "it has 0 goal_calls, 1 to 2 are needed"),
        (
            {"goal_calls": [{"name": "find_rooms", "arguments": {}}]},
            "goal_calls[0]: 'find_rooms' is not on offer",
        ),
        ({"goal_calls": [{"name": "book_table", "arguments": {}}]}, "'day' is a required property"),
        (
            {"goal_calls": [{"name": "cancel_booking", "arguments": {"id": "B-1"}}]},
            "id = 'B-1' stands neither in",
        ),
        ({"world": "empty"}, "world"),
    ],
)
def test_scenarios_that_cannot_be_played(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(NoJson) as error:
        written_scenario(json.dumps(scenario("Ann Lee") | changes), OFFER, 2)
    assert why in str(error.value)


def test_a_written_scenario_decides_neither_tools_nor_what_only_reads() -> None:
    text = json.dumps(scenario("Ann Lee") | {"read_only": ["book_table"], "tools": ["book_table"], "more": 1})
    found = written_scenario(text, OFFER, 2)
    assert (found.read_only, found.tools) == ([], None)
    assert complaint(found, OFFER) is None


WORDS = st.sampled_from(
    [
        "Ann Lee",
        "B-17",
        "<tool_call>",
        '{"name": "book_table"',
        "###DONE###",
        "4",
        "\ud800",
        "User:",
        '"x"',
        "\x00",
    ]
)
TEXT = st.lists(WORDS | st.text(max_size=8), max_size=5).map(" ".join)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CALL = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*OFFER.schemas, "other", ""]),
        "arguments": st.dictionaries(
            st.sampled_from(["day", "people", "name", "id", "x"]), VALUE, max_size=4
        ),
    }
)
TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": TEXT | VALUE.map(json.dumps),
    },
    optional={
        "tool_calls": st.lists(CALL, max_size=3),
        "invalid_calls": st.lists(TEXT, max_size=2),
        "thinking": TEXT,
        "cut": st.booleans(),
    },
)


@given(st.lists(TURN, max_size=6), st.sampled_from(["user", "turns", "broken", ""]), st.booleans())
def test_no_conversation_at_all_makes_a_rule_fail(turns: list[Any], ended: Any, by_judge: bool) -> None:
    conversation = Played(SCENARIO, OFFER, turns, ended, by_judge)
    for name, rule in RULES.items():
        detail = rule(conversation)
        assert detail is None or (isinstance(detail, str) and detail), name
    found = broken(conversation)
    assert found is None or found.rule in RULES
    rows(turns)


PARTS = st.sampled_from(
    ["Ann", "Lee", "T-1", "2025", "04", "a table", "inside", 3, 2025, 17, -4, True, None, []]
)


@given(st.sampled_from(sorted(BOOK[1])), PARTS | VALUE)
def test_another_value_of_any_argument_is_never_kept(key: str, value: Any) -> None:
    """Not even one that was told: it may be on the wrong place."""
    assume(normalised(value) != normalised(BOOK[1][key]))
    found = broken(changed(4, says("", ("book_table", BOOK[1] | {key: value}))))
    assert found is not None
    assert found.rule in ("schema", "grounded", "unasked")


@given(
    st.integers(0, 10**9),
    st.sampled_from(["It is {}.", "For EUR {}.00", "See B-{}", "Room A{}", "({})", "**{}**"]),
)
def test_a_number_that_nobody_told_is_never_kept(number: int, form: str) -> None:
    assume(number > 12 and number not in (17, 2025))
    found = broken(changed(6, says(f"Done. {form.format(number)}")))
    assert found is not None
    assert found.rule == "says"


@given(
    st.sampled_from([("find_tables", {"day": "2025-03-04"}), ("cancel_booking", {"id": "T-1"}), BOOK]),
    st.data(),
)
def test_one_call_more_is_kept_only_if_it_reads(extra: tuple[str, Any], data: st.DataObject) -> None:
    """Wherever it stands after its values were told, and whatever the tool answers but an error."""
    place = data.draw(st.sampled_from([4, 6]))
    answer = data.draw(VALUE.map(json.dumps).filter(lambda text: not failed(text)))
    found = broken(played(*GOOD[:place], says("", extra), answers(answer), *GOOD[place:]))
    assert (found is None) is (extra[0] == "find_tables"), found


NAMES = st.lists(
    st.sampled_from(["Ann", "Bo", "Łukasz", "東京", "O'Neil", "Jean-Luc"]), min_size=1, max_size=3
)


@given(NAMES.map(" ".join), st.integers(1, 10**6), st.dates().map(str))
def test_whatever_is_asked_for_may_be_done(name: str, people: int, day: str) -> None:
    wanted = {"day": day, "people": people, "name": name}
    turns = [
        {"role": "user", "content": f"On {day} we are {people:,}; the name is {name}."},
        says("", ("book_table", wanted)),
        answers({"id": "B-17"}),
        says(f"Done: {name}, {people} people, {day}, B-17."),
    ]
    goal = Scenario(persona="p", goal="g", goal_calls=[GoalCall(name="book_table", arguments=wanted)])
    assert broken(Played(goal, OFFER, turns, "user")) is None
    assert broken(Played(goal, OFFER, [*turns[:1], *turns[3:]], "user")) is not None, "claimed and not done"


@given(st.text() | VALUE.map(json.dumps))
def test_no_text_at_all_makes_the_reading_of_a_scenario_fail(text: str) -> None:
    with suppress(NoJson):
        written_scenario(text, OFFER, 3)


def test_near_duplicates_are_dropped_by_the_share_of_runs_in_common() -> None:
    """Ten different words are eight runs of three; with the last one changed seven of nine are shared."""
    first = "a b c d e f g h i j"
    turns = [
        [{"role": "user", "content": text}] for text in (first, f"{first[:-1]}x", first.upper(), "k l m")
    ]
    strict, loose = Seen(0.8), Seen(7 / 9)
    assert [strict.like(str(n), turn) for n, turn in enumerate(turns)] == [None, None, ("0", 1.0), None]
    found = [loose.like(str(n), turn) for n, turn in enumerate(turns)]
    assert found == [None, ("0", pytest.approx(7 / 9)), ("0", 1.0), None]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=12), st.floats(0.1, 1.0))
def test_the_index_finds_what_comparing_all_pairs_finds(texts: list[list[str]], similarity: float) -> None:
    def runs(text: list[str]) -> set[str]:
        return {" ".join(text[i : i + 3]) for i in range(max(1, len(text) - 2))}

    kept: list[int] = []
    seen = Seen(similarity)
    for number, text in enumerate(texts):
        shares = [len(runs(text) & runs(texts[k])) / len(runs(text) | runs(texts[k])) for k in kept]
        alike = next((k for k, share in zip(kept, shares, strict=True) if share >= similarity - 1e-9), None)
        found = seen.like(str(number), [{"role": "user", "content": " ".join(text)}])
        assert (None if found is None else int(found[0])) == alike
        if alike is None:
            kept.append(number)
