"""The whole command over real HTTP and the real client, against a server that is scripted by role."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from command_line import alloy
from scripted_endpoint import (
    Body,
    Scripted,
    assist,
    booking,
    call,
    is_first_request,
    native,
    role_of,
    scenario,
    serve_calls,
    serving,
)

from alloy.command import main
from alloy.config import load, parse
from alloy.data.config import DataConfig, SourceConfig
from alloy.data.prepare import prepare
from alloy.environments.workplace import WorkplaceEnvironment, WorkplaceWorld
from alloy.errors import InputError
from alloy.simulate.command import run
from alloy.simulate.config import SimulateConfig
from alloy.simulate.folder import Folder
from alloy.simulate.rules import RULES
from alloy.simulate.tools import Offer

Write = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def simulate(config: Path, *arguments: str) -> int:
    return main(run, [str(config), *arguments])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def write_scenarios(folder: Path, *names: str, **more: Any) -> str:
    path = folder / "scenarios.jsonl"
    path.write_text("".join(json.dumps(scenario(name) | more) + "\n" for name in names))
    return str(path)


def test_successes_are_rows_that_sft_prepares(
    scripted: Scripted, write_config: Write, tmp_path: Path, tiny_tokenizer: Any, capsys: Any
) -> None:
    assert simulate(write_config()) == 0
    out = tmp_path / "out"
    kept = lines(out / "conversations.jsonl")
    assert [row["id"] for row in kept] == [f"simulated-0-{number}" for number in range(6)]
    assert lines(out / "rejected.jsonl") == []
    first = kept[0]
    name = first["scenario"]["goal_calls"][0]["arguments"]["name"]
    wanted = first["scenario"]["goal_calls"][0]["arguments"]
    assert [turn["role"] for turn in first["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant", "tool", "assistant")
    ]
    assert first["messages"][4] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": "book_table", "arguments": wanted}],
    }
    assert first["messages"][3] == {"role": "tool", "content": '{"free":[{"id":"T-1","seats":6}]}'}
    assert name in first["messages"][6]["content"]
    assert [tool["name"] for tool in first["tools"]] == ["find_tables", "book_table", "cancel_booking"]
    assert "read_only" not in first["tools"][0]
    # 1 scenario, 2 turns of the user, 3 of the assistant, 2 answers of the server; 10 and 3 tokens each.
    assert summary_of(out) == {
        "conversations": 6,
        "kept": 6,
        "rejected": 0,
        "by_rule": {},
        "requests": 48,
        "tokens": {
            "assistant": {"prompt": 180, "completion": 54},
            "scenario": {"prompt": 60, "completion": 18},
            "server": {"prompt": 120, "completion": 36},
            "user": {"prompt": 120, "completion": 36},
        },
    }
    assert scripted.most_at_once <= 3
    assert scripted.keys == {"Bearer none"}
    told = capsys.readouterr().out
    assert "6 of 6 conversations kept" in told
    assert "48 requests, 480 tokens read, 144 written" in told
    prepared = prepare(
        DataConfig(sources=[SourceConfig(path=out / "conversations.jsonl")], packing="none"),
        tiny_tokenizer,
        4096,
        0,
        tmp_path / "cache",
    )
    assert (prepared.counts["rows"], prepared.counts["rejected"]) == (6, 0)


def test_the_same_seed_gives_the_same_files_whatever_goes_on_at_once(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    texts = []
    for name, changes in (("a", {}), ("b", {"concurrency": 1}), ("c", {"seed": 1})):
        scripted.delay_seconds = 0.01 if name == "a" else 0.0
        assert simulate(write_config(output=str(tmp_path / name), **changes)) == 0
        texts.append((tmp_path / name / "conversations.jsonl").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    seeds = [body["seed"] for body in scripted.asked if not is_first_request(body)]
    assert len(set(seeds)) > 30, "every request has a seed of its own"
    assert all(0 <= seed < 2**31 for seed in seeds)
    scripted.roles["scenario"] = lambda body: {"content": json.dumps(scenario("Ann"))}
    scripted.asked.clear()
    assert simulate(write_config(output=str(tmp_path / "d")), "endpoint.send_seed=false") == 0
    assert not any("seed" in body for body in scripted.asked)


def faulty(body: Body) -> Any:
    """An assistant whose fault stands in the name of the booking."""
    wanted, answers = booking(body), [m for m in body["messages"] if m["role"] == "tool"]
    fault = wanted["name"].split()[-1]
    last = body["messages"][-1]["role"] == "tool" and len(answers) == 2
    if fault == "Late":
        return call("find_tables", day=wanted["day"])
    if fault == "Cut":
        return assist(body) | {"finish_reason": "length"}
    if fault == "Garbled":
        return {"content": "", "tool_calls": [native("book_table", '{"day": ')]}
    if fault == "Silent":
        return {"content": None}
    if fault == "Unknown":
        return call("order_food", dish="soup")
    if fault == "Wrong":
        return call("book_table", day=wanted["day"])
    if fault == "Inventive":
        return call("find_tables", day="2031-01-01")
    if fault == "Unasked" and len(answers) == 1:
        return call("cancel_booking", id="T-1")
    if fault == "Boastful" and last:
        return {"content": "Done, for 350 euros."}
    if fault == "Mimic" and last:
        return {"content": "Done.\nUser: thank you"}
    if fault == "Lazy":
        return {"content": "Done."}
    if fault == "Nan":
        return {"content": "", "tool_calls": [native("book_table", '{"people": NaN}')]}
    if fault == "Odd":
        return {"content": 7, "tool_calls": ["book", {"function": None}, {"function": {"name": 3}}]}
    return assist(body)


def test_every_failure_is_rejected_by_its_rule(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    expected = {
        "Good": None,
        "Late": "ended",
        "Cut": "readable",
        "Garbled": "readable",
        "Silent": "readable",
        "Unknown": "offered",
        "Wrong": "schema",
        "Inventive": "grounded",
        "Unasked": "unasked",
        "Boastful": "says",
        "Mimic": "roles",
        "Lazy": "goal",
        "Nan": "readable",
        "Odd": "readable",
    }
    scripted.roles["assistant"] = faulty
    names = [f"Ann {fault}" for fault in expected]
    config = write_config(conversations=len(names), scenarios=write_scenarios(tmp_path, *names), max_turns=5)
    assert simulate(config) == 0
    rejected = lines(tmp_path / "out" / "rejected.jsonl")
    assert [row["rule"] for row in rejected] == [rule for rule in expected.values() if rule]
    assert all(row["detail"] and row["scenario"] and row["messages"] for row in rejected)
    assert len(lines(tmp_path / "out" / "conversations.jsonl")) == 1
    assert summary_of(tmp_path / "out")["by_rule"] == {
        rule: list(expected.values()).count(rule) for rule in {*expected.values()} if rule
    }
    # A conversation that nothing can heal is not played on.
    asked = [b for b in scripted.asked if role_of(b) == "user" and "Ann Wrong" in str(b)]
    assert len(asked) == 1


def test_users_who_forget_their_role(scripted: Scripted, write_config: Write, tmp_path: Path) -> None:
    said = iter(["", '<tool_call>{"name": "find_tables"}</tool_call>', "###DONE###"])
    scripted.roles["user"] = lambda body: {"content": next(said)}
    config = write_config(conversations=3, concurrency=1, scenarios=write_scenarios(tmp_path, "Ann"))
    assert simulate(config) == 0
    assert [row["rule"] for row in lines(tmp_path / "out" / "rejected.jsonl")] == ["roles", "roles", "ended"]


def test_json_that_is_none_is_asked_for_again_and_then_given_up(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    tries: dict[str, int] = {}

    def serve(body: Body) -> Any:
        asked = next(m["content"] for m in reversed(body["messages"]) if m["content"].startswith('{"name"'))
        tries[asked] = tries.get(asked, 0) + 1
        if "book_table" in asked and ("Never" in asked or tries[asked] < 3):
            return {"content": "I booked it {for you"}
        return serve_calls({"messages": [{"content": asked}]})

    scripted.roles["server"] = serve
    config = write_config(
        conversations=2, concurrency=1, scenarios=write_scenarios(tmp_path, "Ann Third", "Ann Never")
    )
    assert simulate(config) == 0
    (kept,) = lines(tmp_path / "out" / "conversations.jsonl")
    assert "I booked it" not in json.dumps(kept), "a bad answer is not in the row"
    (lost,) = lines(tmp_path / "out" / "rejected.jsonl")
    assert lost["rule"] == "server"
    assert lost["detail"].startswith("book_table: no answer was JSON: ")
    again = [b["messages"] for b in scripted.asked if role_of(b) == "server" and "That is no JSON" in str(b)]
    assert [m[-2]["content"] for m in again] == ["I booked it {for you"] * 4


def test_a_scenario_that_cannot_be_played_is_written_again_and_then_given_up(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    bad = scenario("Ann Lee") | {"goal_calls": [{"name": "cancel_booking", "arguments": {"id": "B-1"}}]}
    written = iter(["no", json.dumps(bad), json.dumps(scenario("Ann Lee")), *["[]"] * 3])
    scripted.roles["scenario"] = lambda body: {"content": next(written)}
    assert simulate(write_config(conversations=2, concurrency=1)) == 0
    assert len(lines(tmp_path / "out" / "conversations.jsonl")) == 1
    (lost,) = lines(tmp_path / "out" / "rejected.jsonl")
    assert (lost["rule"], lost["detail"]) == ("scenario", "it is a list, one object is needed")
    told = [b["messages"][-1]["content"] for b in scripted.asked if role_of(b) == "scenario"]
    assert "id = 'B-1' stands neither in the goal nor in the world" in told[2]


def test_the_same_question_has_the_same_answer(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    def twice(body: Body) -> Any:
        answers = [m["content"] for m in body["messages"] if m["role"] == "tool"]
        if len(answers) < 2:
            return call("find_tables", day=booking(body)["day"])
        if len(answers) == 2:
            assert answers[0] == answers[1]
            return call("book_table", **booking(body))
        if len(answers) == 3:
            return call("find_tables", day=booking(body)["day"])
        return {"content": "Done."}

    scripted.roles["assistant"] = twice
    assert simulate(write_config(conversations=1, scenarios=write_scenarios(tmp_path, "Ann"))) == 0
    assert summary_of(tmp_path / "out")["kept"] == 1
    # Asked once before the booking, and once after it: the booking may have changed the answer.
    assert scripted.counts()["server"] == 3


def test_calls_in_words_for_an_endpoint_without_tools(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    def words(body: Body) -> Any:
        assert "tools" not in body
        assert '"name":"book_table"' in body["messages"][0]["content"]
        heard = [m["content"] for m in body["messages"] if "<tool_response>" in m["content"]][1:]
        if not heard:
            made = {"name": "book_table", "arguments": booking(body)}
            return {"content": f"<think>\nI book.\n</think>\n<tool_call>{json.dumps(made)}</tool_call>"}
        return {"content": "Done."}

    scripted.roles["assistant"] = words
    assert simulate(write_config(conversations=1, calls="prompted")) == 0
    (row,) = lines(tmp_path / "out" / "conversations.jsonl")
    assert row["messages"][2]["tool_calls"][0]["name"] == "book_table"
    assert row["messages"][2]["thinking"] == "I book."
    assert "<tool_call>" not in json.dumps(row)
    # Without thinking the files are written anew, and nothing is asked.
    asked = len(scripted.asked)
    assert simulate(tmp_path / "simulate.yaml", "thinking=false") == 0
    assert "thinking" not in (tmp_path / "out" / "conversations.jsonl").read_text()
    assert len(scripted.asked) == asked


def test_near_duplicates_are_dropped_and_counted(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    config = write_config(
        conversations=5, scenarios=write_scenarios(tmp_path, "Ann Lee", "Bob"), duplicate_similarity=0.9
    )
    assert simulate(config) == 0
    assert [row["id"] for row in lines(tmp_path / "out" / "conversations.jsonl")] == [
        "simulated-0-0",
        "simulated-0-1",
    ]
    rejected = lines(tmp_path / "out" / "rejected.jsonl")
    assert [(row["rule"], row["detail"]) for row in rejected] == [
        ("duplicate", "1.00 like simulated-0-0"),
        ("duplicate", "1.00 like simulated-0-1"),
        ("duplicate", "1.00 like simulated-0-0"),
    ]
    assert summary_of(tmp_path / "out")["by_rule"] == {"duplicate": 3}


def test_a_run_is_patient_with_429_5xx_and_timeouts(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    seen: set[str] = set()

    def trouble(body: Body) -> Any:
        key = json.dumps(body)
        if key in seen:
            return None
        seen.add(key)
        if role_of(body) == "server":
            time.sleep(0.8)  # longer than the client waits
        return ((429, {"error": {"message": "slow down"}}), (503, b"busy"), None)[len(seen) % 3]

    scripted.before = trouble
    assert simulate(write_config(conversations=4), "endpoint.timeout_seconds=0.5") == 0
    assert summary_of(tmp_path / "out")["kept"] == 4
    # One request in three came once, the others a second time; a server's answer that is late, too.
    assert len(scripted.asked) > 1.6 * summary_of(tmp_path / "out")["requests"]


def test_a_refused_request_costs_one_conversation(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    def refuse(body: Body) -> Any:
        if role_of(body) == "assistant" and "Ann Long" in str(body):
            return 400, {"error": {"message": "the context is too long"}}
        if role_of(body) == "assistant" and "Ann Broken" in str(body):
            return 200, b"<html>"
        if role_of(body) == "assistant" and "Ann Empty" in str(body):
            return 200, {"choices": []}
        return None

    scripted.before = refuse
    names = ("Ann Long", "Ann Broken", "Ann Empty", "Ann Good")
    assert simulate(write_config(conversations=4, scenarios=write_scenarios(tmp_path, *names))) == 0
    rejected = lines(tmp_path / "out" / "rejected.jsonl")
    assert [row["rule"] for row in rejected] == ["request"] * 3
    assert rejected[0]["detail"] == "400: the context is too long"
    assert "no chat completion" in rejected[2]["detail"]


def test_an_endpoint_that_is_gone_ends_the_run_which_goes_on_later(
    scripted: Scripted, write_config: Write, tmp_path: Path, capsys: Any
) -> None:
    config = write_config(conversations=8, concurrency=2)
    assert simulate(config) == 0
    whole = (tmp_path / "out" / "conversations.jsonl").read_text()
    scripted.before = lambda body: (
        (401, {"error": {"message": "no more"}}) if len(scripted.asked) > 30 else None
    )
    scripted.asked.clear()
    assert simulate(config, f"output={tmp_path}/again") == 1
    assert "failed: " in (told := capsys.readouterr().err)
    assert "401: no more. Run the same command to go on." in told
    done = lines(tmp_path / "again" / "progress.jsonl")
    assert 0 < len(done) < 8
    assert not (tmp_path / "again" / "summary.json").exists()
    scripted.before = lambda body: None
    scripted.asked.clear()
    assert simulate(config, f"output={tmp_path}/again") == 0
    assert scripted.counts()["scenario"] == 8 - len(done), "what was finished is not asked for again"
    assert (tmp_path / "again" / "conversations.jsonl").read_text() == whole


def test_a_killed_run_goes_on_where_it_was(scripted: Scripted, write_config: Write, tmp_path: Path) -> None:
    config = write_config(conversations=12, concurrency=3)
    assert simulate(config, f"output={tmp_path}/whole") == 0
    whole = (tmp_path / "whole" / "conversations.jsonl").read_text()
    scripted.delay_seconds = 0.05
    progress = tmp_path / "out" / "progress.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "alloy", "simulate", str(config)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        began = time.monotonic()
        while not (progress.exists() and progress.read_bytes().count(b"\n") >= 3):
            assert process.poll() is None
            assert time.monotonic() - began < 300
            time.sleep(0.01)
        # A second run beside it is refused, and changes nothing.
        assert simulate(config) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = progress.read_bytes()
    finished = [json.loads(line)["number"] for line in done.splitlines() if line.endswith(b"}")]
    assert 3 <= len(finished) < 12
    # Killed in the middle of a line.
    progress.write_bytes(done + b'{"number": 11, "id"')
    scripted.delay_seconds = 0.0
    scripted.asked.clear()
    assert simulate(config) == 0
    assert scripted.counts()["scenario"] == 12 - len(finished)
    numbers = [record["number"] for record in lines(progress)]
    assert sorted(numbers) == list(range(12))
    assert (tmp_path / "out" / "conversations.jsonl").read_text() == whole
    scripted.asked.clear()
    assert simulate(config) == 0
    assert scripted.asked == [], "nothing is left to do, and nobody is asked"
    assert simulate(config, "conversations=14") == 0
    assert scripted.counts()["scenario"] == 2
    assert (tmp_path / "out" / "conversations.jsonl").read_text().startswith(whole)


def test_other_inputs_need_another_folder(
    scripted: Scripted, write_config: Write, tmp_path: Path, capsys: Any
) -> None:
    config = write_config(conversations=1)
    assert simulate(config) == 0
    assert simulate(config, "seed=1") == 2
    assert (
        "it was begun with other inputs. Changed: config.seed: 0 -> 1. Name another"
        in capsys.readouterr().err
    )
    (tmp_path / "tools.json").write_text((tmp_path / "tools.json").read_text() + "\n")
    assert simulate(config) == 2
    assert "Changed: files.tools: " in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("x")
    assert simulate(config, f"output={tmp_path}/full") == 2
    assert "there are other files in it" in capsys.readouterr().err
    assert simulate(config, f"output={tmp_path}/tools.json") == 2
    assert "it is no folder" in capsys.readouterr().err


def test_the_world_of_an_environment_answers_and_its_judge_decides(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    """The assistant plays the workplace's own solutions; in every third task it leaves out the last change."""
    tasks = WorkplaceEnvironment().tasks("train", 9, 0)
    by_goal = {task.messages[-1]["content"]: (number, task) for number, task in enumerate(tasks)}

    def solve(body: Body) -> Any:
        asked = next(m["content"] for m in body["messages"] if m["role"] == "user")
        number, task = by_goal[asked]
        turns = [turn for turn in task.demonstration if turn["role"] == "assistant"]
        turn = turns[sum(m["role"] == "assistant" for m in body["messages"])]
        if turn.get("tool_calls") and number % 3 == 0 and turns.index(turn) == len(turns) - 2:
            return {"content": turns[-1]["content"]}
        made = [native(c["name"], json.dumps(c["arguments"])) for c in turn.get("tool_calls", [])]
        return {"content": turn["content"], "tool_calls": made}

    def user(body: Body) -> Any:
        told = body["messages"][0]["content"].split("What you want: ")[1].split("\n\nWrite one message")[0]
        return {"content": told} if len(body["messages"]) == 2 else {"content": "###DONE###"}

    scripted.roles |= {"assistant": solve, "user": user}
    config = write_config(conversations=9, tools=None, environment="workplace")
    assert simulate(config) == 0
    kept, lost = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("conversations", "rejected"))
    changing = [n for n, task in enumerate(tasks) if n % 3 == 0 and task.gold["calls"]]
    assert [row["id"] for row in lost] == [f"simulated-0-{n}" for n in changing]
    assert {row["rule"] for row in lost} == {"judge"}
    assert all(row["detail"].startswith("not done: ") for row in lost)
    assert len(kept) == 9 - len(changing) > 3
    assert scripted.counts().keys() == {"user", "assistant"}
    assert kept[0]["messages"][0]["content"] == "Use the tools. Change only what is asked for."


def test_a_fault_of_ours_costs_one_conversation_and_is_counted_apart(
    scripted: Scripted, write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(world: WorkplaceWorld, name: str, arguments: dict[str, Any]) -> str:
        raise KeyError("no such table")

    monkeypatch.setattr(WorkplaceWorld, "call", serve)
    # A call that the world is asked for, whatever the tool.
    monkeypatch.setattr(Offer, "complaint", lambda *_: None)
    scripted.roles["user"] = lambda body: {"content": "Hello."}
    scripted.roles["assistant"] = lambda body: (
        {"content": "Done."} if body["seed"] % 2 else call(body["tools"][0]["function"]["name"])
    )
    config = write_config(conversations=6, tools=None, environment="workplace", max_turns=1)
    assert simulate(config) == 0
    rejected = lines(tmp_path / "out" / "rejected.jsonl")
    assert {(row["rule"], row["detail"]) for row in rejected} == {
        ("error", "KeyError: 'no such table'"),
        ("ended", "the limit of turns was reached"),
    }


def test_a_turn_of_the_user_that_was_cut_is_not_played_on(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    speak = scripted.roles["user"]
    scripted.roles["user"] = lambda body: {"finish_reason": "length"} | dict(speak(body))
    assert simulate(write_config(conversations=2)) == 0
    assert summary_of(tmp_path / "out")["by_rule"] == {"readable": 2}
    assert "assistant" not in scripted.counts()


def test_a_folder_that_another_run_began_in_the_meantime(write_config: Write, tmp_path: Path) -> None:
    path = write_config()

    def folder(*overrides: str) -> Folder:
        return Folder(load(SimulateConfig, path, overrides), {})

    first, second, other = folder(), folder("concurrency=5"), folder("seed=1")
    with first.begin():
        begun = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
        with pytest.raises(InputError, match="another run writes into it"):
            second.begin()
    with pytest.raises(InputError, match="config.seed: 0 -> 1"):
        other.begin()
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == begun
    # Killed before the first word was written: nothing was begun.
    (tmp_path / "out" / "inputs.json").unlink()
    (tmp_path / "out" / "config.yaml").unlink()
    with folder("seed=1").begin():
        assert '"seed": 1' in (tmp_path / "out" / "inputs.json").read_text()


def test_the_dialect_of_an_endpoint_is_found_out(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    def strict(body: Body) -> Any:
        for key, remedy in (("max_tokens", "use max_completion_tokens"), ("seed", "unknown field seed")):
            if key in body:
                return 400, {"error": {"message": f"{key}: {remedy}"}}
        return None

    scripted.before = strict
    written = scenario("Ann Lee")
    scripted.roles["scenario"] = lambda body: {"content": json.dumps(written)}
    config = write_config(conversations=1, roles={"user": {"extra_body": {"top_k": 20}}})
    assert simulate(config) == 0
    assert summary_of(tmp_path / "out")["kept"] == 1
    asked = [body for body in scripted.asked if not is_first_request(body)]
    assert all("seed" not in body and body["max_completion_tokens"] > 0 for body in asked)
    assert {role_of(body) for body in asked if "top_k" in body} == {"user"}


def test_a_role_may_have_an_endpoint_of_its_own(
    scripted: Scripted, write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "a-secret")
    with serving(Scripted(model="large")) as other:
        endpoint = {"base_url": other.url, "model": "large", "api_key_env": "OTHER_KEY", "json_mode": True}
        roles = {"server": {"endpoint": endpoint}}
        assert simulate(write_config(conversations=1, roles=roles)) == 0
        assert other.counts().keys() == {"server"}
        assert other.keys == {"Bearer a-secret"}
        asked = [body for body in other.asked if not is_first_request(body)]
        assert all(body["response_format"] == {"type": "json_object"} for body in asked)
    assert scripted.counts().keys() == {"scenario", "user", "assistant"}
    for file in (tmp_path / "out").iterdir():
        assert "a-secret" not in file.read_text()


def test_an_endpoint_that_cannot_be_used_is_told_before_anything_is_written(
    scripted: Scripted, write_config: Write, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*overrides: str) -> str:
        assert simulate(write_config(), *overrides) == 2
        assert not (tmp_path / "out").exists()
        return str(capsys.readouterr().err)

    free = "http://127.0.0.1:9/v1"
    assert f"endpoint.base_url = {free}: nothing answers there" in told(f"endpoint.base_url={free}")
    assert "Start the server, or correct the address." in told(f"endpoint.base_url={free}")
    assert "endpoint.model = 'larger': " in (found := told("endpoint.model=larger"))
    assert "does not serve it. It serves scripted. Name one of these." in found
    assert "endpoint.api_key_env = 'NO_SUCH_KEY': there is no such" in told(
        "endpoint.api_key_env=NO_SUCH_KEY"
    )
    found = told("endpoint.api_key_env=hf_Abc123")
    assert "endpoint.api_key_env = (not shown: it may be a key): there is no such" in found
    assert "hf_Abc" not in found
    monkeypatch.setenv("SOME_KEY", "a-secret")
    scripted.before = lambda body: (401, {"error": {"message": "wrong key a-secret"}})
    found = told("endpoint.api_key_env=SOME_KEY")
    assert "the key is refused (401: wrong key ***)" in found
    scripted.before = lambda body: (
        (400, {"error": {"message": "no tool parser"}}) if "tools" in body else None
    )
    assert "it takes no tools (400: no tool parser). Set calls: prompted" in told()
    scripted.before = lambda body: (500, b"broken")
    assert "a first request failed" in told()
    scripted.before = lambda body: (200, b"<html>")
    assert "a first request failed" in told()


def test_an_endpoint_that_answers_nothing_any_more_ends_the_run(
    scripted: Scripted, write_config: Write, capsys: Any
) -> None:
    scripted.before = lambda body: (
        None if is_first_request(body) else (400, {"error": {"message": "out of order"}})
    )
    assert simulate(write_config(conversations=40)) == 1
    assert (
        "17 requests in a row were not answered, the last with: 400: out of order" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("conversations=0", "simulate.yaml:2: conversations = 0: input should be greater than 0."),
        ("endpoint.api_key=sk-12", "unknown key 'endpoint.api_key'. Did you mean 'api_key_env'?"),
        ("endpoint.api_key_env=sk-12", "endpoint.api_key_env: it is the name of an environment variable"),
        ("endpoint.base_url=https://me:pw@host/v1", "endpoint.base_url: no user and password in the address"),
        ("endpoint.base_url=localhost:8000", "endpoint.base_url: it begins with http:// or https://"),
        ("environment=workplace", "give either `tools` (a file) or `environment`"),
        ("options={a: 1}", "options are the environment's"),
        ("free_text=[mail]", "free_text: 'mail' is not written tool.parameter"),
        ("free_text=[book_table.menu]", "'book_table' of {folder}/tools.json has no parameter 'menu'"),
        (
            "read_only=[look]",
            "read_only: 'look' is no tool of {folder}/tools.json. Known: find_tables, book_table",
        ),
        ("tools_offered=9", "tools_offered = 9: {folder}/tools.json has 3 tools. Lower it."),
        ("tools={folder}/none.json", "{folder}/none.json: there is no such file. Set `tools`"),
        ("tools={folder}/bad.json", "{folder}/bad.json: [1]: a tool 'a' stands there before"),
        ("scenarios={folder}/none.jsonl", "{folder}/none.jsonl: there is no such file"),
        ("scenarios={folder}/bad.jsonl", "{folder}/bad.jsonl:2: no scenario: goal is needed"),
        (
            "scenarios={folder}/late.jsonl",
            "{folder}/late.jsonl:1: goal_calls[0]: people = 9 stands neither in",
        ),
    ],
)
def test_a_wrong_config_ends_with_2_and_says_where(
    scripted: Scripted, write_config: Write, tmp_path: Path, capsys: Any, override: str, message: str
) -> None:
    (tmp_path / "bad.json").write_text('[{"name": "a"}, {"type": "function", "function": {"name": "a"}}]')
    (tmp_path / "bad.jsonl").write_text(json.dumps(scenario("Ann")) + '\n{"persona": "p"}\n')
    late = scenario("Ann")
    late["goal_calls"][0]["arguments"]["people"] = 9
    (tmp_path / "late.jsonl").write_text(json.dumps(late))
    assert simulate(write_config(), "--dry-run", override.replace("{folder}", str(tmp_path))) == 2
    told = capsys.readouterr().err
    assert message.replace("{folder}", str(tmp_path)) in told
    assert "sk-12" not in told
    assert "me:pw" not in told
    assert scripted.asked == []


def test_the_guide_s_config_loads_and_its_table_has_every_rule() -> None:
    text = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
    block = text.split("\n\n    output:", 1)[1].split("\n\n", 1)[0]
    config = parse(SimulateConfig, yaml.safe_load(dedent("    output:" + block)), "docs/simulate.md")
    assert (config.tools_offered, config.roles.assistant.max_completion_tokens) == (6, 2048)
    table = text.split("| rule | |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    told = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split(" | ")[0])]
    assert told == [*RULES, "scenario", "server", "request", "duplicate", "error"]


def test_tools_of_many_are_drawn(scripted: Scripted, write_config: Write, tmp_path: Path) -> None:
    scripted.roles["scenario"] = lambda body: {"content": "none"}
    assert simulate(write_config(conversations=12, tools_offered=2, max_tries=1)) == 0
    offered = {tuple(t["name"] for t in row["tools"]) for row in lines(tmp_path / "out" / "rejected.jsonl")}
    assert offered == {
        ("find_tables", "book_table"),
        ("find_tables", "cancel_booking"),
        ("book_table", "cancel_booking"),
    }


def test_dry_run_and_json_from_the_command_line(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    config = str(write_config(conversations=2))
    shown = alloy("simulate", config, "--dry-run", "seed=5")
    assert "seed: 5" in shown.stdout
    assert "max_completion_tokens: 1024" in shown.stdout
    assert scripted.asked == []
    assert not (tmp_path / "out").exists()
    done = alloy("simulate", "--json", config)
    assert json.loads(done.stdout)["kept"] == 2
    assert "simulate" in alloy("--help").stdout


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, alloy.simulate.command, alloy.simulate.play, alloy.simulate.folder; "
        "print([m for m in ('torch', 'trl', 'transformers', 'datasets', 'vllm', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interrupted_run_says_how_to_go_on(
    scripted: Scripted, write_config: Write, tmp_path: Path
) -> None:
    scripted.delay_seconds = 0.05
    process = subprocess.Popen(
        [sys.executable, "-m", "alloy", "simulate", str(write_config(conversations=2000))],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background ignores the interrupt, and children would as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    progress = tmp_path / "out" / "progress.jsonl"
    killer = threading.Timer(300, process.kill)
    killer.start()
    while process.poll() is None and not (progress.exists() and progress.stat().st_size):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate()[1].startswith("stopped. Run the same command again to go on")
    killer.cancel()
    assert process.returncode == 1
