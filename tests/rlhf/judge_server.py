"""A real server on this machine that answers as an OpenAI-compatible endpoint, with what a script says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_served import json_served

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

    def respond(body: dict[str, Any], key: str) -> tuple[int, Any]:
        with state.lock:
            state.keys.add(key)
            state.asked.append(body)
            number = len(state.asked)
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        found = script(body, number)
        with state.lock:
            state.at_once -= 1
        if not isinstance(found, str):
            return found
        message = {"role": "assistant", "content": found}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    with json_served(respond, []) as state.url:
        yield state


def longer(body: dict[str, Any], _: int = 0) -> str:
    """Prefers the longer answer."""
    lines = body["messages"][1]["content"].splitlines()
    first, second = (len(json.loads(line.partition(": ")[2])) for line in lines[-2:])
    lead = max(-2, min(2, first - second))
    return write_judgement((3 + lead, 3 - lead), 3 - lead if lead >= 0 else 4 - lead)
