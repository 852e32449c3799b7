"""Reasoning Gym's own scorers, by the name of their task.

Some of them evaluate the answer as Python or hand it to a parser that does. For those an answer is
let through only when it is a literal, or an expression made of numbers, names of one letter and
known functions; anything else is scored as wrong without being looked at.
"""

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from alloy.verify.answer import answer_of, tagged_answers
from alloy.verify.verdict import Verdict, unparsable

_SAID = re.compile(r"(?:\banswer\s*(?:is|:)|^answer:?)[*_\s]*(.+)", re.IGNORECASE)
MAX_EVALUATED = 1_000
"""Characters of an answer that is evaluated."""


def verify_reasoning_gym(
    completion: str, dataset: str, entry: dict[str, Any], thinking_opened: bool = False
) -> Verdict:
    """The score, from 0 to 1, that the task's own scorer gives the answer.

    The answer is what stands in the last `<answer>` tags, else in the last box, else after the last
    "answer is" or "Answer:" when that is on the last line, else everything after the thinking.

    Args:
        dataset: the task's name in Reasoning Gym, such as `spell_backward`.
        entry: what the task generated, at least `answer` and `metadata`.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    try:
        score = _scorer(dataset)
    except ImportError:
        return Verdict(None, "error", "reasoning-gym is not installed. Install reasoning-gym.")
    except KeyError:
        return Verdict(None, "error", f"dataset = {dataset!r} is no task of Reasoning Gym.")
    text = answer_of(completion, thinking_opened)
    if text is None:
        return unparsable("the thinking was never closed")
    answer = stated_answer(text)
    if not answer:
        return unparsable("no answer found")
    guard = _GUARDS.get(dataset)
    if guard and answer != entry.get("answer") and not guard(answer):
        return unparsable("an answer of this task must be a plain expression or literal")
    try:
        reward = float(score(answer=answer, entry=entry))
    except Exception as error:
        return Verdict(None, "error", f"the scorer of {dataset} raised {type(error).__name__}: {error}"[:300])
    return Verdict(min(1.0, max(0.0, reward)), "ok", answer[:100])


def stated_answer(text: str) -> str:
    tagged = [content for _, content in tagged_answers(text)]
    if tagged:
        return tagged[-1]
    box = text.rfind("\\boxed{")
    if box >= 0 and "}" in text[box:]:
        return text[box + len("\\boxed{") : text.rindex("}")].strip()
    stripped = text.strip()
    said = _SAID.search(stripped.rpartition("\n")[2])
    return said[1].strip().strip("*_").rstrip(".") if said else stripped


@lru_cache(maxsize=256)
def _scorer(dataset: str) -> Callable[..., float]:
    """The task's scorer, without generating the task's data.

    Raises:
        KeyError: no such task.
    """
    from reasoning_gym.factory import DATASETS

    cls, config = DATASETS[dataset]
    scorer: Callable[..., float] = cls(config=config()).score_answer
    return scorer


def _is_literal(answer: str) -> bool:
    """A Python literal, or words and numbers only, which say nothing to an evaluator."""
    if re.fullmatch(r"[\w\s]*", answer):
        return True
    if len(answer) > 10 * MAX_EVALUATED:
        return False
    try:
        ast.literal_eval(answer)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return False
    return True


_FUNCTIONS = "sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|log|ln|exp|sqrt|Abs|pi|E|C"
_EXPRESSION = re.compile(
    rf"(?:(?:{_FUNCTIONS})(?![A-Za-z_])|[A-Za-z](?![A-Za-z_])|\d+(?:\.\d+)?|[-+*/^()\s,])*"
)
_ARITHMETIC = re.compile(r"(?:\d{1,6}(?:\.\d{1,6})?|[-+/()\s]|\*(?!\*))*")


def _is_expression(answer: str) -> bool:
    return (
        len(answer) <= MAX_EVALUATED
        and not re.search(r"(?:\*\*|\^)\s*\(?\s*\d{3,}", answer)
        and bool(_EXPRESSION.fullmatch(answer))
    )


def _is_arithmetic(answer: str) -> bool:
    return len(answer) <= MAX_EVALUATED and bool(_ARITHMETIC.fullmatch(answer))


_GUARDS: dict[str, Callable[[str], bool]] = {
    "string_insertion": _is_literal,
    "spiral_matrix": _is_literal,
    "binary_matrix": _is_literal,
    "n_queens": _is_literal,
    "simple_integration": _is_expression,
    "intermediate_integration": _is_expression,
    "polynomial_multiplication": _is_expression,
    "puzzle24": _is_arithmetic,
    "countdown": _is_arithmetic,
}
"""The tasks of reasoning-gym 0.1.25 whose scorers evaluate the answer, and what they may be given."""
