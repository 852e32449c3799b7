"""Files of public benchmarks, as they are published: math, multiple choice, code, instructions."""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from alloy.data.shapes import RowError
from alloy.data.sources import chunks, place, raw_rows
from alloy.environments.benchmark_formats import KINDS, adapt, find_kind
from alloy.environments.problems import ProblemsEnvironment
from alloy.environments.problems_rows import Problem
from alloy.environments.row_files import Place
from alloy.environments.task import Message, Split, Task
from alloy.errors import InputError
from alloy.verify.instructions import unsupported

_UNSUPPORTED = "unsupported"


class BenchmarkEnvironment(ProblemsEnvironment):
    """A benchmark's rows, all of them in the split test: it is measured on and not trained on.

    Rows with an instruction that no checker here knows are left out and counted by its name, in
    `left_out`; any other row that cannot be read is an error with file and line.

    Args:
        path: JSONL, JSONL.gz or Parquet, a dataset's name on the Hub, or the keys of a source.
        kind: math, choice, code or instructions; by the first row's keys when `auto`.
        columns: the benchmark's key to the file's, where they differ: {question: Frage, answer: Antwort}.
        template: what is asked, with {prompt} and {choices}; the kind's own when not given.
        shuffle: orders the choices of each row, another number in another way; null leaves them as they stand. A
            row in which a choice speaks of the others ("all of the above") is left as it is.

    Attributes:
        left_out: how many rows asked for each instruction that is not supported.
    """

    name = "benchmark"

    def __init__(
        self,
        path: Place,
        kind: str = "auto",
        columns: Mapping[str, str] | None = None,
        template: str | None = None,
        shuffle: int | None = 0,
    ) -> None:
        if kind not in (*KINDS, "auto"):
            raise InputError(f"kind = {kind!r}: take one of auto, {', '.join(KINDS)}.")
        super().__init__(paths={"test": path}, verifier="math")
        self.renamed, self.shuffle = dict(columns or {}), shuffle
        self.kind = self._first_kind() if kind == "auto" else kind
        self.verifier = self.kind
        self.form = self.form.__class__(self.kind, template=template or KINDS[self.kind].template)
        self.left_out: Counter[str] = Counter()
        self._labels: dict[str, dict[str, str]] = {}

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the contents of the file; of a Hub dataset, name and revision."""
        return ProblemsEnvironment.fingerprint({"path": options.get("path")})

    def tasks(self, split: Split, count: int | None, seed: int) -> list[Task]:
        """`count` rows in the seed's order, or all where there are fewer or no count is given.

        Raises:
            InputError: a bad row, or a split that has none.
        """
        there = len(self.problems[split])
        if not there:
            raise InputError(f"split = {split}: all rows of a benchmark are in the split test. Set that.")
        return super().tasks(split, there if count is None else min(count, there), seed)

    def describe(self, task: Task) -> dict[str, str]:
        """What the file says of a row: `level`, `subject`, `steps` and the like."""
        _ = self.problems
        return self._labels[task.template]

    @cached_property
    def problems(self) -> dict[Split, list[Problem]]:
        """The rows, read once.

        Raises:
            InputError: a missing file, or a bad row with file and line.
        """
        found = self.files.read(self._to_problem)
        kept = [problem for problem in found["test"] if _UNSUPPORTED not in problem.fields]
        if not kept:
            told = (
                f" Left out for instructions that are not supported: {dict(self.left_out)}."
                if self.left_out
                else ""
            )
            raise InputError(f"{self.files.sources['test'].name}: no row can be measured on.{told}")
        return {**found, "test": kept}

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": str(completion[-1].get("content") or ""), **task.gold}

    def _to_problem(self, raw: Any, where: str) -> Problem:
        if isinstance(raw, RowError):
            raise raw
        adapted = adapt(self.kind, self._rename(raw), self.shuffle)
        unknown = _unsupported(adapted.row) if self.kind == "instructions" else []
        if unknown:
            self.left_out.update(unknown)
            return Problem(where, where, [], {_UNSUPPORTED: unknown}, [])
        problem = self.form.to_problem(adapted.row, where)
        self._labels[problem.id] = adapted.labels
        return problem

    def _rename(self, raw: dict[str, Any]) -> dict[str, Any]:
        absent = [theirs for theirs in self.renamed.values() if theirs not in raw]
        if absent:
            raise RowError(f"columns: there is no {absent[0]!r} in {', '.join(sorted(raw))}. Correct it")
        return {**raw, **{ours: raw[theirs] for ours, theirs in self.renamed.items()}}

    def _first_kind(self) -> str:
        source = self.files.sources["test"]
        for chunk in chunks(source, 0):
            for number, raw in raw_rows(chunk):
                try:
                    if isinstance(raw, RowError):
                        raise raw
                    return find_kind(self._rename(raw))
                except RowError as error:
                    raise InputError(
                        f"{place(source, number)}: {error}. Set `kind`, or say with `columns` which is which."
                    ) from None
        raise InputError(f"{source.name}: there are no rows in it.")


def _unsupported(row: Mapping[str, Any]) -> list[str]:
    names = row["instruction_id_list"]
    return sorted(set(unsupported(names))) if isinstance(names, list) else []
