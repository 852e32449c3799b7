"""The user's rows as problems: which columns mean what, and what a row must have for its verifier."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from alloy.artifact import fingerprint_json
from alloy.data.shapes import RowError
from alloy.environments.row_files import turns_of
from alloy.environments.task import Message
from alloy.errors import InputError
from alloy.verify.choice import gold_letter
from alloy.verify.registry import VERIFIERS, judge_row

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STATED = ("math", "choice")
"""Verifiers whose gold is an answer that can be said; what the others want is in `solution`."""
_NOT_IN_FILES = ("completion", "thinking_opened", "thinking", "tokens", "prompt")
"""Of a verifier's row: what only a completion has, and names that mean something else here."""
_MORE_COLUMNS = {"code": ("code_prompt",), "reasoning_gym": ("question", "answer", "metadata")}
_JSON = ("schema", "kwargs", "instruction_id_list", "choices", "inputs", "entry", "metadata")
"""Objects and lists; files of flat columns have them as text."""
_HOLE = re.compile(r"\{(prompt|choices)\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One row.

    Attributes:
        id: of what it asks, whatever file it stands in and however a template words it.
        where: file and line.
        fields: of the verifier's row, without the completion.
        demonstration: a turn that solves it; empty when none is known.
    """

    id: str
    where: str
    messages: list[Message]
    fields: dict[str, Any]
    demonstration: list[Message]


@dataclass(frozen=True)
class Form:
    """How rows become problems.

    Attributes:
        columns: ours to theirs; a name that is not there is its own.
        answer_after: the text in the gold column after which the gold stands, e.g. "####".
        template: what is asked, with {prompt} and, where there are any, {choices}.
    Raises:
        InputError: on making it, when one of them does not fit the verifier.
    """

    verifier: str
    columns: Mapping[str, str] = field(default_factory=dict)
    answer_after: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        usable = [name for name in VERIFIERS if name != "workbench"]
        if self.verifier not in usable:
            raise InputError(f"verifier = {self.verifier!r}: take one of {', '.join(usable)}.")
        unknown = [name for name in self.columns if name not in self.known]
        if unknown:
            raise InputError(f"columns.{unknown[0]}: {self.verifier} reads {', '.join(self.known)}.")
        if self.answer_after is not None and ("gold" not in self.known or not self.answer_after):
            raise InputError(
                f"answer_after = {self.answer_after!r}: {self.verifier} has no gold after a text."
            )
        if self.template is not None:
            if "{prompt}" not in self.template:
                raise InputError(
                    f"template = {self.template!r}: {{prompt}} is needed, where the question goes."
                )
            if "{choices}" in self.template and "choices" not in self.known:
                raise InputError(f"template = {self.template!r}: {self.verifier} has no {{choices}}.")

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Our names of the columns that are read."""
        own = ("prompt", "thinking") if self.verifier in _STATED else ("prompt", "thinking", "solution")
        return (*own, *self._verified)

    @cached_property
    def _verified(self) -> tuple[str, ...]:
        fields = VERIFIERS[self.verifier].row.model_fields.items()
        names = [info.alias or name for name, info in fields]
        return (
            *(name for name in names if name not in _NOT_IN_FILES),
            *_MORE_COLUMNS.get(self.verifier, ()),
        )

    def to_problem(self, raw: Any, where: str) -> Problem:
        """A row as it stands in its file, as a problem.

        Raises:
            RowError: what is wrong with it.
        """
        if isinstance(raw, RowError):
            raise raw
        row = {ours: raw[theirs] for ours in self.known if (theirs := self._theirs(ours)) in raw}
        row = {ours: value for ours, value in row.items() if value is not None}
        if "prompt" not in row or (self.answer_after is not None and "gold" not in row):
            missing = "gold" if "prompt" in row else "prompt"
            raise RowError(
                f"has {', '.join(sorted(raw)) or 'nothing'}, and its {missing} is to be in "
                f"`{self._theirs(missing)}`. Say with `columns` which is which"
            )
        fields, thinking = self._fields(row)
        asked, turns = self._asked(row["prompt"], fields.get("choices"))
        return Problem(
            id=fingerprint_json(asked)[:16],
            where=where,
            messages=turns,
            fields=fields,
            demonstration=self._demonstration(row, fields, thinking),
        )

    def _theirs(self, ours: str) -> str:
        return self.columns.get(ours, ours)

    def _fields(self, row: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The verifier's fields, and the reasoning that stands before the gold.

        Raises:
            RowError: the verifier cannot judge with them.
        """
        fields = {name: _read(name, row[name]) for name in self._verified if name in row}
        if "code_prompt" in fields:
            fields["prompt"] = fields.pop("code_prompt")
        before = ""
        if self.answer_after is not None:
            text = str(fields["gold"])
            before, mark, gold = text.rpartition(self.answer_after)
            if not mark:
                raise RowError(f"`{self._theirs('gold')}` has no {self.answer_after!r}: {text[-80:]!r}")
            fields["gold"] = gold.strip()
        if "gold" in fields:
            fields["gold"] = _gold(fields["gold"], self.verifier, fields.get("choices"))
        self._check(fields)
        return fields, before.strip()

    def _check(self, fields: dict[str, Any]) -> None:
        """The verifier's own word on the row, with nothing to judge: that costs no sandbox and no time."""
        if self.verifier == "math":
            # Reading a formula takes milliseconds: rows without number are read when they are judged.
            if not isinstance(fields.get("gold"), str) or not fields["gold"].strip():
                raise RowError(
                    f"`{self._theirs('gold')}` = {fields.get('gold')!r}: a text or number is needed"
                )
            return
        verdict = judge_row(self.verifier, {**fields, "completion": ""})
        if verdict.status in ("error", "timeout"):
            raise RowError(f"{self.verifier}: {verdict.detail.rstrip('.')}")

    def _asked(self, prompt: Any, choices: list[str] | None) -> tuple[Any, list[Message]]:
        """What identifies a problem, and the turns that ask it.

        The template is no part of the identity: the same question stays in its split when it is worded anew.
        """
        if isinstance(prompt, list):
            if self.template is not None:
                raise RowError(f"`{self._theirs('prompt')}` is a list of turns: a template takes a text")
            turns = turns_of(prompt, self._theirs("prompt"))
            return [turns, choices], turns
        if not isinstance(prompt, str) or not prompt.strip():
            raise RowError(f"`{self._theirs('prompt')}` = {prompt!r}: a text or a list of turns is needed")
        template = self.template or ("{prompt}\n{choices}" if choices else "{prompt}")
        if "{choices}" in template and not choices:
            raise RowError(f"`{self._theirs('choices')}` is not there, and the template has {{choices}}")
        listed = "\n".join(f"{letter}) {text}" for letter, text in zip(_LETTERS, choices or (), strict=False))
        # In one pass, so that braces in a question stay what they are.
        text = _HOLE.sub(lambda hole: prompt if hole[1] == "prompt" else listed, template)
        return [" ".join(prompt.split()), choices], [{"role": "user", "content": text}]

    def _demonstration(self, row: dict[str, Any], fields: dict[str, Any], before: str) -> list[Message]:
        content = row.get("solution")
        if self.verifier == "math":
            gold = fields["gold"]
            content = f"The answer is {f'${gold}$' if _is_formula(gold) else gold}."
        elif self.verifier == "choice":
            content = gold_letter(fields["gold"], fields.get("choices") or ())
        if content is None:
            return []
        thinking = row.get("thinking", before)
        for name, text in (("solution", content), ("thinking", thinking)):
            if not isinstance(text, str):
                raise RowError(f"`{self._theirs(name)}` is {type(text).__name__}, a text is needed")
        turn: Message = {"role": "assistant", "content": content}
        return [turn | ({"thinking": thinking} if thinking.strip() else {})]


def _is_formula(gold: str) -> bool:
    """LaTeX that no dollar signs set apart from the sentence around it."""
    return "\\" in gold and "$" not in gold


def _read(name: str, value: Any) -> Any:
    """A column's value as the verifier takes it."""
    if name == "tests" and isinstance(value, str):
        return [value]
    if name in _JSON and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(f"{name} is a text and no JSON ({error}): {value[:60]!r}") from None
    return value


def _gold(gold: Any, verifier: str, choices: Any) -> Any:
    """A number as the text of it; of a choice it is the place in the list, from 0."""
    if isinstance(gold, bool) or not isinstance(gold, int | float):
        return gold
    if verifier != "choice":
        return str(gold)
    last = len(choices) - 1 if isinstance(choices, list) and choices else 9
    if not isinstance(gold, int) or not 0 <= gold <= last:
        raise RowError(f"gold = {gold}: a number is a choice's place, from 0 to {last}")
    return _LETTERS[gold]
