"""The verifiers by name, each with the schema of its rows."""

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alloy.errors import InputError
from alloy.named import load_named
from alloy.verify.schema_errors import explain
from alloy.verify.verdict import Verdict

Judge = Callable[[dict[str, Any]], Verdict]


class Row(BaseModel):
    """What a verifier reads; keys that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class CompletionRow(Row):
    completion: str
    thinking_opened: bool = False
    """The prompt ended with an opened thinking tag, so the completion starts within the thinking."""


class MathRow(CompletionRow):
    gold: str


class InstructionsRow(CompletionRow):
    instruction_id_list: list[str]
    kwargs: list[dict[str, Any] | None]
    loose: bool = False
    """Take the reward from the loose reading."""


class ChoiceRow(CompletionRow):
    gold: str
    choices: list[str] | None = None


class SchemaRow(CompletionRow):
    json_schema: dict[str, Any] = Field(alias="schema")


class FormatRow(Row):
    completion: str
    thinking: bool = True
    thinking_opened: bool | None = None


class LengthRow(CompletionRow):
    minimum: int = Field(0, ge=0)
    maximum: int | None = Field(None, ge=0)
    unit: Literal["tokens", "words", "characters"] = "words"
    part: Literal["answer", "thinking", "completion"] = "answer"
    tokens: int | None = Field(None, ge=0)


class ReasoningGymRow(CompletionRow):
    """The entry as the task generated it, or its `answer` and `metadata` on their own."""

    dataset: str
    entry: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _gather_entry(cls, row: Any) -> Any:
        if isinstance(row, dict) and "entry" not in row and "answer" in row:
            return row | {"entry": {key: row.get(key) for key in ("question", "answer", "metadata")}}
        return row


class CodeRow(CompletionRow):
    """`tests` are code that raises when it fails, `inputs` pairs of standard input and output."""

    tests: list[str] = Field(default_factory=list)
    inputs: list[tuple[str, str]] = Field(default_factory=list)
    entry_point: str | None = None
    prompt: str = ""
    seconds: float = Field(5.0, gt=0)
    """Of all tests together; keep it below the pool's limit, or what never ends is nobody's fault."""
    memory_mib: int = Field(512, gt=0)


class WorkbenchRow(BaseModel):
    """Checked by the environment itself, which owns the rules."""

    model_config = ConfigDict(extra="allow")

    data: str
    """The folder with the benchmark's files."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A verifier: the schema of its rows, and how a row that satisfies it is judged.

    `prepare` imports what judging needs, so that no row's time limit pays for it.
    """

    row: type[BaseModel]
    judge: Callable[[Any], Verdict]
    prepare: Callable[[], None] = lambda: None

    def __call__(self, row: dict[str, Any]) -> Verdict:
        """Judge a row; one that breaks the schema is an `error` that names the key."""
        try:
            checked = self.row.model_validate(row)
        except ValidationError as error:
            return Verdict(None, "error", explain(error))
        return self.judge(checked)


def _math(row: MathRow) -> Verdict:
    from alloy.verify.math import verify_math

    return verify_math(row.completion, row.gold, row.thinking_opened)


def _prepare_math() -> None:
    from alloy.verify import math, symbolic

    assert math
    symbolic.warm_up()


def _instructions(row: InstructionsRow) -> Verdict:
    from alloy.verify.instructions import verify_instructions

    if len(row.kwargs) != len(row.instruction_id_list):
        detail = f"kwargs has {len(row.kwargs)} items for {len(row.instruction_id_list)} instructions"
        return Verdict(None, "error", detail)
    kwargs = [given or {} for given in row.kwargs]
    return verify_instructions(
        row.completion, row.instruction_id_list, kwargs, row.loose, row.thinking_opened
    )


def _prepare_instructions() -> None:
    from alloy.verify import instructions, language, sentences

    assert instructions
    sentences.model()
    with contextlib.suppress(language.DetectorMissing):
        language.detect_language("This reads the profiles of all languages.")


def _choice(row: ChoiceRow) -> Verdict:
    from alloy.verify.choice import verify_choice

    return verify_choice(row.completion, row.gold, row.choices, row.thinking_opened)


def _schema(row: SchemaRow) -> Verdict:
    from alloy.verify.schema import verify_schema

    return verify_schema(row.completion, row.json_schema, row.thinking_opened)


def _prepare_schema() -> None:
    import jsonschema

    assert jsonschema


def _format(row: FormatRow) -> Verdict:
    from alloy.verify.format import verify_format

    return verify_format(row.completion, row.thinking, row.thinking_opened)


def _length(row: LengthRow) -> Verdict:
    from alloy.verify.length import verify_length

    return verify_length(
        row.completion, row.minimum, row.maximum, row.unit, row.part, row.tokens, row.thinking_opened
    )


def _reasoning_gym(row: ReasoningGymRow) -> Verdict:
    from alloy.verify.reasoning_gym import verify_reasoning_gym

    return verify_reasoning_gym(row.completion, row.dataset, row.entry, row.thinking_opened)


def _prepare_reasoning_gym() -> None:
    import reasoning_gym

    assert reasoning_gym


def _code(row: CodeRow) -> Verdict:
    from alloy.verify.code import verify_code
    from alloy.verify.sandbox import Limits

    limits = Limits(
        seconds=row.seconds,
        cpu_seconds=ceil(row.seconds),
        memory_bytes=row.memory_mib * 2**20,
    )
    return verify_code(
        row.completion, row.tests, row.inputs, row.entry_point, row.prompt, limits, row.thinking_opened
    )


def _prepare_code() -> None:
    from alloy.verify import code, sandbox

    assert code
    sandbox.isolation()


def _workbench(row: WorkbenchRow) -> Verdict:
    workbench = importlib.import_module("alloy.environments.workbench")
    judge = _row_verifiers.get(row.data) or workbench.row_verifier(Path(row.data))
    _row_verifiers[row.data] = judge
    return cast(Verdict, judge(row.model_extra or {}))


_row_verifiers: dict[str, Judge] = {}

VERIFIERS: dict[str, Verifier] = {
    "math": Verifier(MathRow, _math, _prepare_math),
    "instructions": Verifier(InstructionsRow, _instructions, _prepare_instructions),
    "choice": Verifier(ChoiceRow, _choice),
    "schema": Verifier(SchemaRow, _schema, _prepare_schema),
    "code": Verifier(CodeRow, _code, _prepare_code),
    "format": Verifier(FormatRow, _format),
    "length": Verifier(LengthRow, _length),
    "reasoning_gym": Verifier(ReasoningGymRow, _reasoning_gym, _prepare_reasoning_gym),
    "workbench": Verifier(WorkbenchRow, _workbench),
}


def resolve(name: str) -> Judge:
    """A verifier of the registry, or the function `package.module:function` of a row.

    Raises:
        InputError: neither is there.
    """
    if name in VERIFIERS:
        return VERIFIERS[name]
    if ":" not in name:
        raise InputError(f"{name!r} is no verifier. Known: {', '.join(sorted(VERIFIERS))}.")
    return cast(Judge, load_named(name, "verifier"))


def prepare(name: str) -> None:
    """Import what a verifier needs, ahead of the first row."""
    judge = resolve(name)
    if isinstance(judge, Verifier):
        judge.prepare()


def judge_row(name: str, row: dict[str, Any]) -> Verdict:
    """Judge one row; whatever the verifier raises is an `error`."""
    try:
        return resolve(name)(row)
    except Exception as error:
        return Verdict(None, "error", f"{type(error).__name__}: {error}"[:300])
