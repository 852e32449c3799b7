"""What somebody was told, and whether a value or a sentence goes beyond it.

How things are compared:
- Words: runs of letters and digits of any script after NFKC and case folding; everything else, the
  underscore included, parts them. A Chinese character or a kana is a word of its own. A text was told when
  its words were told one behind the other within one turn, or within one string of a tool's answer.
- Numbers: by value without sign, so that 1,200 is 1200.0; "one" to "twelve" are numbers. A digit behind a
  letter is part of a name and no number.
- What has no letter and no digit, true, false and null cannot be invented.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from alloy.simulate.reading import NoJson, read_json

_SOLITARY = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SOLITARY}]|(?:(?![{_SOLITARY}])[^\W_])+")
_NUMBER = re.compile(r"(?<![^\W_])(?<!\d\.)\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![,.]?\d)|(?<![^\W_])\d+(?:\.\d+)?")
_SPOKEN = {
    word: str(value)
    for value, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 1
    )
}
# The look-behinds and the closed classes keep these linear in the length of any text.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^“”\n]+)”|`([^`\n]+)`|(?<!\w)['‘]([^'‘’\n]+)['’](?!\w)")
_MARKER = re.compile(r"^[ \t]*(?:[*#-]+[ \t]*)?\d{1,2}[.)](?=\s|\*)", re.MULTILINE)
# Letters and digits, joined by what joins them within a name, a date or a version.
_TOKEN = re.compile(r"[^\W_]+(?:(?:[-_/:.#]|,(?=\d{3}(?!\d)))[^\W_]+)*")
_PLAIN_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?([^\W\d_]{0,3})")


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def words(text: str) -> list[str]:
    return _WORD.findall(folded(text))


def numbers(text: str) -> set[str]:
    """The numbers that a text says, each in its shortest writing."""
    text = unicodedata.normalize("NFKC", text)
    spoken = {_SPOKEN[word] for word in words(text) if word in _SPOKEN}
    return spoken | {_shortest(found) for found in _NUMBER.findall(text)}


def number_of(value: int | float) -> str:
    return _shortest(format(abs(Decimal(repr(value))), "f"))


def _shortest(digits: str) -> str:
    whole, _, fraction = digits.replace(",", "").partition(".")
    try:
        # Digits of other scripts are digits too.
        whole = "".join(str(int(digit)) for digit in whole).lstrip("0") or "0"
        fraction = "".join(str(int(digit)) for digit in fraction).rstrip("0")
    except ValueError:
        return digits
    return f"{whole}.{fraction}" if fraction else whole


class Told:
    """All that was said to somebody so far.

    Args:
        values: JSON values that were heard to begin with.
    """

    def __init__(self, *values: Any) -> None:
        self._texts: list[str] = []
        self.numbers: set[str] = set()
        self.lengths: set[str] = set()
        """Of the lists among it: who was shown three rows was told that they are three."""
        for value in values:
            self.hear_value(value)

    def hear(self, text: str) -> None:
        """A turn, or any other text."""
        self._texts.append(f" {' '.join(words(text))} ")
        self.numbers |= numbers(text)

    def hear_answer(self, text: str) -> None:
        """A tool's answer: string by string where it is JSON."""
        try:
            value = read_json(text) if text.lstrip().startswith(("{", "[")) else None
        except NoJson:
            value = None
        if value is None:
            self.hear(text)
        else:
            self.hear_value(value)

    def hear_value(self, value: Any) -> None:
        """Every string, key and number of a JSON value."""
        for part in _leaves(value):
            if isinstance(part, str):
                self.hear(part)
            elif isinstance(part, list):
                self.lengths.add(str(len(part)))
            else:
                self.hear(number_of(part))

    def beside(self, *others: "Told") -> "Told":
        """A copy that heard what others heard, too."""
        twin = Told()
        for told in (self, *others):
            twin._texts += told._texts
            twin.numbers |= told.numbers
            twin.lengths |= told.lengths
        return twin

    def knows(self, text: str) -> bool:
        """Whether the words of a text were told, in their order, or it is a number that was."""
        sought = words(text)
        if not sought:
            return True
        if any(f" {' '.join(sought)} " in known for known in self._texts):
            return True
        alone = _PLAIN_NUMBER.fullmatch(text.strip().lstrip("+-"))
        return bool(alone and not alone[1]) and numbers(text) <= self.numbers

    def knows_number(self, value: int | float) -> bool:
        return number_of(value) in self.numbers


def invented_values(value: Any, told: Told, place: str = "") -> Iterator[str]:
    """The strings and numbers of a JSON value that were not told, each with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from invented_values(inner, told, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from invented_values(inner, told, f"{place}[{number}]")
    elif isinstance(value, str):
        if not told.knows(value):
            yield f"{place} = {value[:80]!r}"
    elif isinstance(value, int | float) and not isinstance(value, bool) and not told.knows_number(value):
        yield f"{place} = {value!r}"[:120]


def invented_in_text(text: str, told: Told) -> Iterator[str]:
    """The e-mail addresses, quotations, ids and numbers of a text that were not told.

    An id is a word with letters and digits, or words joined by - _ / : . # with a digit in them (dates,
    times). The markers of a numbered list are no numbers, and how many items a list has that was told may
    be said.
    """
    for match in _EMAIL.finditer(text):
        if not told.knows(match[0]):
            yield f"the address {match[0]}"
    for match in _QUOTED.finditer(text):
        quoted = next(group for group in match.groups() if group is not None)
        if not told.knows(quoted):
            yield f"the quotation {quoted[:80]!r}"
    text = unicodedata.normalize("NFKC", _EMAIL.sub(" ", text))
    for match in _TOKEN.finditer(_MARKER.sub(" ", text)):
        token = match[0]
        if not any(letter.isdigit() for letter in token) or told.knows(token):
            continue
        plain = _PLAIN_NUMBER.fullmatch(token)
        # "5pm", "3rd" and "20kg" are numbers with a word behind them.
        if plain is None or not numbers(token) <= told.numbers | told.lengths:
            yield f"{'the number' if plain else 'the id'} {token[:80]}"


def declared(schema: Any) -> Iterator[Any]:
    """The values that a JSON schema itself gives: enum, const and default, wherever they stand."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            given = part.get("enum")
            yield from given if isinstance(given, list) else ()
            yield from (part[key] for key in ("const", "default") if key in part)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _leaves(value: Any) -> Iterable[Any]:
    """Strings, keys, numbers and lists within a JSON value; true, false and null say nothing."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield value
