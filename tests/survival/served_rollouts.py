"""TRL's vLLM server in a few lines: tokens drawn from the prompt, the seed and the weights that it was given last.

What is left out is what needs a GPU: weights come as their fingerprint over HTTP, where TRL sends them over NCCL.
"""

import json
import random
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests
from blake3 import blake3

INFORMATION = {"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs", "max_model_len": 512}}}


@dataclass
class RolloutServer:
    """A server that may be taken away and started again at its address.

    Attributes:
        vocabulary: tokens are drawn from so many.
        completions: asked for since it was made.
        lost_after: it disappears, in the middle of an answer, at the completion after so many.
        weights: fingerprints of those that were given, in their order.
    """

    vocabulary: int
    port: int = 0
    completions: int = 0
    lost_after: int | None = None
    weights: list[str] = field(default_factory=list)
    _http: ThreadingHTTPServer | None = None
    _open: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server._open.append(self.request)
                super().setup()

            def do_GET(self) -> None:
                found = {"/health": {}, "/v1/models": {"data": [{"id": "policy"}]}}
                self._send(found.get(self.path, INFORMATION))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/weights":
                    server.weights.append(body["fingerprint"])
                    self._send({})
                    return
                with server._lock:
                    server.completions += 1
                    lost = server.lost_after is not None and server.completions > server.lost_after
                if lost:
                    server.vanish()
                else:
                    self._send({"choices": [server._choice(body)]})

            def _send(self, value: Any) -> None:
                data = json.dumps(value).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass  # a connection that was cut

        self.lost_after = None
        self._http = Server(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def vanish(self) -> None:
        """Cut every connection, and listen no more."""
        with self._lock:
            http, self._http = self._http, None
        if http is None:
            return
        http.socket.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        http.shutdown()

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        (prompt,) = body["prompt"]
        asked = json.dumps([prompt, body["seed"], self.weights[-1:]]).encode()
        draw = random.Random(blake3(asked).digest())
        length = draw.randint(1, body["max_tokens"])
        ids = [draw.randrange(self.vocabulary) for _ in range(length)]
        if length < body["max_tokens"]:
            ids[-1] = body["stop_token_ids"][0]
        names = [f"token_id:{token}" for token in ids]
        logprobs = {"tokens": names, "token_logprobs": [-2.0] * length, "top_logprobs": [None] * length}
        return {"prompt_token_ids": prompt, "token_ids": ids, "logprobs": logprobs}


class GivenOverHttp:
    """In the place of TRL's `VLLMGeneration` in server mode."""

    def __init__(self, model: Any, server_base_url: str | None = None, **_: Any) -> None:
        self.model, self.url = model, server_base_url

    def sync_weights(self) -> None:
        hasher = blake3()
        for parameter in self.model.parameters():
            hasher.update(parameter.detach().numpy().tobytes())
        requests.post(f"{self.url}/weights", json={"fingerprint": hasher.hexdigest()}, timeout=20)
