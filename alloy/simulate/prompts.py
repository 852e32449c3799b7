"""What each role is told. All of it is English; personas and goals may be in any language."""

from collections.abc import Sequence
from random import Random
from typing import Any

from alloy.environments.task import Message
from alloy.simulate.reading import compact
from alloy.simulate.rules import DONE
from alloy.simulate.scenario import Scenario
from alloy.simulate.tools import Offer

MANNERS = (
    "says everything at once, in one or two sentences",
    "is brief, and gives one detail at a time, when asked for it",
    "tells a little of why before asking",
    "is in a hurry and leaves out politeness",
    "is friendly and wordy",
    "is unsure at first, and settles on what is wanted when asked",
    "corrects a slip of their own before anything is done about it",
    "writes plainly, without capital letters",
)
LIVES = (
    "a nurse on night shifts",
    "a teacher",
    "a retired engineer",
    "a student",
    "an office manager",
    "a shop owner",
    "a parent with little time",
    "a volunteer in a club",
    "a researcher who travels",
    "a craftsman",
    "somebody new to the job",
    "a bookkeeper",
)

_SCENARIO = """\
You write scenarios for testing an assistant that calls tools. The tools:
{tools}

Write one scenario as one JSON object with these keys and nothing else:
- "persona": the user, in one or two sentences. Here: {life}, who {manner}.
- "goal": what the user wants done, in two to four sentences, with every value that the user knows (names, \
dates, amounts) in exactly the form that the tools take. It names no tool.
- "world": an object with what the company's data hold before: the records that the tools would find, with \
their ids, a few of which have nothing to do with the goal.
- "goal_calls": a list of {calls}, each {{"name": ..., "arguments": {{...}}}}: exactly the calls that \
change the data as the goal asks. Every value in them stands in the goal, or in the world where a tool can \
look it up.{focus}
- "ordered": true only if those calls cannot be made in another order.
Answer with the JSON alone."""

_USER = """\
You play a person who writes to an assistant. Never play the assistant, and never mention these instructions.

Who you are: {persona}
What you want: {goal}

Write one message at a time, as that person would. Give names, dates, numbers and texts exactly as they \
stand above, when they are needed or asked for; make up no others. You know no ids but those that stand \
above. You cannot call tools: the assistant does that. When the assistant has told you that all you want is \
done, or that it cannot be done, write {done} and nothing else."""

_SERVER = """\
You are the API behind these tools:
{tools}

The data at the beginning:
{world}

Each message is one call, already checked against the schema. Answer it with one JSON object or list: what \
that API would return for that call after all calls so far, and nothing else. Be consistent: a record that \
was made, changed or deleted stays so; the same question has the same answer; a record that is not in the \
data does not exist, and asking for it, or changing it, is answered {{"error": "..."}}. New records get new \
ids. Never explain, never ask, never do more than the call says."""

_PROMPTED = """\
{system}

Tools:
{tools}

To call a tool, write <tool_call>{{"name": NAME, "arguments": {{...}}}}</tool_call>, one after the other for \
several, and nothing behind the last. The answers come in <tool_response> tags."""

OPENING = "(The conversation begins. Write your first message.)"


def ask_for_scenario(offer: Offer, rng: Random, most_calls: int) -> list[Message]:
    """What the writer of scenarios is asked; manner, life, length and a tool to start from are drawn."""
    calls = rng.randint(1, most_calls)
    changing = [name for name in offer.schemas if name not in offer.read_only]
    focus = f" One of them is to {rng.choice(changing)}." if changing else ""
    text = _SCENARIO.format(
        tools=_lines(offer),
        life=rng.choice(LIVES),
        manner=rng.choice(MANNERS),
        calls="one call" if calls == 1 else f"{calls} calls",
        focus=focus,
    )
    return [{"role": "user", "content": text}]


def manner_of(rng: Random) -> str:
    """A persona for a goal that has none."""
    return f"{rng.choice(LIVES)}, who {rng.choice(MANNERS)}"


def user_system(scenario: Scenario) -> str:
    return _USER.format(persona=scenario.persona, goal=scenario.goal, done=DONE)


def server_system(scenario: Scenario, offer: Offer) -> str:
    return _SERVER.format(tools=_lines(offer), world=compact(scenario.world))


def prompted_system(system: str, offer: Offer) -> str:
    return _PROMPTED.format(system=system, tools=_lines(offer)).strip()


def as_heard_by_the_user(scenario: Scenario, messages: Sequence[Message]) -> list[Message]:
    """The conversation from the user's side: the assistant's words, none of its calls."""
    heard: list[Message] = [
        {"role": "system", "content": user_system(scenario)},
        {"role": "user", "content": OPENING},
    ]
    for message in messages:
        text = message.get("content") or ""
        if message["role"] == "user":
            heard.append({"role": "assistant", "content": text})
        elif message["role"] == "assistant" and text.strip():
            if heard[-1]["role"] == "user" and heard[-1]["content"] != OPENING:
                heard[-1] = {"role": "user", "content": f"{heard[-1]['content']}\n\n{text}"}
            else:
                heard.append({"role": "user", "content": text})
    return heard


def native(messages: Sequence[Message]) -> list[Message]:
    """The conversation in OpenAI's form: calls with ids, and answers that name them."""
    sent: list[Message] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        turn: Message = {"role": message["role"], "content": message.get("content") or ""}
        if message["role"] == "tool":
            turn["tool_call_id"] = waiting.pop(0)
        elif message.get("tool_calls"):
            waiting = [f"call_{number}_{position}" for position in range(len(message["tool_calls"]))]
            turn["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": call["name"], "arguments": compact(call["arguments"])},
                }
                for call_id, call in zip(waiting, message["tool_calls"], strict=True)
            ]
        sent.append(turn)
    return sent


def prompted(messages: Sequence[Message], offer: Offer) -> list[Message]:
    """The conversation in words alone: calls and answers in tags."""
    sent: list[Message] = []
    system = ""
    for message in messages:
        text = message.get("content") or ""
        if message["role"] == "system":
            system = text
        elif message["role"] == "tool":
            answer = f"<tool_response>\n{text}\n</tool_response>"
            if sent and sent[-1]["role"] == "user" and sent[-1]["content"].startswith("<tool_response>"):
                sent[-1] = {"role": "user", "content": f"{sent[-1]['content']}\n{answer}"}
            else:
                sent.append({"role": "user", "content": answer})
        else:
            written = [f"<tool_call>{compact(call)}</tool_call>" for call in message.get("tool_calls") or []]
            sent.append(
                {"role": message["role"], "content": "\n".join(part for part in (text, *written) if part)}
            )
    return [{"role": "system", "content": prompted_system(system, offer)}, *sent]


def as_call(call: dict[str, Any]) -> str:
    return compact({"name": call["name"], "arguments": call["arguments"]})


def _lines(offer: Offer) -> str:
    return "\n".join(compact(tool) for tool in offer.listed)
