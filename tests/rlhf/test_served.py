"""A reward model over HTTP: the same scores as in process, and what happens when the server misbehaves."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

import alloy.judges.served as served
from alloy.errors import StageError
from alloy.judges.reward_model import RewardModel
from alloy.judges.served import RewardModelServer, ServedRewardModel

PROMPT = [{"role": "user", "content": "q"}]


class Words:
    """Scores by the number of words; none for what is long."""

    most = 7

    def score(self, prompts: Any, answers: Any) -> list[float | None]:
        if "boom" in answers:
            raise RuntimeError("out of memory")
        return [None if len(answer) > 20 else len(answer.split()) / 2 for answer in answers]


@pytest.fixture
def url() -> Iterator[str]:
    server = RewardModelServer(Words(), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_FIRST_WAIT_SECONDS", 0.001)


def test_scores_come_in_order_over_several_requests(url: str) -> None:
    scorer = ServedRewardModel(url + "/", rows_per_request=2)
    answers = ["a", "a b", "a b c", "long " * 9, ""]
    assert scorer.score([PROMPT] * 5, answers) == [0.5, 1.0, 1.5, None, 0.0]
    assert scorer.score([], []) == []
    with pytest.raises(ValueError, match="1 prompts but 2 answers"):
        scorer.score([PROMPT], ["a", "b"])
    assert requests.get(f"{url}/health", timeout=5).json() == {"status": "ok", "most_tokens": 7}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("{", 400, "no JSON"),
        ('{"prompts": [], "answers": ["a"]}', 400, "lists of one length"),
        ("[1]", 400, "lists of one length"),
        ('{"prompts": ["q"], "answers": ["a"]}', 400, "prompts[0] is no list of turns"),
        ('{"prompts": [[{"role": "user", "content": "q"}]], "answers": [3]}', 400, "answers[0] no text"),
        ('{"prompts": [[]], "answers": ["boom"]}', 500, "RuntimeError: out of memory"),
    ],
)
def test_a_wrong_request_is_told_and_the_server_goes_on(url: str, body: str, status: int, told: str) -> None:
    answer = requests.post(f"{url}/score", data=body, timeout=5)
    assert answer.status_code == status
    assert told in answer.json()["error"]
    assert requests.post(f"{url}/other", data="{}", timeout=5).status_code == 404
    assert ServedRewardModel(url).score([PROMPT], ["a"]) == [0.5]


def test_a_failing_model_ends_the_stage_with_its_reason(url: str) -> None:
    with pytest.raises(StageError, match=r"gives no scores \(500: .*out of memory.*Start it with"):
        ServedRewardModel(url, retries=1).score([PROMPT], ["boom"])


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[int]]]:
    """A server that gives these answers in turn, the last one for ever."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, data = answers[min(len(asked), len(answers) - 1)]
            asked.append(status)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_a_server_that_recovers_is_asked_again() -> None:
    with answering((503, b"busy"), (500, b"oh"), (200, b'{"scores": [2]}')) as (url, asked):
        assert ServedRewardModel(url, retries=2).score([PROMPT], ["a"]) == [2.0]
        assert asked == [503, 500, 200]


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b'{"scores": [1, 2]}',
        b'{"scores": ["1"]}',
        b'{"scores": [NaN]}',
        b'{"scores": [true]}',
        b"[]",
    ],
)
def test_nonsense_is_no_score(data: bytes) -> None:
    with (
        answering((200, data)) as (url, _),
        pytest.raises(StageError, match="was asked for 1 scores and answered"),
    ):
        ServedRewardModel(url).score([PROMPT], ["a"])


def test_a_refused_request_is_not_repeated_and_a_gone_server_is_told() -> None:
    with answering((413, b"too large")) as (url, asked):
        with pytest.raises(StageError, match="413: too large"):
            ServedRewardModel(url, retries=3).score([PROMPT], ["a"])
        assert asked == [413]
    with pytest.raises(StageError, match=f"the reward model at {url} gives no scores"):
        ServedRewardModel(url, retries=1).score([PROMPT], ["a"])


def test_the_command_serves_the_scores_of_the_model_in_process(tiny_reward_model: Path) -> None:
    command = [sys.executable, "-m", "alloy.judges", str(tiny_reward_model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().rsplit(" ", 1)[1].strip()
            answers = [f"Happy to help. {'Gifts are nice. ' * n}" for n in range(5)]
            here = RewardModel(tiny_reward_model).score([PROMPT] * 5, answers)
            there = ServedRewardModel(url, rows_per_request=3).score([PROMPT] * 5, answers)
            assert there == pytest.approx(here, abs=1e-5)
            assert len(set(here)) == 5
        finally:
            process.kill()


def test_the_wire_format_is_the_documented_one(url: str) -> None:
    body = json.dumps({"prompts": [PROMPT], "answers": ["a b"]})
    assert requests.post(f"{url}/score", data=body, timeout=5).json() == {"scores": [1.0]}
