"""Plain quantities read and compared exactly, without a computer algebra system.

A quantity is an integer, a decimal, a fraction, a mixed number or a power of ten times one, perhaps
a percentage, perhaps with a currency sign or a unit. Most answers are one, and none can be hostile.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_DIGITS = 1_000
"""Longer numbers are no quantity."""
MAX_EXPONENT = 400
"""Of ten, in scientific notation."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written."""

    value: Fraction
    decimal: bool = False
    """Written with a decimal point, so perhaps rounded."""
    percent: bool = False
    """`value` is the number before the sign: 50% has value 50."""
    unit: str = ""


_GROUPED = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?:[ ]\d{3})+(?!\d)|\d+"
_UNSIGNED = rf"(?:(?:{_GROUPED})(?:\.\d+)?|\.\d+)\.?(?!\d)"
_FRACTION = r"\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))"
_QUANTITY = re.compile(
    rf"""(?P<sign>[+-]?)\s*
    (?:(?P<whole>\d+)?\s*{_FRACTION}
      |(?:(?P<mixed>\d+)\s+)?(?P<above>\d+)\s*/\s*(?P<below>\d+)
      |(?P<number>{_UNSIGNED})
       (?:(?:[eE]|\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*)(?P<exponent>[+-]?\d{{1,4}}|\{{[+-]?\d{{1,4}}\}}))?
    )""",
    re.VERBOSE,
)
_PERCENT = re.compile(r"\s*(?:%|percent\b|per cent\b)", re.IGNORECASE)
_CURRENCY = re.compile(r"^(?P<sign>[+-]?)\s*(?:US)?[$€£¥₹]\s*", re.IGNORECASE)
_WRAPPED_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(
    r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])|\\[!,;:> ]|~|\\quad|\\qquad"
)
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b)")
_UNIT = re.compile(
    r"[A-Za-zµΩ][A-Za-zµΩ²³]*(?:[\s/·*-]+[A-Za-zµΩ][A-Za-zµΩ²³]*|\s*\^\s*\{?-?\d\}?|\s*\(s\))*"
)


def plain(text: str) -> str:
    """LaTeX and typography that carry no meaning taken away: spacing, `\\text{}`, `\\dfrac`, `{,}`."""
    text = text.replace("−", "-").replace("\\%", "%").replace("\\$", "$").replace("{,}", ",")
    text = _SPACING.sub(" ", re.sub(r"\\!\s*", "", text))
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    for _ in range(3):
        text = _WRAPPED_TEXT.sub(r" \1 ", text)
    return _DEGREES.sub(" degrees", text).strip()


@lru_cache(maxsize=8192)
def read_quantity(text: str) -> Quantity | None:
    """The quantity that the whole text is, or None when it is something else."""
    text = plain(text.strip()).strip("$ ").rstrip(". ")
    if not text or not any(map(str.isdigit, text)) or len(text) > MAX_DIGITS:
        return None
    currency = _CURRENCY.match(text)
    text = currency["sign"] + text[currency.end() :] if currency else text
    match = _QUANTITY.match(text)
    value = _value(match) if match else None
    if match is None or value is None:
        return None
    rest = text[match.end() :]
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    unit = _unit(rest) if rest.strip() else ""
    if unit is None:
        return None
    decimal = "." in (match["number"] or "").rstrip(".")
    return Quantity(value, decimal, bool(percent), unit)


def _value(match: re.Match[str]) -> Fraction | None:
    sign = -1 if match["sign"] == "-" else 1
    if match["number"]:
        number = Fraction(re.sub(r"[, ]", "", match["number"]).rstrip("."))
        exponent = int((match["exponent"] or "0").strip("{}"))
        return sign * number * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None
    if match["below"]:
        whole, above, below = match["mixed"], match["above"], match["below"]
    else:
        long_above, short_above, long_below, short_below = match.group(3, 4, 5, 6)
        whole, above, below = match["whole"], long_above or short_above, long_below or short_below
    if int(below) == 0 or (whole and above.startswith("-")):
        return None
    return sign * (Fraction(whole or 0) + Fraction(int(above), int(below)))


def _unit(rest: str) -> str | None:
    """The unit that follows a number; None when what follows is mathematics or a second thought."""
    text = rest.strip()
    glued = rest[0] not in " \t"
    if not _UNIT.fullmatch(text):
        return None
    words = re.findall(r"[A-Za-zµΩ²³]+", text)
    if any(word.lower() in _NO_UNIT for word in words):
        return None
    # `2x` is a product and `2 m` a length; a letter on its own is a unit only when it is known as one.
    single = glued or (len(words) == 1 and len(words[0]) == 1)
    if single and words[0] not in _UNIT_NAMES:
        return None
    return _UNIT_NAMES.get(text, _UNIT_NAMES.get(text.lower(), text.lower()))


def same_quantity(gold: Quantity, answer: Quantity) -> bool:
    """Whether two quantities are the same number.

    Exactly the same, or, where one was written as a decimal, the same when both are rounded to six
    places and no more than one part in a thousand apart (so 0.333333 is 1/3, and 0 is not 0.0000001).

    A percentage is the fraction that it stands for: 50% = 0.5 = 1/2. As questions ask "what
    percent", a sign on one side only may also be left out, for numbers from 1 up: 50% = 50, but
    0.5% is not 0.5. A unit may be left out; two known units that differ are two different answers.
    """
    if gold.unit != answer.unit and {gold.unit, answer.unit} <= _CANONICAL:
        return False
    decimal = gold.decimal or answer.decimal
    if gold.percent == answer.percent:
        return _same(gold.value, answer.value, decimal)
    share = _same(
        gold.value / 100 if gold.percent else gold.value,
        answer.value / 100 if answer.percent else answer.value,
        decimal,
    )
    return share or (abs(gold.value) >= 1 and _same(gold.value, answer.value, decimal))


def _same(gold: Fraction, answer: Fraction, decimal: bool) -> bool:
    if gold == answer:
        return True
    close = abs(gold - answer) * 1000 <= abs(gold)
    return decimal and close and round(gold, 6) == round(answer, 6)


_MATHEMATICAL_WORDS = (
    "and or to pi sqrt sin cos tan sec csc cot log ln exp mod times over plus minus by of is not but i e "
    "infinity factorial squared cubed than frac cdot"
)
_NO_UNIT = frozenset(_MATHEMATICAL_WORDS.split())
_ALIASES = {
    "mm": "millimeter millimeters millimetre millimetres",
    "cm": "centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "mg": "milligram milligrams",
    "g": "gram grams",
    "kg": "kilogram kilograms",
    "lb": "lbs pound pounds",
    "oz": "ounce ounces",
    "s": "sec secs second seconds",
    "min": "mins minute minutes",
    "h": "hr hrs hour hours",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years",
    "ml": "mL milliliter milliliters millilitre millilitres",
    "l": "L liter liters litre litres",
    "dollar": "dollars usd USD",
    "cent": "cents",
    "degree": "degrees",
}
_UNIT_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in [name, *aliases.split()]}
_CANONICAL = frozenset(_ALIASES)
