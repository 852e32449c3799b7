"""Mathematics beyond plain numbers, parsed and compared by math-verify (sympy behind it).

Only math-verify's LaTeX grammar is used: its reader for plain expressions evaluates text as Python.
Its own time limits are signals, which work in the main thread only; they are off, and the pool's
wall-clock limit stands in. What would take sympy minutes is refused before it gets there.
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from alloy.verify.quantity import Quantity, plain, same_quantity

MAX_CHARACTERS = 1_000
MAX_DEPTH = 25
"""Brackets within brackets."""
MAX_POWER_DIGITS = 2_000
"""Decimal digits that a power of numbers may come to."""


class TooLarge(Exception):
    """Evaluating the expression could take forever."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Any:
    """The sympy expression of a LaTeX or plain text, or None when it is none.

    Raises:
        TooLarge: it is not safe to evaluate.
    """
    latex = _to_latex(text)
    if not latex:
        return None
    check_size(latex)
    from math_verify import parse as parse_with_math_verify

    try:
        found = parse_with_math_verify(
            f"${latex}$", [_extraction()], fallback_mode="no_fallback", parsing_timeout=None
        )
    except Exception:
        return None
    return found[0] if found else None


def same_expression(gold: Any, answer: Any) -> bool:
    """Whether two parsed expressions mean the same; two numbers are compared as quantities are."""
    first, second = _as_quantity(gold), _as_quantity(answer)
    if first and second:
        return same_quantity(first, second)
    here, there = _value(gold), _value(answer)
    if here is not None and there is not None and abs(here - there) > 1e-3 * max(1.0, abs(here)):
        return False  # far apart: there is nothing to simplify
    from math_verify import verify

    return bool(verify([gold], [answer], timeout_seconds=None))


def warm_up() -> None:
    """Import math-verify and run its grammar over the usual shapes, which takes seconds once."""
    for text in (r"\frac{x+1}{2}", "(1,2]", r"\{1,2\}", r"x=\sqrt{2}", r"x^2-2x \leq 5", r"50\%", r"3\pi"):
        same_expression(parse(text), parse(text + " "))


@lru_cache(maxsize=1)
def _extraction() -> Any:
    from math_verify import LatexExtractionConfig

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return LatexExtractionConfig(boxed_match_priority=-1)


def _as_quantity(expression: Any) -> Quantity | None:
    if getattr(expression, "is_Rational", False):
        return Quantity(Fraction(int(expression.p), int(expression.q)))
    if getattr(expression, "is_Float", False) and expression.is_finite:
        return Quantity(Fraction(str(expression)), decimal=True)
    return None


def _value(expression: Any) -> float | None:
    """The real number that an expression without unknowns comes to; None for anything else."""
    if not (getattr(expression, "is_number", False) and expression.is_real and expression.is_finite):
        return None
    try:
        return float(expression.evalf(15))
    except (TypeError, ValueError, OverflowError):
        return None


_PLAIN_NAMES = {
    "sqrt": r"\\sqrt",
    "pi": r"\\pi",
    "sin": r"\\sin",
    "cos": r"\\cos",
    "tan": r"\\tan",
    "ln": r"\\ln",
    "log": r"\\log",
    "infinity": r"\\infty",
    "inf": r"\\infty",
    "oo": r"\\infty",
}
_PLAIN_SIGNS = {
    "∞": r"\infty ",
    "π": r"\pi ",
    "×": r"\cdot ",
    "·": r"\cdot ",
    "÷": "/",
    "≤": r"\leq ",
    "≥": r"\geq ",
    "≠": r"\neq ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "±": r"\pm ",
    "∅": r"\emptyset ",
    "θ": r"\theta ",
    "²": "^2",
    "³": "^3",
    "<=": r"\leq ",
    ">=": r"\geq ",
    "!=": r"\neq ",
    "**": "^",
}


def _to_latex(text: str) -> str:
    """A plain or LaTeX expression as LaTeX: `sqrt(2)*x**2` as `\\sqrt{2}\\cdot x^2`."""
    text = plain(text).replace("$", " ").strip().rstrip(".,;:").strip()
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"longer than {MAX_CHARACTERS} characters")
    for sign, latex in _PLAIN_SIGNS.items():
        text = text.replace(sign, latex)
    text = re.sub(r"√\s*(\d+|[A-Za-z])", r"\\sqrt{\1}", text).replace("√", r"\sqrt")
    for name, latex in _PLAIN_NAMES.items():
        text = re.sub(rf"(?<![A-Za-z\\]){name}(?![A-Za-z])", latex, text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^\s*(-?\d{2,}|-\d)", r"^{\1}", text)
    text = re.sub(r"(\d),(\d{3})(?=,\d{3}|(?!\d))", _join_thousands, text) if _is_number_list(text) else text
    return text.replace("%", r"\%").replace("*", r"\cdot ")


def _join_thousands(match: re.Match[str]) -> str:
    return match[1] + match[2]


def _is_number_list(text: str) -> bool:
    """Whether commas followed by a space separate, so that those without group thousands."""
    return ", " in text and re.search(r"\d,\d{3}(?!\d)", text) is not None


_NUMBER_POWER = re.compile(r"(\d+(?:\.\d+)?)\s*((?:\^\s*[{(\s]*-?\d+[\s})]*)+)")
_BIG_FACTORIAL = re.compile(r"(?:\d{3,}|[)}\]!])\s*!")
_BIG_EXPONENT = re.compile(r"[A-Za-z)}\]]\s*\^\s*\{?\s*-?\d{3,}")
_GROUP_POWER = re.compile(r"[)}\]]\s*\^\s*\{?\s*-?(\d+)")


def check_size(latex: str) -> None:
    """Refuse what sympy would evaluate to astronomically many digits or terms.

    Raises:
        TooLarge
    """
    if len(latex) > MAX_CHARACTERS:
        raise TooLarge(f"longer than {MAX_CHARACTERS} characters")
    depth = deepest = 0
    for character in latex:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise TooLarge(f"brackets nested deeper than {MAX_DEPTH}")
    if _BIG_FACTORIAL.search(latex) or _BIG_EXPONENT.search(latex):
        raise TooLarge("a factorial or exponent is too large")
    if any(int(power) > 30 for power in _GROUP_POWER.findall(latex)):
        raise TooLarge("a bracket raised to more than the 30th power")
    for base, exponents in _NUMBER_POWER.findall(latex):
        _check_tower(base, [int(number) for number in re.findall(r"\d+", exponents)])
    if re.search(r"\\(?:sum|prod|int|lim|binom)\b", latex) and re.search(r"\d{4,}", latex):
        raise TooLarge("a sum, product or binomial over a large range")


def _check_tower(base: str, exponents: list[int]) -> None:
    """`base ^ a ^ b ^ ...`, read from the right."""
    power = 1
    for exponent in reversed(exponents):
        if (exponent > 1 and power > 20) or exponent > MAX_POWER_DIGITS * 4:
            raise TooLarge("a tower of powers")
        power = exponent**power
        if power > MAX_POWER_DIGITS * 4:
            raise TooLarge("a power too large to write out")
    if power * len(base) > MAX_POWER_DIGITS * 4:
        raise TooLarge("a power too large to write out")
