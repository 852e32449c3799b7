"""A task: something to ask a policy, with what is needed to judge what it does."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from alloy.verify.verdict import Verdict

Split = Literal["train", "validation", "test"]
Message = dict[str, Any]
"""One turn: `role` (system, user, assistant, tool) and `content` (str); an assistant turn may carry
`thinking` (str) and `tool_calls` ([{"name": str, "arguments": dict}]); a tool turn is one answer."""

TOOL_FAULTS = ("side_effects", "invalid_calls", "invented_tools")
"""Parts of a verdict that tell what went wrong with tools, the same in every environment: less is better."""


@dataclass(frozen=True, slots=True)
class Task:
    """One item of an environment.

    Attributes:
        id: unique within the environment, split and seed.
        environment: its environment's name.
        template: the phrasing or structure it was made from; no template is in two splits.
        messages: what the policy is given: an optional system turn, then the user's.
        tools: JSON schemas of the tools on offer, {"name", "description", "parameters"}; empty for none.
        gold: what the judge needs; its keys are the environment's own.
        demonstration: assistant and tool turns that solve the task; empty when none is known.
    """

    id: str
    environment: str
    template: str
    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    gold: dict[str, Any] = field(default_factory=dict)
    demonstration: list[Message] = field(default_factory=list)


class World(Protocol):
    """The state behind a multi-turn task; the policy changes it by calling tools."""

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """The tool's answer as text. A wrong call is answered with an error text, never raised."""
        ...


class Environment(Protocol):
    """Where tasks come from and how they are judged.

    An environment whose tasks a verifier of `alloy.verify` can judge names it in `verifier` and offers
    `row(task, completion) -> dict`, the verifier's input: it is then judged in the killable pool. Any
    other offers `judge`; one with neither asks alone, and a reward model or a judge says what the answer is worth.

    One may also offer `describe(task) -> dict`: what evaluation groups its tasks by, the same keys for
    each, with texts or numbers as values.
    """

    name: str

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` tasks of a split, the same for the same seed; a longer list starts with the shorter."""
        ...

    def open(self, task: Task) -> World | None:
        """A fresh world for a task with tools; None where there is nothing to call."""
        ...

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """Judge the assistant and tool turns that a policy wrote, and the world that it left behind."""
        ...
