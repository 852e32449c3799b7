"""An OpenAI-compatible server of a few lines: every role is a function of the request, so of nothing else."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_served import json_served

Body = dict[str, Any]
Answer = dict[str, Any] | tuple[int, Any]
"""The assistant message of a completion, or a status and what is sent with it."""

TOOLS: list[dict[str, Any]] = [
    {
        "name": "find_tables",
        "description": "Free tables of a day",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "string"}},
            "required": ["day"],
            "additionalProperties": False,
        },
        "read_only": True,
    },
    {
        "name": "book_table",
        "description": "Book a table",
        "parameters": {
            "type": "object",
            "properties": {
                "day": {"type": "string"},
                "people": {"type": "integer", "minimum": 1},
                "name": {"type": "string"},
                "area": {"type": "string", "enum": ["inside", "terrace"], "default": "inside"},
            },
            "required": ["day", "people", "name"],
            "additionalProperties": False,
        },
    },
    {
        "name": "cancel_booking",
        "description": "Cancel a booking",
        "parameters": {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
        },
    },
]
NAMES = [
    "Abel",
    "Berta",
    "Carlo",
    "Dora",
    "Emil",
    "Frieda",
    "Gustav",
    "Hanna",
    "Ilse",
    "Jonas",
    "Klara",
    "Ludwig",
    "Mona",
    "Nils",
    "Olga",
    "Paul",
]
DETAILS = (
    "My sister has just come back from a long journey over the sea.",
    "We are old friends from school who have not met for years.",
    "There is something to celebrate, which I will not give away here.",
    "It would be wonderful if nobody had to wait at the door.",
)


def scenario(name: str, people: int = 4, day: str = "2025-03-04") -> dict[str, Any]:
    detail = DETAILS[len(name) % len(DETAILS)]
    return {
        "persona": f"{name}, in a hurry",
        "goal": f"Book a table on {day} for {people} people under the name {name}. {detail}",
        "world": {"tables": [{"id": "T-1", "day": day, "seats": 6}]},
        "goal_calls": [{"name": "book_table", "arguments": {"day": day, "people": people, "name": name}}],
    }


def role_of(body: Body) -> str:
    first = str(body["messages"][0]["content"])
    if first.startswith("You write scenarios"):
        return "scenario"
    if first.startswith("You play a person"):
        return "user"
    return "server" if first.startswith("You are the API") else "assistant"


def write_scenario(body: Body) -> Answer:
    seed = body["seed"]
    name = f"{NAMES[seed % len(NAMES)]} {NAMES[seed // 97 % len(NAMES)]}{NAMES[seed // 7919 % len(NAMES)]}"
    return {"content": f"```json\n{json.dumps(scenario(name, 2 + seed % 7))}\n```"}


def speak_as_user(body: Body) -> Answer:
    goal = re.search(r"What you want: (.*)", body["messages"][0]["content"])
    assert goal is not None
    if len(body["messages"]) == 2:
        return {"content": goal[1]}
    return {"content": "###DONE###"}


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"content": None, "tool_calls": [native(name, json.dumps(arguments))]}


def native(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


def booking(body: Body) -> dict[str, Any]:
    """What the first message of the user asks for."""
    text = next(m["content"] for m in body["messages"] if m["role"] == "user")
    found = re.search(r"on (\S+) for (\d+) people under the name ([^.]+)\.", text)
    assert found is not None, text
    return {"day": found[1], "people": int(found[2]), "name": found[3]}


def assist(body: Body) -> Answer:
    wanted = booking(body)
    answers = [m for m in body["messages"] if m["role"] == "tool"]
    if not answers:
        return call("find_tables", day=wanted["day"])
    if len(answers) == 1:
        return call("book_table", **wanted)
    booked = json.loads(answers[-1]["content"])
    return {"content": f"Done: {booked['id']}, {wanted['people']} people, for {wanted['name']}."}


def serve_calls(body: Body) -> Answer:
    asked = json.loads(body["messages"][-1]["content"])
    if asked["name"] == "find_tables":
        return {"content": '{"free": [{"id": "T-1", "seats": 6}]}'}
    return {"content": f'{{"id": "B-{len(asked["arguments"]["name"])}7", "ok": true}}'}


@dataclass
class Scripted:
    """What the server does, and what it was asked.

    Attributes:
        before: looks at every request first; an answer of its own goes before the role's.
        asked: the bodies of the requests, in the order in which they came.
    """

    roles: dict[str, Callable[[Body], Answer]] = field(
        default_factory=lambda: {
            "scenario": write_scenario,
            "user": speak_as_user,
            "assistant": assist,
            "server": serve_calls,
        }
    )
    before: Callable[[Body], Answer | None] = lambda body: None
    model: str = "scripted"
    delay_seconds: float = 0.0
    asked: list[Body] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    url: str = ""
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> Counter[str]:
        return Counter(role_of(body) for body in self.asked if not is_first_request(body))

    def answer(self, body: Body) -> tuple[int, Any]:
        with self._lock:
            self.asked.append(body)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_seconds)
        try:
            if body["model"] != self.model:
                return 404, {"error": {"message": f"no model {body['model']}"}}
            found = self.before(body)
            if found is None and is_first_request(body):
                found = {"content": "yes"}
            if found is None:
                found = self.roles[role_of(body)](body)
        except Exception as error:  # a script that fails is told at once, and not tried again
            found = 400, {"error": {"message": f"the script: {error!r}"}}
        finally:
            with self._lock:
                self._at_once -= 1
        return found if isinstance(found, tuple) else (200, completion(found))


def is_first_request(body: Body) -> bool:
    return bool(body["messages"][0]["content"] == "Say yes.")


def completion(message: dict[str, Any]) -> dict[str, Any]:
    reason = message.pop("finish_reason", "stop")
    return {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3},
    }


@contextmanager
def serving(scripted: Scripted) -> Iterator[Scripted]:
    def respond(body: Body, key: str) -> tuple[int, Any]:
        scripted.keys.add(key)
        return scripted.answer(body)

    with json_served(respond, [{"id": scripted.model}]) as scripted.url:
        yield scripted
