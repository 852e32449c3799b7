"""Rows of public benchmarks, as they are published, in the columns that `problems` reads.

Each kind knows the layouts in which its benchmarks come; which one a row has is told by its keys.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alloy.data.shapes import RowError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Adapted:
    """A row in our columns, and what evaluation groups it by."""

    row: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of benchmark.

    Attributes:
        layouts: the keys that a row has, one tuple a layout; alternatives of one key stand as `a|b`.
        adapt: makes our columns of a row that has one of them; the number orders the choices, None leaves them.
        template: what is asked where nothing else is given.
    """

    layouts: tuple[tuple[str, ...], ...]
    adapt: Callable[[Row, int | None], dict[str, Any]]
    template: str | None = None

    def fits(self, row: Row) -> bool:
        return any(all(_first(row, key) is not None for key in layout) for layout in self.layouts)


def find_kind(row: Row) -> str:
    """The kind whose keys a row has.

    Raises:
        RowError: none; with the keys of all.
    """
    for name, kind in KINDS.items():
        if kind.fits(row):
            return name
    known = "; ".join(f"{name}: {_layouts(kind)}" for name, kind in KINDS.items())
    raise RowError(f"has {', '.join(sorted(row)) or 'nothing'}, and no kind of benchmark has that ({known})")


def adapt(kind: str, row: Row, shuffle: int | None) -> Adapted:
    """A row in our columns.

    Args:
        shuffle: orders the choices of a row; None leaves them as they stand.
    Raises:
        RowError: a key is missing or holds what it cannot.
    """
    if not KINDS[kind].fits(row):
        raise RowError(
            f"has {', '.join(sorted(row)) or 'nothing'}, and a row of {kind} has {_layouts(KINDS[kind])}. Say with "
            "`columns` which is which"
        )
    return Adapted(KINDS[kind].adapt(row, shuffle), _labels(kind, row))


def _layouts(kind: Kind) -> str:
    return " or ".join(", ".join(layout) for layout in kind.layouts)


def _first(row: Row, key: str) -> Any:
    """The value of the first alternative that a row has; None where it has none."""
    return next((row[name] for name in key.split("|") if row.get(name) is not None), None)


_PROMPT = "prompt|problem|question|Problem|Question"
_GOLD = "gold|answer_number|answer|Answer|solution|Solution"


def _math(row: Row, _: int | None) -> dict[str, Any]:
    # A worked solution that ends in #### or a box is a gold answer that the verifier reads itself.
    return {"prompt": _first(row, _PROMPT), "gold": _first(row, _GOLD)}


def _choice(row: Row, shuffle: int | None) -> dict[str, Any]:
    question = _first(row, "prompt|question|Question")
    passage = row.get("flores_passage")
    choices, right = _choices(row)
    if shuffle is not None and not any(_REFERS.search(choice) for choice in choices):
        order = list(range(len(choices)))
        random.Random(f"{shuffle}/{question}/{sorted(choices)}").shuffle(order)
        choices, right = [choices[place] for place in order], order.index(right)
    return {
        "prompt": f"{passage}\n\n{question}" if passage else question,
        "choices": choices,
        "gold": _LETTERS[right],
    }


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_REFERS = re.compile(
    r"(?i)\b(?:above|below|(?:all|none|both|neither) of (?:these|them)|both [a-j] and [a-j])\b"
)
"""A choice that speaks of the others has its place among them."""


def _choices(row: Row) -> tuple[list[str], int]:
    """The texts, and the place of the right one.

    Raises:
        RowError: no list of texts, or an answer that is none of them.
    """
    listed: Any = _first(row, "choices|options")
    answer = _first(row, "gold|answer|answerKey|Answer")
    labels: Any = _LETTERS
    if isinstance(listed, Mapping):
        labels, listed = listed.get("label") or (), listed.get("text")
    elif "Correct Answer" in row:
        listed, answer = [row[key] for key in _GPQA], 0
    elif "mc_answer1" in row:
        listed, labels = [row[f"mc_answer{n}"] for n in range(1, 5)], ["1", "2", "3", "4"]
        answer = str(row["correct_answer_num"])
    elif listed is None:
        listed = [row[letter] for letter in _LETTERS if isinstance(row.get(letter), str)]
    if not isinstance(listed, list) or not 2 <= len(listed) <= len(_LETTERS):
        raise RowError(f"choices = {listed!r}: a list of 2 to {len(_LETTERS)} texts is needed")
    texts = [choice.strip() if isinstance(choice, str) else str(choice) for choice in listed]
    return texts, _place(answer, texts, labels)


_GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def _place(answer: Any, texts: list[str], labels: Sequence[Any]) -> int:
    """Where the right choice stands: by number from 0, by its label, or by its text."""
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return answer
    said = str(answer).strip()
    marks = [str(label) for label in labels[: len(texts)]]
    if said.strip("().") in marks:
        return marks.index(said.strip("()."))
    if said in texts:
        return texts.index(said)
    raise RowError(
        f"the answer {answer!r} is none of the {len(texts)} choices: a place from 0, a letter or a text is needed"
    )


def _code(row: Row, _: int | None) -> dict[str, Any]:
    if "test_list" not in row:
        fence = f"```python\n{row['prompt']}{row.get('canonical_solution') or ''}\n```"
        shaped = {"prompt": row["prompt"], "code_prompt": row["prompt"], "tests": [row["test"]]}
        shaped["entry_point"] = row["entry_point"]
        return shaped | ({"solution": fence} if row.get("canonical_solution") else {})
    tests, setup = row["test_list"], row.get("test_setup_code") or row.get("test_imports") or ""
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests) or not tests:
        raise RowError(f"test_list = {tests!r}: a list of tests is needed")
    before = "\n".join(setup) if isinstance(setup, list) else str(setup)
    shaped = {
        "prompt": "{}\nYour code should pass these tests:\n{}".format(
            _first(row, "text|prompt"), "\n".join(tests)
        ),
        "tests": [f"{before}\n{test}".lstrip() for test in tests],
    }
    return shaped | ({"solution": f"```python\n{row['code']}\n```"} if row.get("code") else {})


def _instructions(row: Row, _: int | None) -> dict[str, Any]:
    return {key: row[key] for key in ("prompt", "instruction_id_list", "kwargs")}


# The first that fits is taken: the more special stand first.
KINDS: dict[str, Kind] = {
    "instructions": Kind((("prompt", "instruction_id_list", "kwargs"),), _instructions),
    "code": Kind(
        (("prompt", "test", "entry_point"), ("text|prompt", "test_list")),
        _code,
        "Write this in Python. Answer with the whole program in one code block.\n\n{prompt}",
    ),
    "choice": Kind(
        (
            ("prompt|question", "choices|options", "gold|answer|answerKey"),
            ("Question", *_GPQA),
            ("question|Question", "A", "B", "answer|Answer"),
            ("question", "mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4", "correct_answer_num"),
        ),
        _choice,
        "{prompt}\n\n{choices}\n\nGive the letter of the right answer in \\boxed{}.",
    ),
    "math": Kind(
        ((_PROMPT, _GOLD),), _math, "{prompt}\n\nReason step by step, and give the final answer in \\boxed{}."
    ),
}

_LABELS = {
    "level": "level",
    "difficulty": "difficulty",
    "Writer's Difficulty Estimate": "difficulty",
    "subject": "subject",
    "Subject": "subject",
    "category": "category",
    "High-level domain": "domain",
    "language": "language",
}


def _labels(kind: str, row: Row) -> dict[str, str]:
    found = {
        ours: str(row[theirs])
        for theirs, ours in _LABELS.items()
        if isinstance(row.get(theirs), str | int) and str(row[theirs]).strip()
    }
    if kind == "math" and isinstance(row.get("answer"), str) and "####" in row["answer"]:
        # GSM8K marks the calculations of a worked answer, or has one a line.
        worked = row["answer"].partition("####")[0].strip()
        found["steps"] = str(worked.count("<<") or len(worked.splitlines()) or 1)
    return found
