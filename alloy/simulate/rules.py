"""What a conversation must satisfy to be learned from: every rule a pure function, by name.

A rule gets a `Played` conversation and answers with what is wrong, or None. `RULES` has them in the order
in which they are asked; the first that is broken names the rejection. Those in `AT_ONCE` cannot be healed
by what follows: a conversation that breaks one is ended there.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alloy.data.checks import check
from alloy.data.config import RepeatConfig
from alloy.data.shapes import Conversation, RowError
from alloy.environments.task import Message
from alloy.simulate.reading import NoJson, compact, read_json
from alloy.simulate.scenario import GoalCall, Scenario
from alloy.simulate.told import Told, folded, invented_in_text, invented_values, number_of
from alloy.simulate.tools import Offer
from alloy.verify.verdict import Verdict

DONE = "###DONE###"
"""What the user says when there is nothing left to say."""

Ending = Literal["user", "turns", "broken", ""]


@dataclass(frozen=True)
class Played:
    """A conversation, and what it is judged by.

    Attributes:
        messages: system, user, assistant (`tool_calls`, `invalid_calls`) and tool turns; `cut` in one that was.
        ended: by the user, by the limit of turns, by a broken rule, or not yet.
        by_judge: whether an environment's judge decides, instead of the goal calls.
        verdict: the judge's, once the conversation is over.
    """

    scenario: Scenario
    offer: Offer
    messages: list[Message]
    ended: Ending = ""
    by_judge: bool = False
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Broken:
    """A rule that a conversation breaks, and how."""

    rule: str
    detail: str


Rule = Callable[[Played], str | None]

_SPECIAL = re.compile(r"<\|[\w ]{1,30}\|>|\[/?INST\]|</?(?:start|end)_of_turn>")
_OTHERS_LINE = re.compile(r"^\W{0,4}(?:user|human)\W{0,4}:", re.IGNORECASE | re.MULTILINE)
_OWN_LINE = re.compile(r"^\W{0,4}(?:assistant|agent|ai)\W{0,4}:", re.IGNORECASE | re.MULTILINE)
_CALL_MARKS = ("<tool_call", "</tool_call", "<function=", "[TOOL_CALLS]", "<|python_tag|>")
_ANSWER_MARKS = ("<tool_response", "</tool_response", "[TOOL_RESULTS]")
_CALL_OBJECT = re.compile(r"\{\s*\"(?:name|function|tool)\"\s*:\s*\"([^\"]{1,100})\"")


def roles(played: Played) -> str | None:
    """The user does not call tools, the assistant does not speak for others, nobody writes a template's marks."""
    for number, message in enumerate(played.messages, 1):
        role, text = message["role"], message.get("content") or ""
        if role not in ("user", "assistant"):
            continue
        mark = next((found[0] for found in _SPECIAL.finditer(text)), None)
        if mark:
            return f"turn {number}: the {role} writes {mark!r}"
        foreign = [mark for mark in _ANSWER_MARKS if mark in text]
        if role == "user":
            foreign += [mark for mark in _CALL_MARKS if mark in text]
            foreign += [
                f"a call to {name}" for name in _CALL_OBJECT.findall(text) if name in played.offer.schemas
            ]
            if message.get("tool_calls") or message.get("invalid_calls"):
                foreign.append("a tool call")
            if _OWN_LINE.search(text):
                foreign.append("a line of the assistant's")
            if not text.strip():
                return f"turn {number}: the user says nothing"
        else:
            if DONE in text:
                foreign.append(DONE)
            if _OTHERS_LINE.search(text):
                foreign.append("a line of the user's")
        if foreign:
            return f"turn {number}: the {role} writes {foreign[0]}"
    return None


def readable(played: Played) -> str | None:
    """No turn was cut; the assistant says or calls something in each, and its calls can be read."""
    for number, message in enumerate(played.messages, 1):
        if message.get("cut"):
            return f"turn {number}: it was cut at the limit of tokens"
    for number, message in _assistant(played):
        text = message.get("content") or ""
        for written in message.get("invalid_calls") or []:
            return f"turn {number}: a call cannot be read: {str(written)[:120]!r}"
        if any(mark in text for mark in _CALL_MARKS) or any(
            name in played.offer.schemas for name in _CALL_OBJECT.findall(text)
        ):
            return f"turn {number}: a call stands in its text"
        if not text.strip() and not message.get("tool_calls"):
            return f"turn {number}: the assistant says nothing"
    return None


def offered(played: Played) -> str | None:
    """Every call is to an offered tool."""
    for number, call in _calls(played):
        if call["name"] not in played.offer.schemas:
            return f"turn {number}: {call['name'][:60]!r} is not on offer"
    return None


def schema(played: Played) -> str | None:
    """The arguments of every call are valid under the tool's JSON schema."""
    for number, call in _calls(played):
        wrong = played.offer.complaint(call["name"], call["arguments"])
        if wrong:
            return f"turn {number}: {call['name']}: {wrong}"
    return None


def grounded(played: Played) -> str | None:
    """No argument is invented: its strings and numbers were told before the turn, or the schema gives them.

    Told are the system turn, the user's turns and the tools' answers; of the schema of the called tool,
    enum, const and default. Of free text, what `invented_in_text` finds.
    """
    for number, message, told in _heard(played):
        for call in message.get("tool_calls") or []:
            name = call["name"]
            known = told.beside(played.offer.declared.get(name, Told()))
            for key, value in call["arguments"].items():
                free = isinstance(value, str) and (name, key) in played.offer.free_text
                found = invented_in_text(value, known) if free else invented_values(value, known, key)
                for invented in found:
                    return f"turn {number}: {name}: nobody told {invented}"
    return None


def unasked(played: Played) -> str | None:
    """No call that changes something beside the goal calls, and none of them more often than it is a goal."""
    if played.by_judge:
        return None
    wanted = Counter(_key(call, played.offer) for call in played.scenario.goal_calls)
    for number, call in _done(played):
        if call.name in played.offer.read_only:
            continue
        key = _key(call, played.offer)
        wanted[key] -= 1
        if wanted[key] < 0:
            return f"turn {number}: {call.name} {compact(call.arguments)[:160]} is no goal, or once too often"
    return None


def says(played: Played) -> str | None:
    """The assistant's words invent no number, e-mail address, id or quotation.

    Known are what it was told before the turn, the tools' schemas, and the arguments of its own calls,
    which are judged apart.
    """
    own = Told()
    for number, message, told in _heard(played):
        for call in message.get("tool_calls") or []:
            own.hear_value(call["arguments"])
        text = message.get("content") or ""
        if text.strip():
            for invented in invented_in_text(text, told.beside(played.offer.said, own)):
                return f"turn {number}: nobody told {invented}"
    return None


def ended(played: Played) -> str | None:
    """The user ended it, within the limit of turns, after an answer in words."""
    if played.ended != "user":
        return "the limit of turns was reached" if played.ended == "turns" else "it was not brought to an end"
    last = played.messages[-1] if played.messages else {"role": "nobody"}
    if last["role"] != "assistant" or last.get("tool_calls"):
        return "the user ended it before there was an answer"
    return None


def goal(played: Played) -> str | None:
    """Every goal call was made, in their order where the scenario says so."""
    if played.by_judge:
        return None
    made = [_key(call, played.offer) for _, call in _done(played)]
    wanted = [_key(call, played.offer) for call in played.scenario.goal_calls]
    missing = Counter(wanted) - Counter(made)
    for call, key in zip(played.scenario.goal_calls, wanted, strict=True):
        if key in missing:
            return f"not done: {call.name} {compact(call.arguments)[:160]}"
    if played.scenario.ordered:
        rest = iter(made)
        if not all(key in rest for key in wanted):
            return "the goal calls were made in another order"
    return None


def judge(played: Played) -> str | None:
    """The environment's judge gives the full reward."""
    verdict = played.verdict
    if not played.by_judge or (verdict is not None and verdict.reward == 1.0):
        return None
    if verdict is None:
        return "it was not judged"
    told = verdict.detail or f"the reward is {verdict.reward}"
    return f"{verdict.status}: {told}"[:400] if verdict.status != "ok" else told[:400]


def row(played: Played) -> str | None:
    """It is a row that SFT takes: `alloy.data.checks`."""
    try:
        check(Conversation(rows(played.messages), played.offer.listed), RepeatConfig())
    except RowError as error:
        return str(error)
    return None


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (roles, readable, offered, schema, grounded, unasked, says, ended, goal, judge, row)
}
AT_ONCE = ("roles", "readable", "offered", "schema", "grounded", "unasked", "says")


def broken(played: Played, names: tuple[str, ...] = tuple(RULES)) -> Broken | None:
    """The first rule that is broken, or None."""
    for name in names:
        detail = RULES[name](played)
        if detail is not None:
            return Broken(name, detail)
    return None


def rows(messages: list[Message], thinking: bool = True) -> list[Message]:
    """The turns as they are learned from: what `alloy.data` reads, and nothing else."""
    kept = ("role", "content", "tool_calls", *(("thinking",) if thinking else ()))
    return [{"content": "", **{key: turn[key] for key in kept if turn.get(key)}} for turn in messages]


def normalised(value: Any, fields: dict[str, Any] | None = None) -> Any:
    """A JSON value as it is compared: numbers by value, strings without case and with single spaces.

    Args:
        fields: the properties of an object's schema; what is null or its default is as if it were not there.
    """
    if isinstance(value, dict):
        known = fields or {}
        return {
            key: normalised(inner)
            for key, inner in value.items()
            if inner is not None and not _is_default(inner, known.get(key))
        }
    if isinstance(value, list):
        return [normalised(inner) for inner in value]
    if isinstance(value, str):
        return " ".join(folded(value).split())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"number": ("-" if value < 0 else "") + number_of(value)}
    return value


def failed(answer: str) -> bool:
    """Whether a tool's answer says that nothing was done: an object with an `error`."""
    try:
        value = read_json(answer) if answer.lstrip().startswith("{") else None
    except NoJson:
        return False
    return isinstance(value, dict) and bool(value.get("error"))


def _is_default(value: Any, field: Any) -> bool:
    return (
        isinstance(field, dict) and "default" in field and normalised(value) == normalised(field["default"])
    )


def _key(call: GoalCall, offer: Offer) -> str:
    """A call as it is compared: without the text that the assistant composes."""
    fields = offer.parameters(call.name).get("properties", {})
    arguments = normalised(call.arguments, fields)
    for name, parameter in offer.free_text:
        if name == call.name:
            arguments.pop(parameter, None)
    return f"{call.name} {json.dumps(arguments, sort_keys=True)}"


def _assistant(played: Played) -> Iterator[tuple[int, Message]]:
    for number, message in enumerate(played.messages, 1):
        if message["role"] == "assistant":
            yield number, message


def _calls(played: Played) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, message in _assistant(played):
        for call in message.get("tool_calls") or []:
            yield number, call


def _heard(played: Played) -> Iterator[tuple[int, Message, Told]]:
    """The assistant's turns, each with what it was told before it."""
    told = Told()
    for number, message in enumerate(played.messages, 1):
        text = message.get("content") or ""
        if message["role"] == "assistant":
            yield number, message, told
        elif message["role"] == "tool":
            told.hear_answer(text)
        else:
            told.hear(text)


def _done(played: Played) -> Iterator[tuple[int, GoalCall]]:
    """The calls that were not answered with an error, with their turn; one without an answer yet counts."""
    for number, message in _assistant(played):
        answers = []
        for following in played.messages[number:]:
            if following["role"] != "tool":
                break
            answers.append(following.get("content") or "")
        for position, call in enumerate(message.get("tool_calls") or []):
            if position >= len(answers) or not failed(answers[position]):
                yield number, GoalCall(name=call["name"], arguments=call["arguments"])
