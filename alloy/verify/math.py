"""Mathematical answers: does the answer that a completion states equal the gold one?"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from alloy.verify.answer import answer_of
from alloy.verify.quantity import Quantity, plain, read_quantity, same_quantity
from alloy.verify.stated import Statement, numbers_in, statements
from alloy.verify.symbolic import TooLarge, parse, same_expression
from alloy.verify.verdict import Verdict, unparsable


@dataclass(frozen=True, slots=True)
class Reading:
    """What a stated answer says: a quantity, an expression (perhaps too large to evaluate), or words."""

    text: str
    quantity: Quantity | None = None
    expression: Any = None
    too_large: str = ""

    @property
    def is_words(self) -> bool:
        return self.quantity is None and self.expression is None and not self.too_large


def verify_math(completion: str, gold: str, thinking_opened: bool = False) -> Verdict:
    """Reward 1 when the last answer that a completion states equals `gold`, else 0.

    Stated means boxed, in `<answer>` tags, after `####`, or in a sentence such as "The answer is
    42."; a completion with none of these is taken at its last formula or number. Thinking is not
    looked at. Numbers are compared whole, exactly or rounded to six places when written as decimals
    (see `same_quantity`, also for percentages and units); anything else as math-verify compares it;
    words without regard to case and articles.

    Args:
        gold: bare LaTeX, `$...$`, words, a number with thousands commas, a fraction, an interval,
            a tuple, or a worked solution that ends in `#### 42` or `\\boxed{42}`.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    right = read_gold(gold)
    if right is None:
        return Verdict(None, "error", "gold is empty")
    answer = answer_of(completion, thinking_opened)
    if answer is None:
        return unparsable("the thinking was never closed")
    for statement in statements(answer):
        read = _read(statement)
        if right.is_words or not read.is_words or _same_text(right, read):
            return _judge(right, read)
    return unparsable("no answer found")


def _judge(right: Reading, read: Reading) -> Verdict:
    shown = read.text if len(read.text) <= 100 else read.text[:97] + "..."
    if _same_text(right, read):
        return Verdict(1.0, "ok", shown)
    if read.too_large:
        return unparsable(f"not evaluated, {read.too_large}: {shown}")
    if right.too_large:
        return Verdict(None, "error", f"gold: not evaluated, {right.too_large}")
    return Verdict(float(_same(right, read)), "ok", shown)


def _same(right: Reading, read: Reading) -> bool:
    if right.quantity and read.quantity:
        return same_quantity(right.quantity, read.quantity)
    gold, answer = _expression(right), _expression(read)
    if gold is None or answer is None:
        return False
    try:
        return same_expression(gold, answer)
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError):
        return False


def _expression(reading: Reading) -> Any:
    """The expression; of a quantity too, when it is compared with something that is none."""
    return _parse(reading.text)[0] if reading.quantity else reading.expression


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Reading | None:
    """What the gold answer says; None when it is empty."""
    text = gold.strip()
    if not text:
        return None
    if "####" in text or "\\boxed" in text or "<answer>" in text:
        text = next((statement.text for statement in statements(text)), text)
    return _read(Statement(text.strip().strip("$").strip(), True))


@lru_cache(maxsize=4096)
def _read(statement: Statement) -> Reading:
    text = statement.text
    quantity = read_quantity(text)
    if quantity:
        return Reading(text, quantity)
    if not statement.formula:
        return _read_running_text(text)
    expression, too_large = _parse(text)
    return Reading(text, None, expression, too_large)


_WORDS = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|pi|sin|cos|tan|log|ln|inf|oo|infinity|or|and)\b)[A-Za-z]{2,}")
_ASIDE = re.compile(r"\s\((?:or|i\.e\.|that is|about|approximately|approx\.?|≈)\s[^()]*\)")
_HEDGED = re.compile(r"\b(?:or|and|to)\b|,\s")


def _read_running_text(text: str) -> Reading:
    """Words around one number leave the number; several joined by "or" or "and" stay several."""
    text = text.strip().rstrip("!")
    trimmed = re.sub(
        r"^(?:approximately|about|exactly|roughly|equal to|around|just|only)\s+", "", text, flags=re.I
    )
    trimmed = _ASIDE.sub("", trimmed)
    quantity = read_quantity(trimmed)
    if quantity:
        return Reading(trimmed, quantity)
    if not _WORDS.search(trimmed):
        expression, too_large = _parse(re.sub(r"\s+(?:or|and)\s+", ", ", trimmed))
        return Reading(trimmed, None, expression, too_large)
    numbers = numbers_in(trimmed)
    if len(numbers) > 1 and _HEDGED.search(trimmed):
        expression, too_large = _parse(", ".join(numbers))
        return Reading(trimmed, None, expression, too_large)
    if not numbers:
        return Reading(trimmed)
    chosen = numbers[0] if trimmed.startswith(numbers[0]) else numbers[-1]
    return Reading(trimmed, read_quantity(chosen))


def _parse(text: str) -> tuple[Any, str]:
    if _is_prose(text):
        return None, ""
    try:
        return parse(text), ""
    except TooLarge as error:
        return None, str(error)
    except RecursionError:
        return None, "brackets nested too deeply"


def _is_prose(text: str) -> bool:
    """Words, which the grammar would read as products of their letters."""
    bare = plain(text)
    return "\\" not in bare and not re.search(r"[\d=<>^]", bare) and _WORDS.search(bare) is not None


def _same_text(right: Reading, read: Reading) -> bool:
    gold, answer = _letters(right.text), _letters(read.text)
    return bool(gold) and gold == answer


@lru_cache(maxsize=8192)
def _letters(text: str) -> str:
    text = re.sub(r"\b(?:the|a|an)\s+(?=[A-Za-z]{2})", "", plain(text).replace("$", ""), flags=re.IGNORECASE)
    text = re.sub(r"\s+", "", text).strip(".,;:!?\"'`*")
    # Case tells variables apart and is no matter in words.
    return text.lower() if re.fullmatch(r"[A-Za-z'-]{2,}", text) else text
