"""One conversation from its scenario to its verdict; nothing that a model writes raises here."""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from alloy.artifact import fingerprint_file
from alloy.environments.registry import Environments, fingerprint_environment
from alloy.environments.task import Message, Task, World
from alloy.errors import InputError, StageError
from alloy.simulate.config import SimulateConfig
from alloy.simulate.endpoint import Refused
from alloy.simulate.prompts import manner_of
from alloy.simulate.roles import ModelServer, Unusable, Voice, assistant_turn, user_turn, write_scenario
from alloy.simulate.rules import AT_ONCE, Broken, Ending, Played, broken, rows
from alloy.simulate.scenario import Scenario, offered_in, read_scenarios
from alloy.simulate.tools import Offer, offer_of, read_tools
from alloy.verify.verdict import Verdict


@dataclass(frozen=True)
class Setting:
    """Where a conversation takes place.

    Attributes:
        scenario: None where the model is to write it.
        task: of the environment whose world answers, where one does.
    """

    offer: Offer
    system: str
    scenario: Scenario | None = None
    task: Task | None = None


class Settings:
    """The settings of all conversations, by number.

    Raises:
        InputError: tools, scenarios or environment cannot be used.
    """

    def __init__(self, config: SimulateConfig) -> None:
        self._config = config
        self.seed = config.seed
        self._scenarios: list[Scenario] = []
        self._tasks: list[Task] = []
        self._environments = Environments()
        if config.environment is not None:
            name = config.environment
            self._environments = Environments.make({name: config.options})
            self._tasks = self._environments.tasks(name, "train", config.conversations, config.seed)
            first = self._tasks[0]
            if not first.tools or self._environments[name].open(first) is None:
                raise InputError(f"environment = {name!r}: its tasks have no tools. Name one with a world.")
        elif config.tools is not None:
            self._offer = read_tools(config.tools, config.read_only, config.free_text)
            count = len(self._offer.schemas)
            if config.tools_offered is not None and config.tools_offered > count:
                raise InputError(
                    f"tools_offered = {config.tools_offered}: {config.tools} has {count} tools. Lower it."
                )
            if config.scenarios is not None:
                self._scenarios = read_scenarios(config.scenarios, self._offer)

    def identity(self) -> dict[str, str]:
        """Fingerprints of what the config names."""
        config = self._config
        named: dict[str, Path | None] = {"tools": config.tools, "scenarios": config.scenarios}
        found = {key: fingerprint_file(path) for key, path in named.items() if path is not None}
        if config.environment is not None:
            found["environment"] = fingerprint_environment(config.environment, config.options)
        return found

    def some_tools(self) -> list[dict[str, Any]]:
        """Tools to try an endpoint with."""
        return self._tasks[0].tools if self._tasks else self._offer.listed

    def of(self, number: int) -> Setting:
        config, rng = self._config, self.rng(number, "setting")
        if self._tasks:
            task = self._tasks[number]
            system = "\n".join(_contents(task.messages, "system"))
            goal = "\n".join(_contents(task.messages, "user"))
            scenario = Scenario(persona=manner_of(rng), goal=goal)
            return Setting(offer_of(task.tools, (), config.free_text), system, scenario, task)
        if self._scenarios:
            scenario = self._scenarios[number % len(self._scenarios)]
            return Setting(offered_in(scenario, self._offer), config.system, scenario)
        offer = self._offer
        if config.tools_offered is not None:
            offer = offer.only(rng.sample(list(offer.schemas), config.tools_offered))
        return Setting(offer, config.system)

    def rng(self, number: int, purpose: str) -> Random:
        return Random(f"simulate/{self._config.seed}/{number}/{purpose}")

    def open(self, setting: Setting) -> World | None:
        if setting.task is None:
            return None
        return self._environments[setting.task.environment].open(setting.task)

    def judge(self, setting: Setting, messages: list[Message], world: World | None) -> Verdict | None:
        if setting.task is None:
            return None
        written = [turn for turn in messages if turn["role"] in ("assistant", "tool")]
        return self._environments.judge([(setting.task, written, world)])[0]


async def play(settings: Settings, voice: Voice, number: int) -> dict[str, Any]:
    """Play a conversation; its record for the run folder: `rule` and `detail` are null when it is kept.

    Rejections beside the rules of `alloy.simulate.rules`: `scenario` and `server` (no usable answer in all
    tries), `request` (the endpoint refused one), `error` (ours: not the model's fault).

    Raises:
        StageError: the endpoint is gone.
    """
    setting = settings.of(number)
    stopped: Broken | None = None
    scenario, messages = setting.scenario, _beginning(setting.system)
    try:
        if scenario is None:
            scenario = await write_scenario(voice, setting.offer, settings.rng(number, "scenario"))
        world = settings.open(setting)
        by_judge = setting.task is not None
        played = Played(scenario, setting.offer, messages, by_judge=by_judge)
        ending = await _talk(voice, played, world)
        verdict = settings.judge(setting, messages, world) if ending == "user" else None
        stopped = broken(Played(scenario, setting.offer, messages, ending, by_judge, verdict))
    except Unusable as error:
        stopped = Broken(error.rule, str(error))
    except Refused as error:
        stopped = Broken("request", str(error))
    except StageError:
        raise
    except Exception as error:  # no conversation is worth the run; it is counted apart
        stopped = Broken("error", f"{type(error).__name__}: {error}"[:400])
    return {
        "number": number,
        "id": f"simulated-{settings.seed}-{number}",
        "rule": stopped.rule if stopped else None,
        "detail": stopped.detail if stopped else None,
        "scenario": scenario.model_dump(mode="json", exclude_defaults=True) if scenario else None,
        "messages": rows(messages) if stopped is None else messages,
        "tools": setting.offer.listed,
        "tokens": voice.tokens(),
        "requests": sum(voice.asked.values()),
    }


async def _talk(voice: Voice, played: Played, world: World | None) -> Ending:
    """Let them talk until somebody ends it; the turns are added to the messages."""
    messages = played.messages
    server = None if world is not None else ModelServer(voice, played.scenario, played.offer)
    turns = 0
    while True:
        said = await user_turn(voice, played.scenario, messages)
        if said is None:
            return "user"
        messages.append(said)
        if broken(played, AT_ONCE):
            return "broken"
        while messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls"):
            if turns == voice.config.max_turns:
                return "turns"
            turns += 1
            turn = await assistant_turn(voice, played.offer, messages)
            messages.append(turn)
            if broken(played, AT_ONCE):
                return "broken"
            for call in turn.get("tool_calls") or []:
                if world is not None:
                    answer = world.call(call["name"], call["arguments"])
                else:
                    assert server is not None
                    answer = await server.answer(call)
                messages.append({"role": "tool", "content": answer})


def _beginning(system: str) -> list[Message]:
    return [{"role": "system", "content": system}] if system.strip() else []


def _contents(messages: list[Message], role: str) -> list[str]:
    return [str(turn.get("content") or "") for turn in messages if turn["role"] == role]
