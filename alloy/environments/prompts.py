"""The user's own prompts, with nothing that judges the answer: for RLHF, where a reward model or a judge does."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alloy.artifact import fingerprint_json
from alloy.data.preference_shapes import to_preference
from alloy.data.shapes import RowError, shape_of
from alloy.environments.row_files import SHARES, Place, RowFiles, fingerprint_rows, turns_of
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

NEEDED = (
    "`prompt` (a text, or turns that end with the user's), a conversation (`messages`, `conversations`) or a "
    "preference pair (`chosen` and `rejected`)"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row.

    Attributes:
        id: of its turns, whatever file they stand in.
        where: file and line.
    """

    id: str
    where: str
    messages: list[Message]


class PromptsEnvironment:
    """Rows of files as prompts. There is no verdict: a suite of them is measured by win rates.

    A row has `prompt`, a text or a list of turns that ends with the user's; or it is a conversation as SFT
    reads it, of which what follows the last user turn is left out; or a preference pair, whose two answers
    are.

    Args:
        path, paths, shares: where the rows are, as for `problems`.
        columns: ours to theirs: {prompt: question, system: instructions}.
        system: a system prompt for the rows that have none of their own, as a turn or in a column `system`.
        max_rejected_share: of bad rows, which are left out and counted.
    """

    name = "prompts"

    def __init__(
        self,
        path: Place | None = None,
        paths: Mapping[str, Place] | None = None,
        shares: Mapping[str, float] = SHARES,
        columns: Mapping[str, str] | None = None,
        system: str | None = None,
        max_rejected_share: float = 0.01,
    ) -> None:
        self.files = RowFiles(path, paths, shares, max_rejected_share)
        self.columns, self.system = dict(columns or {}), system

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the contents of the files that the options name; of a Hub dataset, name and revision."""
        return fingerprint_rows(options)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different prompts of a split in the seed's order.

        Raises:
            InputError: more bad rows than are allowed, or fewer rows than that.
        """
        return [
            Task(f"{self.name}/{split}/{row.id}", self.name, row.id, row.messages)
            for row in self.files.draw(self.rows[split], split, count, seed)
        ]

    def open(self, task: Task) -> World | None:
        return None

    @cached_property
    def rows(self) -> dict[Split, list[Prompt]]:
        """The rows of every split, read once."""
        found = self.files.read(self._prompt)
        absent = [theirs for theirs in self.columns.values() if theirs not in self.files.columns]
        if absent:
            told = ", ".join(sorted(self.files.columns)) or "none"
            raise InputError(f"columns: no row has {absent[0]!r}; there are {told}. Correct it.")
        return found

    def _prompt(self, raw: Any, where: str) -> Prompt:
        """Raises:
        RowError: what is wrong with a row.
        """
        if isinstance(raw, RowError):
            raise raw
        row = {key: value for key, value in raw.items() if key not in self.columns.values()}
        row |= {ours: raw.get(theirs) for ours, theirs in self.columns.items()}
        turns = _asked(row)
        system = row.get("system") or self.system
        if not isinstance(system, str | None):
            raise RowError(f"system is {type(system).__name__}, a text is needed")
        if system and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": system}, *turns]
        return Prompt(fingerprint_json(turns)[:24], where, turns)


def _asked(row: dict[str, Any]) -> list[Message]:
    """The turns up to the user's last one.

    Raises:
        RowError: there is none, or tools are offered, whose calls nobody would answer.
    """
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        return turns_of(prompt)
    if isinstance(prompt, str):
        if not prompt.strip():
            raise RowError("`prompt` is empty")
        return [{"role": "user", "content": prompt}]
    if prompt is not None:
        raise RowError(f"`prompt` is {type(prompt).__name__}, a text or a list of turns is needed")
    if row.get("chosen") is not None:
        pair = to_preference(row, "auto", {})
        if pair is None:
            raise RowError("chosen and rejected are equal: where the prompt ends cannot be told")
        turns, tools = pair.prompt, []
    elif row.get("messages") is not None or row.get("conversations") is not None:
        found = shape_of(row)(row)
        turns, tools = found.messages, found.tools
    else:
        raise RowError(
            f"has {', '.join(sorted(row)) or 'nothing'}, and needs {NEEDED}. Say with `columns` which is which"
        )
    if tools or any(turn.get("tool_calls") for turn in turns):
        raise RowError("it offers tools, whose calls nobody answers here")
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
    if last is None:
        raise RowError("it has no user turn")
    return turns[: last + 1]
