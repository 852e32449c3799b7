"""The user's own rows, with any verifier: the way to bring data to GRPO and to evaluation."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from alloy.chat import THINK_CLOSE, THINK_OPEN
from alloy.data.shapes import RowError
from alloy.environments.problems_rows import Form, Problem
from alloy.environments.python_tool import PYTHON_TOOL, open_world
from alloy.environments.row_files import SHARES, Place, RowFiles, fingerprint_rows
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

TOOLS = {"python": PYTHON_TOOL}


class ProblemsEnvironment:
    """Rows of files as tasks, each judged by a verifier with what its columns say.

    A split that `paths` does not name is cut from train, by a hash of what a row asks: a question is in
    one split for good, however rows are added, moved or worded. What is asked in another split, too, is
    dropped from train (from validation, when it is in test). Of rows that ask and say the same the
    first is kept. `counts` has what became of the rows.

    Args:
        path: where all rows are; or
        paths: by split: {train: ..., test: ...}.
        shares: of the rows of train, for the splits that are cut from it.
        verifier: any of `alloy.verify` but workbench.
        columns: ours to theirs: {prompt: question, gold: answer}; the verifier's fields and `prompt`,
            `thinking` and, for verifiers without a gold that can be said, `solution`.
        answer_after: text in the gold column after which the gold stands; what stands before it is the
            demonstration's thinking.
        template: what is asked, with {prompt} and {choices}; the prompt, and the choices below it.
        tools: on offer: python.
        max_rejected_share: of the rows; more bad ones are an error, fewer are left out and counted.
    """

    name = "problems"

    def __init__(
        self,
        path: Place | None = None,
        paths: Mapping[str, Place] | None = None,
        shares: Mapping[str, float] = SHARES,
        verifier: str = "math",
        columns: Mapping[str, str] | None = None,
        answer_after: str | None = None,
        template: str | None = None,
        tools: Sequence[str] = (),
        max_rejected_share: float = 0.0,
    ) -> None:
        self.files = RowFiles(path, paths, shares, max_rejected_share)
        self.counts = self.files.counts
        self.verifier = verifier
        self.form = Form(verifier, columns or {}, answer_after, template)
        unknown = [tool for tool in tools if tool not in TOOLS]
        if isinstance(tools, str) or unknown:
            raise InputError(f"tools = {tools!r}: take some of {', '.join(TOOLS)}, or none: [].")
        self.tools = [TOOLS[tool] for tool in tools]

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the contents of the files that the options name; of a Hub dataset, name and revision.

        Raises:
            InputError: the options name none, or one that is not there.
        """
        return fingerprint_rows(options)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different rows of a split in the seed's order.

        Raises:
            InputError: a bad row, or fewer rows than that.
        """
        drawn = self.files.draw(self.problems[split], split, count, seed)
        return [self._task(split, problem) for problem in drawn]

    def open(self, task: Task) -> World | None:
        return open_world(task.tools)

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        turn = completion[-1]
        answer, thinking = str(turn.get("content") or ""), turn.get("thinking")
        if self.verifier == "format":
            return {"completion": _written(answer, thinking), "thinking": bool(thinking), **task.gold}
        if self.verifier == "length":
            return {"completion": _written(answer, thinking), **task.gold}
        return {"completion": answer, **task.gold}

    def _task(self, split: Split, problem: Problem) -> Task:
        return Task(
            id=f"{self.name}/{split}/{problem.id}",
            environment=self.name,
            template=problem.id,
            messages=problem.messages,
            tools=self.tools,
            gold=problem.fields,
            demonstration=problem.demonstration,
        )

    @cached_property
    def problems(self) -> dict[Split, list[Problem]]:
        """The rows of every split, read once.

        Raises:
            InputError: a missing file, more bad rows than are allowed, or a column that no row has.
        """
        found = self.files.read(self.form.to_problem, _refuse_other_gold)
        seen = self.files.columns
        absent = [theirs for theirs in self.form.columns.values() if theirs not in seen]
        if absent:
            raise InputError(
                f"columns: no row has {absent[0]!r}; there are {', '.join(sorted(seen)) or 'none'}. Correct it."
            )
        return found


def _refuse_other_gold(problem: Problem, earlier: Problem) -> None:
    if problem.fields != earlier.fields:
        raise RowError(f"asks the same as {earlier.where}, and is to be judged otherwise")


def _written(answer: str, thinking: str | None) -> str:
    """A turn as the model wrote it, for verifiers that look at its thinking."""
    return f"{THINK_OPEN}\n{thinking}\n{THINK_CLOSE}\n{answer}" if thinking else answer
