"""What counts as told: by hand, and that no text at all makes it fail."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.simulate.reading import MAX_DEPTH, NoJson, read_arguments, read_json, split_thinking
from alloy.simulate.told import Told, invented_in_text, invented_values, numbers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def told(*texts: str, answers: tuple[str, ...] = ()) -> Told:
    found = Told()
    for text in texts:
        found.hear(text)
    for answer in answers:
        found.hear_answer(answer)
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,200 and 1200.50", {"1200", "1200.5"}),
        ("two at 007", {"2", "7"}),
        ("room A12, 12th floor, 5pm", {"12", "5"}),
        ("1.000 is 1", {"1"}),
        ("1,2,3 and 4,500,000", {"1", "2", "3", "4500000"}),
        ("\u0661\u0662", {"12"}),
        ("-5 to 3-4", {"5", "3", "4"}),
        ("none of them", set()),
    ],
)
def test_numbers_of_a_text(text: str, found: set[str]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("Ann Lee", True),
        ("ANN  LEE", True),
        ("ann-lee", True),
        ("Ann", True),
        ("An", False),
        ("Lee Ann", False),
        ("Ann Leeds", False),
        (4, True),
        (4.0, True),
        (-4, True),
        (5, False),
        ("4", True),
        (1200, True),
        ("1200", True),
        ("", True),
        ("?!", True),
        (None, True),
        (True, True),
        ("2025-03-04", True),
        ("2025-04-03", False),
        ("T-1", True),
        ("T-2", False),
        ("Straße", True),
        ("東京", True),
        ("京東", False),
        (["Ann", {"a": "Bob"}], False),
    ],
)
def test_values_that_were_told(value: Any, known: bool) -> None:
    heard = told(
        "Book for Ann Lee and three others, 4 in all, on 2025/03/04; 1,200 euros. STRASSE. 東京に行く",
        answers=('{"tables":[{"id":"T-1","seats":6}]}',),
    )
    assert (list(invented_values(value, heard, "x")) == []) is known


def test_words_do_not_join_over_two_strings_of_an_answer() -> None:
    heard = told(answers=('{"first":"Ann","last":"Lee"}',))
    assert heard.knows("Ann")
    assert not heard.knows("Ann Lee")
    assert told("Ann.", "Lee.").knows("Lee")
    assert not told("Ann.", "Lee.").knows("Ann Lee")


def test_what_is_invented_is_told_with_its_place() -> None:
    found = list(invented_values({"to": ["a@b.de", "Bob"], "n": 7}, told("write to a@b.de"), "mail"))
    assert found == ["mail.to[1] = 'Bob'", "mail.n = 7"]


@pytest.mark.parametrize(
    ("text", "invented"),
    [
        ("Done: B-17 for Ann Lee.", []),
        ("Done: B-18.", ["the id B-18"]),
        ("It costs $40.00, at 19:30.", []),
        ("It costs 41.", ["the number 41"]),
        ("At 19:45.", ["the id 19:45"]),
        ("I found 2 tables.", []),
        ("I found 3 tables.", ["the number 3"]),
        ("1. the first\n2) the second\n- 3. third", []),
        ('She said "by the window".', []),
        ('She said "by the door".', ["the quotation 'by the door'"]),
        ("It's Ann's, isn't it?", []),
        ("'Quiet' or `loud`", ["the quotation 'Quiet'", "the quotation 'loud'"]),
        ("Write to ann@lee.org or bob@lee.org.", ["the address bob@lee.org"]),
        ("On the 4th, at 5pm", ["the number 5pm"]),
        ("", []),
    ],
)
def test_what_a_text_invents(text: str, invented: list[str]) -> None:
    heard = told(
        "I am ann@lee.org. A table by the window on March 4 at 19:30, for 40 euros at most.",
        answers=('{"id":"B-17","tables":[{"seats":6},{"seats":8}],"for":"Ann Lee"}',),
    )
    assert list(invented_in_text(text, heard)) == invented


@given(st.text(), st.text(), JSON)
def test_nothing_that_is_said_makes_it_fail(heard: str, said: str, value: Any) -> None:
    known = told(heard, answers=(heard, json.dumps(value)))
    list(invented_in_text(said, known))
    list(invented_values(value, known))
    assert known.knows(heard)


@given(st.text())
def test_what_was_heard_is_not_invented(text: str) -> None:
    # But for quotations and ids, whose edges differ from those of words, whatever is repeated is known.
    assert [found for found in invented_in_text(text, told(text)) if found.startswith("the number")] == []


@given(JSON)
def test_the_values_of_an_answer_are_known(value: Any) -> None:
    assert list(invented_values(value, Told(value))) == []


def test_long_texts_take_no_time() -> None:
    began = time.process_time()  # the machine may be busy
    for part in ("a", "a.", "“", "'a", "9", "9,", "1-", '"', "`", "{", "```\n", "<think>"):
        text = part * 40_000
        list(invented_in_text(text, told(text)))
        with pytest.raises(NoJson):
            read_json(text)
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("  [1]\n", [1]),
        ('Here it is:\n```json\n{"a": 1}\n```\nGood?', {"a": 1}),
        ('```\n{"a": 1}\n```\n```\n{"a": 2}\n```', {"a": 2}),
        ('Sure! {"a": {"b": 2}} I hope', {"a": {"b": 2}}),
        ('As in [1]: {"a": 2}', {"a": 2}),
        ('These: [ {"a": 2} ].', [{"a": 2}]),
    ],
)
def test_json_out_of_a_text(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ok", "there is no { or ["),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": 1e999}', "not JSON compliant"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": ' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}", "nested deeper than 40 levels"),
        ("[" * 100_000, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "integer string conversion"),
        ('{"a": 1', "delimiter"),
    ],
)
def test_json_that_cannot_be_used(text: str, why: str) -> None:
    with pytest.raises(NoJson, match=r"(?i).*" + why.replace("[", r"\[").replace("{", r"\{")):
        read_json(text)


@given(st.text() | JSON.map(json.dumps))
def test_reading_never_fails_in_another_way(text: str) -> None:
    for read in (read_json, read_arguments):
        with suppress(NoJson):
            json.dumps(read(text), ensure_ascii=False, allow_nan=False).encode()


def test_arguments_of_a_call() -> None:
    assert [read_arguments(given) for given in ("", None, "{}", {"a": 1}, '{"a": 1}')] == [
        {},
        {},
        {},
        {"a": 1},
        {"a": 1},
    ]
    for given_wrong in ("[1]", '"a"', "x", 3):
        with pytest.raises(NoJson):
            read_arguments(given_wrong)


def test_thinking_is_split_off() -> None:
    assert split_thinking("<think>\na\n</think>\n\nb") == ("a", "b")
    assert split_thinking("a</think>b") == ("a", "b")
    assert split_thinking("<think>a") == ("a", "")
    assert split_thinking("b") == ("", "b")
