"""A real server on this machine that answers as an OpenAI-compatible endpoint, with what a script says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from alloy.judges.comparison import write_judgement

Script = Callable[[dict[str, Any], int], Any]


@dataclass
class Server:
    """What was asked, and how many requests were under way at most."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    """A server that answers as `script(body, number)` says: a text, or a status and a body."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.keys.add(str(self.headers["Authorization"]))
                state.asked.append(body)
                number = len(state.asked)
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            found = script(body, number)
            with state.lock:
                state.at_once -= 1
            if isinstance(found, str):
                choice = {
                    "index": 0,
                    "message": {"role": "assistant", "content": found},
                    "finish_reason": "stop",
                }
                found = (200, {"choices": [choice]})
            self._send(*found)

        def do_GET(self) -> None:
            self._send(200, {"data": []})

        def _send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status >= 429:
                    self.send_header("retry-after-ms", "2")
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has given up

        def log_message(self, *_: Any) -> None:
            pass

    class Threads(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Threads(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def longer(body: dict[str, Any], _: int = 0) -> str:
    """Prefers the longer answer."""
    lines = body["messages"][1]["content"].splitlines()
    first, second = (len(json.loads(line.partition(": ")[2])) for line in lines[-2:])
    lead = max(-2, min(2, first - second))
    return write_judgement((3 + lead, 3 - lead), 3 - lead if lead >= 0 else 4 - lead)
