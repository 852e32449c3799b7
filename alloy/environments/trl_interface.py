"""Environments written for TRL's `environment_factory`, as they are: a class with `reset`, `get_reward` and tools.

What TRL would ask is asked, and the tools are told as TRL tells them. Other than there, a rollout has an
instance of its own, a call's arguments are checked before the method sees them, and a reward that cannot be
had is an error of the environment, never a 0.

The user's code runs in this process: it is trusted, and nothing ends a method that does not return.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alloy.artifact import fingerprint_json
from alloy.data.shapes import RowError
from alloy.environments.registry import fingerprint_environment
from alloy.environments.row_files import SHARES, Place, RowFiles, fingerprint_rows, turns_of
from alloy.environments.task import Message, Split, Task, World
from alloy.environments.trl_interface_class import (
    RAISED,
    NotText,
    TrlClass,
    argument_check,
    as_text,
    observation,
    tell,
)
from alloy.errors import InputError
from alloy.named import split_name
from alloy.verify.verdict import Verdict

UNAVAILABLE = "error: the tool is not available; this is no fault of the call"


class TrlWorld:
    """One instance of the user's class, reset for a task; its public methods are what can be called.

    Attributes:
        instance: None where it could not be made.
        failure: how the environment itself broke; empty where it did not. What a policy does then says
            nothing of it: whoever judges gives an `error`, no reward.
    """

    def __init__(self, instance: Any, tools: Sequence[dict[str, Any]], failure: str = "") -> None:
        self.instance = instance
        self.failure = failure
        self._checks = {tool["name"]: argument_check(tool) for tool in tools}

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """What the method returned, as text, or a text that begins with "error:"."""
        if not isinstance(name, str) or name not in self._checks:
            return f"error: there is no tool {str(name)[:40]!r}"
        if self.failure:
            return UNAVAILABLE
        try:
            if complaint := self._checks[name](arguments):
                return f"error: {name}: {complaint}"
            # A method may change what it is given, and the arguments stand in the conversation, too.
            said = as_text(getattr(self.instance, name)(**deepcopy(arguments)))
            # Half a surrogate pair is no text that could be tokenised.
            return str(said).encode("utf-8", "replace").decode()
        except NotText as error:
            self.failure = f"{name}: {error}"
            return UNAVAILABLE
        except RAISED as error:
            return f"error: {str(error) or type(error).__name__}".encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class TrlRow:
    """One row.

    Attributes:
        id: of the whole row: rows that ask the same may mean different things to `reset`.
        where: file and line.
        arguments: of `reset`.
    """

    id: str
    where: str
    messages: list[Message]
    arguments: dict[str, Any]


class TrlEnvironment:
    """Multi-turn tasks of a class written for TRL's `environment_factory`, one for each of the user's rows.

    A row has `prompt` (a text, or turns that end with the user's) and what else `reset` takes, by name; an
    empty cell counts as not there. `prompt` is passed on where `reset` takes it. What `reset` returns is
    appended to the last user turn. A task is asked many times, so `reset` must say the same for the same
    row. Which split a row is in depends on a hash of it.

    The reward is what `get_reward` returns, whatever its size; pass rates, curricula and evaluation take
    it for a share of success, so let it be from 0 to 1. DPO counts exactly 1 as a success. One that is no
    finite number, or raises, is an error of the environment.

    Args:
        environment: `package.module:Class`, or a function there that makes an instance.
        path: where all rows are; or
        paths: by split: {train: ..., test: ...}.
        shares: of the rows of train, for the splits that are cut from it.
    """

    name = "trl"

    def __init__(
        self,
        environment: str,
        path: Place | None = None,
        paths: Mapping[str, Place] | None = None,
        shares: Mapping[str, float] = SHARES,
    ) -> None:
        self.files = RowFiles(path, paths, shares)
        self.counts = self.files.counts
        self.written = TrlClass(environment)

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the user's module, that file alone, and of the contents of the rows' files.

        Raises:
            InputError: there is no such module or file.
        """
        environment = options.get("environment")
        split_name(environment, "environment")
        return fingerprint_json([fingerprint_environment(str(environment)), fingerprint_rows(options)])

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different rows of a split in the seed's order, each as `reset` completes it.

        Raises:
            InputError: a bad row, fewer rows than that, tools that cannot be described, or a `reset` that
                raises or says something else the second time.
        """
        drawn = self.files.draw(self.rows[split], split, count, seed)
        # Made once and reset often, as TRL does it.
        instance = self.written.made()
        made = [self._task(split, row, self._said(instance, row)) for row in drawn]
        if drawn and self._said(self.written.made(), drawn[0]) != made[0].gold["said"]:
            raise InputError(
                f"{drawn[0].where}: reset of {self.written} says something else each time, so that groups would be asked "
                "different things. Let what it says depend on the row alone, on a `seed` column for example."
            )
        return made

    def open(self, task: Task) -> TrlWorld:
        """A fresh instance, reset for a task; where that fails the world says so in `failure`."""
        try:
            instance = self.written.make()
            said = observation(instance.reset(**deepcopy(task.gold["arguments"])))
        except RAISED as error:
            return TrlWorld(None, task.tools, f"reset: {tell(error)}")
        if said != task.gold["said"]:
            return TrlWorld(instance, task.tools, f"reset said {said!r}, and {task.gold['said']!r} before")
        return TrlWorld(instance, task.tools)

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """What `get_reward` returns; without a world the calls of the completion are made in a fresh one."""
        if world is None:
            world = self.open(task)
            for turn in completion:
                for call in turn.get("tool_calls") or []:
                    world.call(call["name"], call["arguments"])
        if not isinstance(world, TrlWorld):
            raise TypeError(f"a {type(world).__name__} is no world of {self.name}")
        if world.failure:
            return Verdict(None, "error", world.failure)
        try:
            reward = float(world.instance.get_reward())
        except RAISED as error:
            return Verdict(None, "error", f"get_reward: {tell(error)}")
        if not math.isfinite(reward):
            return Verdict(None, "error", f"get_reward gave {reward}, a finite number is needed")
        return Verdict(reward)

    @cached_property
    def rows(self) -> dict[Split, list[TrlRow]]:
        """The rows of every split, read once.

        Raises:
            InputError: a missing file, or a bad row.
        """
        return self.files.read(self._to_row)

    def _to_row(self, raw: Any, where: str) -> TrlRow:
        if isinstance(raw, RowError):
            raise raw
        given = {name: value for name, value in raw.items() if value is not None}
        prompt = given.pop("prompt", None)
        turns = _turns(prompt)
        asked = " ".join(prompt.split()) if isinstance(prompt, str) else turns
        passed = dict(given)
        if prompt is not None and self.written.takes_prompt:
            passed["prompt"] = prompt if isinstance(prompt, list) else turns
        try:
            self.written.check_arguments(passed)
        except TypeError as error:
            raise RowError(f"reset of {self.written}: {error}") from None
        return TrlRow(fingerprint_json([asked, given])[:16], where, turns, passed)

    def _said(self, instance: Any, row: TrlRow) -> str | None:
        """What an instance says when it is reset for a row."""
        try:
            return observation(instance.reset(**deepcopy(row.arguments)))
        except RAISED as error:
            raise InputError(
                f"{row.where}: reset of {self.written}: {tell(error)}. Correct the row or the class."
            ) from None

    def _task(self, split: Split, row: TrlRow, said: str | None) -> Task:
        *before, last = row.messages
        asked = last["content"] + (said or "")
        if not asked.strip():
            raise InputError(
                f"{row.where}: nothing is asked: there is no prompt, and reset of {self.written} returned no text. Give one "
                "of them."
            )
        return Task(
            id=f"{self.name}/{split}/{row.id}",
            environment=self.name,
            template=row.id,
            messages=[*before, {**last, "content": asked}],
            tools=self.written.tools,
            gold={"arguments": row.arguments, "said": said},
        )


def _turns(prompt: Any) -> list[Message]:
    """A row's prompt as turns; an empty one where the class asks everything itself."""
    if prompt is None or isinstance(prompt, str):
        return [{"role": "user", "content": prompt or ""}]
    if not isinstance(prompt, list):
        raise RowError(f"`prompt` is {type(prompt).__name__}, a text or a list of turns is needed")
    return turns_of(prompt)
