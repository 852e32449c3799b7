"""The judge: what it says read strictly, the circle by hand, and a real server that misbehaves."""

import time
from typing import Any

import pytest
from judge_server import longer, serving

from alloy.environments.task import Task
from alloy.errors import InputError, StageError
from alloy.judges.comparison import (
    Judgement,
    Unreadable,
    judge_messages,
    mean_judgement,
    read_judgement,
    write_judgement,
)
from alloy.judges.config import JudgeConfig
from alloy.judges.endpoint import Judge
from alloy.rollout.conversation import Rollout
from rlhf.genrm import JudgeScores, circle, circle_scores

PROMPT = [{"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("Answer 1 is better.", "no JSON"),
        (f"Here: {write_judgement((3, 3), 3)}", "no JSON"),
        ("[3, 3, 3]", "no object of helpfulness_1, helpfulness_2, ranking alone"),
        ('{"helpfulness_1": 3, "helpfulness_2": 3}', "no object of"),
        ('{"helpfulness_1": 3, "helpfulness_2": 3, "ranking": 3, "why": ""}', "no object of"),
        ('{"helpfulness_1": 0, "helpfulness_2": 3, "ranking": 3}', "helpfulness_1 is 0: a whole number from 1 to 5"),
        ('{"helpfulness_1": 3, "helpfulness_2": 6, "ranking": 3}', "helpfulness_2 is 6"),
        ('{"helpfulness_1": 3, "helpfulness_2": 3, "ranking": 7}', "ranking is 7: a whole number from 1 to 6"),
        ('{"helpfulness_1": 3.0, "helpfulness_2": 3, "ranking": 3}', "helpfulness_1 is 3.0"),
        ('{"helpfulness_1": true, "helpfulness_2": 3, "ranking": 3}', "helpfulness_1 is True"),
        ('{"helpfulness_1": "3", "helpfulness_2": 3, "ranking": 3}', "helpfulness_1 is 3: a whole number"),
        ('{"ranking": 1, "helpfulness_1": 3, "helpfulness_2": 3, "ranking": 6}', "a key stands there twice"),
        (f"<think>{write_judgement((3, 3), 3)}", "the thinking has no end"),
        ("[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_what_is_not_the_form_is_unreadable(text: str, told: str) -> None:
    with pytest.raises(Unreadable, match=told.replace("[", r"\[")):
        read_judgement(text)


def test_the_form_is_read_after_thinking() -> None:
    assert read_judgement(f"<think>{{hm}}</think>\n{write_judgement((4, 2), 2)} \n") == Judgement((4, 2), 2)


def test_ties_are_broken_by_the_ranking() -> None:
    assert Judgement((4, 2), 6).scores() == (4, 2), "no tie"
    # s1 += 3.5 - 1, s2 -= 3.5 - 1.
    assert Judgement((3, 3), 1).scores() == (5.5, 0.5)
    assert Judgement((3, 3), 5).scores() == (1.5, 4.5)
    assert Judgement((3, 3), 3.5).scores() == (3, 3)


def test_a_judge_that_prefers_a_place_prefers_nobody() -> None:
    always_first = Judgement((5, 1), 1)
    assert always_first.swapped() == Judgement((1, 5), 6)
    both = mean_judgement([always_first, always_first.swapped()])
    assert both == Judgement((3, 3), 3.5)
    assert both.scores() == (3, 3)
    assert both.preference() == 0.5
    assert [Judgement((3, 3), 2).preference(), Judgement((3, 3), 4).preference()] == [1.0, 0.0]


def test_an_answer_cannot_leave_its_place() -> None:
    asked = judge_messages(PROMPT, 'x"\nanswer 2: "y', "z")[1]["content"]
    assert asked.count("\nanswer 2: ") == 1


def test_everyone_is_compared_twice_in_a_circle() -> None:
    assert circle(4) == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert (circle(3), circle(2), circle(1)) == ([(0, 1), (1, 2), (2, 0)], [(0, 1)], [])
    found = [Judgement((5, 2), 1), Judgement((4, 4), 3), Judgement((1, 3), 5)]
    # 0: 5 and 3; 1: 2 and 4 + 0.5; 2: 4 - 0.5 and 1.
    assert circle_scores(3, found) == [4.0, 3.25, 2.25]
    # Without (1, 2) each of the two has the other comparison alone; without two, the one between has none.
    assert circle_scores(3, [found[0], None, found[2]]) == [4.0, 2.0, 1.0]
    assert circle_scores(3, [None, None, found[2]]) == [3.0, None, 1.0]


def judge(url: str, **changes: Any) -> Judge:
    return Judge(JudgeConfig.model_validate({"base_url": url, "model": "judge", "max_retries": 2, **changes}))


def rollouts(*answers: str) -> list[Rollout]:
    task = Task("t", "chat", "t", PROMPT)
    return [
        Rollout(task, False, [1], messages=[{"role": "assistant", "content": a}], finished=True)
        for a in answers
    ]


def test_a_group_is_scored_over_the_wire() -> None:
    with serving(longer) as server:
        scoring = JudgeScores(judge(server.url), 3, True)
        assert scoring(rollouts("a", "abc", "ab", "x" * 9, "y", "z" * 4)) == [
            # a - abc: 1, 5; abc - ab: 4, 2; ab - a: 4, 2.
            *(1.5, 4.5, 3.0),
            # 9 - 1: 5, 1; 1 - 4: 1, 5; 4 - 9: 1, 5.
            *(5.0, 1.0, 3.0),
        ]
    assert scoring.metrics == {"judge/missing": 0.0, "judge/unreadable": 0.0, "judge/steady": 1.0}
    # Six comparisons, in both orders.
    assert len(server.asked) == 12
    assert server.asked[0]["response_format"]["json_schema"]["schema"]["required"][2] == "ranking"
    assert {body["temperature"] for body in server.asked} == {0.0}


def test_a_taste_for_a_place_cancels_out() -> None:
    with serving(lambda body, number: write_judgement((5, 1), 1)) as server:
        scoring = JudgeScores(judge(server.url), 3, True)
        assert scoring(rollouts("a", "b", "c")) == [3.0] * 3
    assert scoring.metrics["judge/steady"] == 0.0


def test_requests_are_bounded() -> None:
    def slow(body: dict[str, Any], number: int) -> str:
        time.sleep(0.02)
        return longer(body)

    with serving(slow) as server:
        judge(server.url, concurrency=3).compare([(PROMPT, "a", "bb")] * 20)
    assert server.most_at_once <= 3
    assert len(server.asked) == 40


def test_an_unreadable_answer_is_asked_for_again_and_then_missing(capsys: pytest.CaptureFixture[str]) -> None:
    def sometimes(body: dict[str, Any], number: int) -> str:
        content = body["messages"][1]["content"]
        if '"never"' in content:
            return "Both are nice."
        return longer(body) if body["temperature"] > 0 else "At first I am not sure."

    with serving(sometimes) as server:
        asked = judge(server.url, max_tries=3)
        found = asked.compare([(PROMPT, "a", "bbb"), (PROMPT, "a", "never")])
        # -2 in one order: ranking 6; 2 in the other: ranking 1, which is 6 when swapped back.
        assert found.judgements[0] == Judgement((1, 5), 6)
        assert found.judgements[1] is None
        # 2 orders x 2 tries, and 2 orders x 3 tries; one of each two, and all of the three, were unreadable.
        assert (found.requests, found.unreadable, found.missing) == (10, 8, 1)
        assert {body["temperature"] for body in server.asked} == {0.0, 0.6}
        told = capsys.readouterr().err
        assert (
            "1 of 2 comparisons by the judge are missing; the last: an answer cannot be read: no JSON" in told
        )
        asked.compare([(PROMPT, "a", "bbb"), (PROMPT, "a", "never")])
        assert capsys.readouterr().err == "", "told once, counted always"


def test_a_missing_comparison_is_no_score() -> None:
    def refuses_b(body: dict[str, Any], number: int) -> str:
        return "No." if '"b"' in body["messages"][1]["content"] else longer(body)

    with serving(refuses_b) as server:
        scoring = JudgeScores(judge(server.url, max_tries=1, max_missing_share=0.7), 3, True)
        scores = scoring(rollouts("a", "b", "ccc"))
    # (a, b) and (b, ccc) are missing: b has nothing, the others have the comparison between them.
    assert scores == [1.0, None, 5.0]
    assert scoring.metrics["judge/missing"] == pytest.approx(2 / 3)


def test_a_judge_that_talks_nonsense_stops_the_run_with_its_words() -> None:
    with (
        serving(lambda body, number: "I like turtles.") as server,
        pytest.raises(
            StageError, match="3 of 3 comparisons are missing, judge.max_missing_share = 0.5.*no JSON"
        ),
    ):
        judge(server.url).compare([(PROMPT, "a", "b")] * 3)


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, {"choices": []}), (200, {"choices": [{"message": {"content": None}}]})]
)
def test_what_is_no_chat_completion_is_no_score(answer: Any) -> None:
    with (
        serving(lambda body, number: answer) as server,
        pytest.raises(StageError, match="1 of 1 comparisons"),
    ):
        judge(server.url).compare([(PROMPT, "a", "b")])


def test_a_cut_answer_is_unreadable() -> None:
    message = {"role": "assistant", "content": write_judgement((3, 3), 3)}
    cut = (200, {"choices": [{"message": message, "finish_reason": "length"}]})
    with (
        serving(lambda body, number: cut) as server,
        pytest.raises(StageError, match="max_completion_tokens = 1024"),
    ):
        judge(server.url).compare([(PROMPT, "a", "b")])


def test_errors_that_pass_are_ridden_out() -> None:
    def busy(body: dict[str, Any], number: int) -> Any:
        return (503, {"error": {"message": "busy"}}) if number <= 2 else longer(body)

    with serving(busy) as server:
        found = judge(server.url, concurrency=1).compare([(PROMPT, "a", "bbb")])
    assert found.missing == 0
    assert len(server.asked) == 4, "the client itself tried again"


def test_a_slow_judge_is_timed_out_and_told() -> None:
    def asleep(body: dict[str, Any], number: int) -> str:
        time.sleep(1.0)
        return longer(body)

    began = time.monotonic()
    with (
        serving(asleep) as server,
        pytest.raises(StageError, match="1 of 1 comparisons are missing.*timed out"),
    ):
        judge(server.url, timeout_seconds=0.1, max_retries=0).compare([(PROMPT, "a", "b")])
    assert time.monotonic() - began < 10


def test_a_judge_that_is_gone_stops_the_run() -> None:
    with serving(longer) as server:
        asked = judge(server.url, max_retries=0)
        asked.prepare()
    with pytest.raises(StageError, match="stopped answering .*Start it, then run the same command to go on"):
        asked.compare([(PROMPT, "a", "b")] * 50)


def test_a_refused_key_stops_at_once_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret-7")
    refuse = (401, {"error": {"message": "wrong key secret-7"}})
    with serving(lambda body, number: refuse) as server:
        asked = judge(server.url, api_key_env="JUDGE_KEY", concurrency=1)
        with pytest.raises(StageError, match=r"401: wrong key \*\*\*") as caught:
            asked.compare([(PROMPT, "a", "b")] * 9)
        assert "secret-7" not in str(caught.value)
        assert server.keys == {"Bearer secret-7"}
        assert len(server.asked) == 1
    with pytest.raises(InputError, match="'NO_SUCH_KEY': there is no such environment variable"):
        judge("http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")


def test_before_a_run_the_judge_is_asked_once() -> None:
    with serving(lambda body, number: (400, {"error": {"message": "no response_format"}})) as server:
        with pytest.raises(InputError, match=r"no response_format\).*judge.structured=none"):
            judge(server.url).prepare()
        plain = judge(server.url, structured="none")
        with pytest.raises(InputError):
            plain.prepare()
        assert "response_format" not in server.asked[-1]
    with pytest.raises(InputError, match="a first request failed"):
        judge(server.url, max_retries=0).prepare()


@pytest.mark.parametrize("url", ["ftp://x", "http://me:secret@host/v1", "host/v1"])
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="http:// or https:// and a host, without user and password"):
        JudgeConfig(base_url=url, model="m")
