"""A reward model over HTTP, on a machine or in a process of its own: the server, and the scorer that asks it.

python -m alloy.judges runs/RECIPE/reward-model --port 8100

POST /score   {"prompts": [[turn, ...], ...], "answers": [text, ...]}  ->  {"scores": [number or null, ...]}
GET  /health  {"status": "ok", "most_tokens": 512}
"""

import json
import math
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alloy.environments.task import Message
from alloy.errors import StageError
from alloy.judges.reward_model import RewardModel, Scorer

MOST_BYTES = 256 * 2**20
"""Of a request; a larger one is refused before it is read."""
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0


class RewardModelServer(ThreadingHTTPServer):
    """Serves a reward model; one request at a time reaches the model, the others wait.

    Args:
        host: of this machine alone by default: there is no key.
        port: 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: Scorer, host: str = "127.0.0.1", port: int = 8100) -> None:
        super().__init__((host, port), _Handler)
        self.model = model
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def answer(self, given: Any) -> tuple[int, dict[str, Any]]:
        """Status and body for what was posted."""
        prompts, answers = (given.get(key) if isinstance(given, dict) else None for key in _KEYS)
        if not isinstance(prompts, list) or not isinstance(answers, list) or len(prompts) != len(answers):
            return 400, {"error": "`prompts` and `answers` are lists of one length"}
        wrong = [i for i, (p, a) in enumerate(zip(prompts, answers, strict=True)) if not _readable(p, a)]
        if wrong:
            return 400, {
                "error": f"prompts[{wrong[0]}] is no list of turns with role and content, or answers[{wrong[0]}] no text"
            }
        try:
            with self.lock:
                return 200, {"scores": self.model.score(prompts, answers)}
        except Exception as error:  # told to whoever asked: the server goes on
            return 500, {"error": f"{type(error).__name__}: {error}"}


_KEYS = ("prompts", "answers")


def _readable(prompt: Any, answer: Any) -> bool:
    return (
        isinstance(answer, str)
        and isinstance(prompt, list)
        and all(isinstance(t, dict) and isinstance(t.get("role"), str) and "content" in t for t in prompt)
    )


class _Handler(BaseHTTPRequestHandler):
    server: RewardModelServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/health":
            return self._send(404, {"error": "there is /health, and POST /score"})
        return self._send(200, {"status": "ok", "most_tokens": getattr(self.server.model, "most", None)})

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.path != "/score" or size > MOST_BYTES:
            self.close_connection = True
            told = f"the request has {size} bytes, {MOST_BYTES} are the most"
            return self._send(
                *((413, {"error": told}) if size > MOST_BYTES else (404, {"error": "POST /score"}))
            )
        try:
            given = json.loads(self.rfile.read(size))
        except (ValueError, RecursionError) as error:
            return self._send(400, {"error": f"no JSON: {error}"})
        return self._send(*self.server.answer(given))

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # whoever asked has gone

    def log_message(self, *_: Any) -> None:
        """A line a request would bury what matters."""


class ServedRewardModel:
    """The scorer of a reward model that is served.

    A request that is not answered is tried again, the wait doubling from half a second.

    Args:
        timeout_seconds: of one request.
        retries: of one request, after a lost connection, a timeout or a status from 500.
        rows_per_request: answers sent together.
    """

    def __init__(
        self, url: str, timeout_seconds: float = 120.0, retries: int = 4, rows_per_request: int = 256
    ) -> None:
        import requests

        self.url = url.rstrip("/")
        self.timeout_seconds, self.retries, self.rows_per_request = timeout_seconds, retries, rows_per_request
        self.session = requests.Session()

    def score(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        """As `Scorer` says.

        Raises:
            StageError: the server is gone, refuses a request, or answers with something else than scores.
        """
        if len(prompts) != len(answers):
            raise ValueError(f"{len(prompts)} prompts but {len(answers)} answers")
        scores: list[float | None] = []
        for start in range(0, len(answers), self.rows_per_request):
            part = slice(start, start + self.rows_per_request)
            body = {"prompts": [list(prompt) for prompt in prompts[part]], "answers": list(answers[part])}
            scores += _scores(self._post(body), len(answers[part]), self.url)
        return scores

    def _post(self, body: dict[str, Any]) -> Any:
        import requests

        told = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1), _LONGEST_WAIT_SECONDS))
            try:
                answer = self.session.post(f"{self.url}/score", json=body, timeout=self.timeout_seconds)
            except requests.exceptions.RequestException as error:
                told = str(error)
                continue
            if answer.status_code == 200:
                try:
                    return answer.json()
                except ValueError:
                    return None
            told = f"{answer.status_code}: {answer.text[:300]}"
            if answer.status_code < 500:
                break
        raise StageError(
            f"the reward model at {self.url} gives no scores ({told}). Start it with `python -m alloy.judges "
            "MODEL`, then run the same command to go on."
        )


def _scores(given: Any, count: int, url: str) -> list[float | None]:
    """What was answered, if it is as many finite numbers and nulls as there were answers."""
    scores: Any = given.get("scores") if isinstance(given, dict) else None
    if not isinstance(scores, list) or len(scores) != count or not all(map(_is_score, scores)):
        raise StageError(
            f"the reward model at {url} was asked for {count} scores and answered {str(given)[:120]!r}. It is no "
            "`python -m alloy.judges`, or another version of it."
        )
    return [None if score is None else float(score) for score in scores]


def _is_score(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    )


def serve(folder: Any, host: str, port: int) -> RewardModelServer:
    """A server over a reward model's folder, ready to `serve_forever`."""
    return RewardModelServer(RewardModel(folder), host, port)
