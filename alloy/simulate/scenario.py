"""A scenario: who wants what, what the API knows, and the calls that would do it."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from alloy.config import Config
from alloy.errors import InputError
from alloy.simulate.reading import NoJson, read_arguments, read_json
from alloy.simulate.told import Told, invented_values
from alloy.simulate.tools import Offer
from alloy.verify.schema_errors import explain


class GoalCall(Config):
    """A call that the goal needs."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Scenario(Config):
    """What one conversation is about."""

    persona: str = Field(min_length=1)
    """Who the user is and how they talk."""
    goal: str = Field(min_length=1)
    """What the user wants, with every value that they know."""
    world: dict[str, Any] | list[Any] = Field(default_factory=dict)
    """What the API server's data hold at the beginning."""
    goal_calls: list[GoalCall] = Field(default_factory=list)
    """The change that is expected, as calls; tools that only read may be among them."""
    ordered: bool = False
    """Whether the goal calls have to be made in this order."""
    tools: list[str] | None = None
    """Names of the tools on offer; all of them when not given."""
    read_only: list[str] = Field(default_factory=list)
    """More tools that change nothing here."""

    @field_validator("persona", "goal")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it is empty")
        return text


_OF_FILES = ("tools", "read_only")
"""What a scenario that a model wrote does not decide: it could mark any change as none."""


def written_scenario(text: str, offer: Offer, most_calls: int) -> Scenario:
    """The scenario that a model wrote.

    Raises:
        NoJson: it is none that can be played, with what is wrong, in words for the model.
    """
    value = read_json(text)
    if not isinstance(value, dict):
        raise NoJson("it is a list, one object is needed")
    kept = {
        key: inner for key, inner in value.items() if key in Scenario.model_fields and key not in _OF_FILES
    }
    try:
        scenario = Scenario.model_validate(kept)
    except ValidationError as error:
        raise NoJson(explain(error)[:400]) from None
    if not 1 <= len(scenario.goal_calls) <= most_calls:
        raise NoJson(f"it has {len(scenario.goal_calls)} goal_calls, 1 to {most_calls} are needed")
    wrong = complaint(scenario, offer)
    if wrong:
        raise NoJson(wrong)
    return scenario


def complaint(scenario: Scenario, offer: Offer) -> str | None:
    """Why a scenario cannot be played with these tools; None when it can.

    Goal calls are to offered tools and valid by their schemas, and every value in them can be known:
    from the goal, the persona, the world or the tool's schema.
    """
    known = Told(scenario.goal, scenario.persona, scenario.world)
    for number, call in enumerate(scenario.goal_calls):
        where = f"goal_calls[{number}]"
        if call.name not in offer.schemas:
            return f"{where}: {call.name[:60]!r} is not on offer"
        wrong = offer.complaint(call.name, call.arguments)
        if wrong:
            return f"{where}: the arguments of {call.name} are against its schema: {wrong}"
        can_know = known.beside(offer.declared[call.name])
        fixed = {
            key: value for key, value in call.arguments.items() if (call.name, key) not in offer.free_text
        }
        for told in invented_values(fixed, can_know):
            return f"{where}: {told} stands neither in the goal nor in the world: nobody could know it"
    return None


def read_scenarios(path: Path, offer: Offer) -> list[Scenario]:
    """The scenarios of a JSONL file.

    Raises:
        InputError: no such file, or a scenario that cannot be played, with its line.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Set `scenarios` to a JSONL file, or remove it.")
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = read_arguments(json.loads(line))
            scenario = Scenario.model_validate(value)
        except (NoJson, ValidationError, ValueError, RecursionError) as error:
            told = explain(error) if isinstance(error, ValidationError) else error
            raise InputError(f"{where}: no scenario: {told}. Correct or remove it.") from None
        names = [*(scenario.tools or []), *scenario.read_only]
        unknown = [name for name in names if name not in offer.schemas]
        if unknown:
            raise InputError(
                f"{where}: {unknown[0]!r} is no tool. Known: {', '.join(offer.schemas)}. Correct the scenario."
            )
        wrong = complaint(scenario, offered_in(scenario, offer))
        if wrong:
            raise InputError(f"{where}: {wrong}. Correct or remove the scenario.")
        found.append(scenario)
    if not found:
        raise InputError(f"{path}: there is no scenario in it. Write one JSON object a line.")
    return found


def offered_in(scenario: Scenario, offer: Offer) -> Offer:
    """The tools that a scenario offers."""
    return offer.only(offer.schemas if scenario.tools is None else scenario.tools, scenario.read_only)
