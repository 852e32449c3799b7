"""`alloy chat` through a pipe, with the model in the process and behind the server; and its commands."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from counting import COUNT, LINES, WEATHER

from alloy.serve.asking import Asked, Reply, Show
from alloy.serve.splitting import Parts
from alloy.terminal.conversation import Conversation, open_workplace
from alloy.terminal.remote import to_openai
from alloy.terminal.screen import Screen


def piped(*arguments: str, say: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alloy", "chat", *arguments, "--temperature", "0", "--grace", "6"],
        input=say, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "ALLOY_API_KEY": "sesame"},
    )  # fmt: skip


def test_a_model_in_the_process(taught_folder: Path) -> None:
    done = piped(
        str(taught_folder), say="Count.\n/no_think\n\n/clear\nCount.\n/think\n/budget 14\n/clear\nCount.\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n" * 3, "answers alone"
    for line in LINES:
        assert line in done.stderr
    assert "thinking is off" in done.stderr
    assert done.stderr.count(LINES[0]) == 2, "once whole, once under the budget"
    assert done.stderr.count(LINES[-1]) == 1
    assert "thinking: 14 tokens at most" in done.stderr


def test_a_model_behind_the_server(server: str) -> None:
    done = piped(
        "--url", server, say="Count.\n/no_think\n/clear\nCount.\n/think\n/budget 14\n/clear\nCount.\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n" * 3
    assert done.stderr.count(LINES[0]) == 2
    assert done.stderr.count(LINES[-1]) == 1


def test_a_wrong_key_is_told(server: str) -> None:
    done = piped("--url", server, "--api-key", "wrong", say="Count.\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the key is refused" in done.stderr


def test_in_a_terminal_thinking_is_dim_and_everything_is_shown_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    screen = Screen()
    assert screen.watched
    with screen.turn() as took:
        screen.show(Parts("hm"))
        screen.show(Parts("", "[b]yes[/b]"))
        took([Reply({}, 5, 2, False)])
    out, error = capsys.readouterr()
    assert error == ""
    dim, _, rest = out.partition("\n")
    assert dim == "\x1b[2mhm\x1b[0m"
    assert rest.startswith("[b]yes[/b]\n"), "what a model writes is no markup"
    assert "5 tokens, 2 of thinking" in rest
    assert "cut off at the limit" in rest


class Scripted:
    """Writes what it was told to, and keeps what it was asked."""

    def __init__(self, *messages: dict[str, Any], finished: bool = True) -> None:
        self.left, self.finished = list(messages), finished
        self.asked: list[Asked] = []

    def write(self, asked: Asked, show: Show) -> Reply:
        self.asked.append(Asked(list(asked.messages), list(asked.tools), asked.thinking, asked.budget))
        message = {"role": "assistant", "content": "", **self.left.pop(0)}
        show(Parts(message.get("thinking", ""), message["content"]))
        return Reply(message, 3, 1, self.finished)


def conversation(writer: Scripted) -> Conversation:
    return Conversation(writer, Asked(()), open_workplace)


def test_commands_change_the_next_turn_and_tell_so() -> None:
    writer = Scripted({"content": "a"}, {"content": "b"}, {"content": "c"})
    made = conversation(writer)
    assert made.command("/budget 64") == "thinking: 64 tokens at most"
    assert made.command("/system Be short.") == "told before the conversation"
    made.say("x", lambda _: None, lambda _: None)
    assert made.command("/no_think") == "thinking is off"
    assert made.command("/budget none") == "thinking has no limit"
    made.say("y", lambda _: None, lambda _: None)
    assert made.command("/clear") == "forgotten"
    assert made.command("/think") == "thinking is on"
    assert made.command("/budget 0") == "thinking is off"
    made.say("z", lambda _: None, lambda _: None)
    system = {"role": "system", "content": "Be short."}
    assert [(one.thinking, one.budget) for one in writer.asked] == [(True, 64), (False, None), (True, 0)]
    assert [turn["content"] for turn in writer.asked[1].messages] == ["Be short.", "x", "a", "y"]
    assert writer.asked[2].messages == [system, {"role": "user", "content": "z"}]


def test_what_is_no_command_is_said_to_the_model() -> None:
    made = conversation(Scripted())
    assert made.command("/thinking about it") is None
    assert made.command("/think twice") is None
    assert made.command("/etc/passwd") is None
    assert made.command("/budget many") == "/budget many: a number of tokens is wanted, or none"
    assert "/no_think" in (made.command("/help") or "")


def test_tools_of_a_company_are_called_and_answered() -> None:
    writer = Scripted(
        {"tool_calls": [{"name": "no_such_tool", "arguments": {"a": 1}}], "thinking": "hm"},
        {"content": "There."},
    )
    made = conversation(writer)
    told = made.command("/tools") or ""
    assert "such as: " in told
    names = [tool["name"] for tool in made.tools]
    assert len(names) > 10
    lines: list[str] = []
    replies = made.say("x", lambda _: None, lines.append)
    assert len(replies) == 2
    assert lines == ["no_such_tool(a=1) -> error: there is no tool 'no_such_tool'"]
    assert [turn["role"] for turn in made.messages] == ["user", "assistant", "tool", "assistant"]
    assert [tool["name"] for tool in writer.asked[1].tools] == names
    assert made.command("/tools") == "no tools"
    assert made.world is None


def test_a_model_that_calls_without_end_is_stopped_and_a_cut_call_is_not_made() -> None:
    call = {"tool_calls": [{"name": "no_such_tool", "arguments": {}}]}
    made = conversation(Scripted(*[call] * 20))
    made.command("/tools")
    assert len(made.say("x", lambda _: None, lambda _: None)) == 8
    cut = conversation(Scripted(call, finished=False))
    cut.command("/tools")
    assert len(cut.say("x", lambda _: None, lambda _: None)) == 1


def test_a_turn_that_nobody_answered_is_not_kept() -> None:
    made = conversation(Scripted())
    with pytest.raises(IndexError):
        made.say("x", lambda _: None, lambda _: None)
    assert made.messages == []


def test_turns_as_openai_has_them() -> None:
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    turns = [
        *COUNT,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call, call]},
        {"role": "tool", "content": "a"},
        {"role": "tool", "content": "b"},
    ]
    found = to_openai(turns)
    first, second = found[1]["tool_calls"]
    assert first["function"] == {"name": WEATHER["name"], "arguments": '{"city": "Rome"}'}
    assert found[1]["reasoning_content"] == "hm"
    assert [turn["tool_call_id"] for turn in found[2:]] == [first["id"], second["id"]]
    assert first["id"] != second["id"]
