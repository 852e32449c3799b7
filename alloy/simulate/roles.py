"""The roles of one conversation: what each is asked, and what its answer is read as."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from alloy.artifact import fingerprint_bytes
from alloy.environments.task import Message
from alloy.simulate.config import SimulateConfig
from alloy.simulate.endpoint import Endpoint, Reply
from alloy.simulate.prompts import (
    as_call,
    as_heard_by_the_user,
    ask_for_scenario,
    native,
    prompted,
    server_system,
)
from alloy.simulate.reading import NoJson, compact, read_arguments, read_json
from alloy.simulate.rules import DONE, failed
from alloy.simulate.scenario import Scenario, written_scenario
from alloy.simulate.tools import Offer
from alloy.tool_calls import parse_calls

Role = Literal["scenario", "user", "assistant", "server"]


class Unusable(Exception):
    """A role gave no answer that could be used, in all its tries.

    Attributes:
        rule: under which the conversation is rejected.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule


@dataclass
class Voice:
    """The endpoints as one conversation asks them: a seed for every request, and what it cost.

    The seed of a request depends on the config's seed, the conversation, the role and how often that role
    was asked before, so on nothing that goes on beside it.
    """

    config: SimulateConfig
    endpoints: dict[Role, Endpoint]
    conversation: str
    asked: Counter[str] = field(default_factory=Counter)
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    completion_tokens: Counter[str] = field(default_factory=Counter)

    async def ask(
        self,
        role: Role,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        json_answer: bool = False,
    ) -> Reply:
        name = f"{self.conversation}/{role}/{self.asked[role]}"
        self.asked[role] += 1
        seed = int(fingerprint_bytes(name.encode())[:8], 16) >> 1
        settings = getattr(self.config.roles, role)
        reply = await self.endpoints[role].ask(messages, settings, seed, tools or (), json_answer)
        self.prompt_tokens[role] += reply.prompt_tokens
        self.completion_tokens[role] += reply.completion_tokens
        return reply

    def tokens(self) -> dict[str, list[int]]:
        """By role: tokens of the prompts and of the completions."""
        return {
            role: [self.prompt_tokens[role], self.completion_tokens[role]]
            for role in sorted(self.prompt_tokens)
        }


async def write_scenario(voice: Voice, offer: Offer, rng: Random) -> Scenario:
    """A scenario by the model, told what is wrong with it until it can be played.

    Raises:
        Unusable: with the last complaint.
    """
    messages = ask_for_scenario(offer, rng, voice.config.goal_calls)
    why = ""
    for _ in range(voice.config.max_tries):
        reply = await voice.ask("scenario", messages, json_answer=True)
        try:
            return written_scenario(reply.text, offer, voice.config.goal_calls)
        except NoJson as error:
            why = "it was cut at the limit of tokens" if reply.cut else str(error)
        messages = [*messages[:1], *_again(reply.text, f"This cannot be used: {why}. Write it again, whole.")]
    raise Unusable("scenario", why)


async def user_turn(voice: Voice, scenario: Scenario, messages: list[Message]) -> Message | None:
    """What the user says next; None when they end the conversation."""
    reply = await voice.ask("user", as_heard_by_the_user(scenario, messages))
    if DONE in reply.text:
        return None
    turn: Message = {"role": "user", "content": reply.text.strip()}
    if reply.calls:
        turn["tool_calls"] = [{"name": str(name), "arguments": {}} for name, _ in reply.calls]
    if reply.cut:
        turn["cut"] = True
    return turn


async def assistant_turn(voice: Voice, offer: Offer, messages: list[Message]) -> Message:
    """What the assistant says and calls; what cannot be read stands under `invalid_calls`."""
    if voice.config.calls == "native":
        reply = await voice.ask("assistant", native(messages), offer.listed)
        text, calls, invalid = reply.text, *_native_calls(reply)
    else:
        reply = await voice.ask("assistant", prompted(messages, offer))
        written = parse_calls(reply.text, "hermes", offer.listed)
        text, invalid = written.content, [*written.invalid]
        calls = []
        for call in written.calls:
            try:
                calls.append({"name": call["name"], "arguments": read_arguments(call["arguments"])})
            except NoJson as error:
                invalid.append(f"{call['name']}: {error}")
    turn: Message = {"role": "assistant", "content": text.strip()}
    if reply.thinking:
        turn["thinking"] = reply.thinking
    if calls:
        turn["tool_calls"] = calls
    if invalid:
        turn["invalid_calls"] = invalid
    if reply.cut:
        turn["cut"] = True
    return turn


class ModelServer:
    """A model as the API: it is shown the data, the calls and its answers so far, and answers JSON.

    The same call to a tool that changes nothing, with no change in between, has the same answer without
    being asked again.
    """

    def __init__(self, voice: Voice, scenario: Scenario, offer: Offer) -> None:
        self._voice = voice
        self._offer = offer
        self._log: list[Message] = [{"role": "system", "content": server_system(scenario, offer)}]
        self._read: dict[str, str] = {}

    async def answer(self, call: dict[str, Any]) -> str:
        """The answer to a call that is valid, as compact JSON.

        Raises:
            Unusable: no answer was JSON.
        """
        asked = as_call(call)
        if asked in self._read:
            return self._read[asked]
        turn: Message = {"role": "user", "content": asked}
        retry: list[Message] = []
        why = ""
        for _ in range(self._voice.config.max_tries):
            reply = await self._voice.ask("server", [*self._log, turn, *retry], json_answer=True)
            try:
                answer = compact(read_json(reply.text))
            except NoJson as error:
                why = "it was cut at the limit of tokens" if reply.cut else str(error)
                retry = _again(reply.text, f"That is no JSON ({why}). Answer the call with JSON alone.")
                continue
            self._log += [turn, {"role": "assistant", "content": answer}]
            if call["name"] in self._offer.read_only:
                self._read[asked] = answer
            elif not failed(answer):
                self._read.clear()
            return answer
        raise Unusable("server", f"{call['name']}: no answer was JSON: {why}")


def _again(answer: str, complaint: str) -> list[Message]:
    return [{"role": "assistant", "content": answer or "(nothing)"}, {"role": "user", "content": complaint}]


def _native_calls(reply: Reply) -> tuple[list[dict[str, Any]], list[str]]:
    calls: list[dict[str, Any]] = []
    invalid: list[str] = []
    for name, arguments in reply.calls:
        try:
            if not isinstance(name, str) or not name:
                raise NoJson("it has no name")
            name.encode()
            calls.append({"name": name, "arguments": read_arguments(arguments)})
        except (NoJson, UnicodeEncodeError) as error:
            invalid.append(f"{name!r}: {error}"[:200])
    return calls, invalid
