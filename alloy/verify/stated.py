"""Where a text states its answer: the last of its boxes, tags and sentences that give one."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from alloy.verify.answer import tagged_answers

Found = TypeVar("Found")

MAX_STATEMENT = 2_000
"""Characters of one statement that are looked at."""
MAX_STATEMENTS = 20
"""How many are tried, from the last one back."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer as it was stated: from a box or a formula, or in running text."""

    text: str
    formula: bool


_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_HASHES = re.compile(r"^#{4}[ \t]*(\S.*)$", re.MULTILINE)
_SENTENCE = re.compile(
    r"\banswers?\b(?:\s+(?:to|of|for)\s[^.\n:=]{0,80}?)?[*_\s)]*?"
    r"(?:\b(?:is|are|was|were|equals|(?:would|will|should|must) be"
    r"|comes? (?:out )?to(?: be)?|turns out to be)\b"
    r"|[:=]|\s[-–—]\s|[*_]*[ \t]*\n)"
    r"[*_\s:=]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$(.{1,2000}?)\$\$|\\\[(.{1,2000}?)\\\]|\\\((.{1,2000}?)\\\)"
    r"|(?<![\\$])\$(?=[^\s$])([^$\n]{0,1000}?[^\s$\\])\$(?![\d$])",
    re.DOTALL,
)
_JOINED = re.compile(
    r"(?=.*(?:,|;|\band\b|\bor\b|\\quad|\\text))"
    r"(?:\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b|\\quad|\\\)|\\\(|[\s$,;*])*",
    re.DOTALL,
)
_BETWEEN = re.compile(r"\s*(?:,\s*)?(?:and\b|or\b|,)\s*")
_STOP = re.compile(
    r"(?:[.?]|(?<![\d)])!)(?=\s|[*_\"')\]]*(?:\s|$))|\n|;\s"
    r"|,?\s+(?:because|since|which|where|so|as|not|rather than|meaning)\b"
)
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]])-\s?)?[$€£]?(?:(?<![\w.])|(?<=[$€£]))"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?(?<=\d)(?:\s*/\s*\d+(?![\d.]))?(?:\s?\\?%)?"
)


def statements(text: str) -> Iterator[Statement]:
    """The answers that a text states, the last one first.

    Boxes, `<answer>` tags, `#### 42` and sentences such as "The answer is 42." count alike: what
    comes last is what the text holds to be the answer. A text without any is taken at its last
    formula or number, or as a whole when it is only a line.
    """
    found = sorted(_marked(text), key=lambda item: item[0], reverse=True)
    if found:
        yield from (statement for _, statement in found[:MAX_STATEMENTS])
        return
    yield from _unmarked(text)


def _marked(text: str) -> Iterator[tuple[int, Statement]]:
    yield from _boxes(text)
    for start, content in _last(tagged_answers(text)):
        yield start, _statement(content[:MAX_STATEMENT])
    for match in _last(_HASHES.finditer(text)):
        yield match.start(), _statement(match[1][:MAX_STATEMENT])
    for match in _last(_SENTENCE.finditer(text)):
        rest = text[match.end() : match.end() + MAX_STATEMENT].lstrip()
        if rest and not _BOX.match(rest.lstrip("$*\\([ ")):
            yield match.start(), _statement(rest)


def _last(found: Iterable[Found]) -> Iterable[Found]:
    return deque(found, maxlen=MAX_STATEMENTS)


def _boxes(text: str) -> Iterator[tuple[int, Statement]]:
    """Boxes; several that are only joined by commas or "and" are one answer with several values."""
    group: list[str] = []
    group_start = group_end = 0
    for match in _last(_BOX.finditer(text)):
        if match.start() < group_end:
            continue
        content = _braced(text, match.end())
        if content is None:
            continue
        if not (group and _JOINED.fullmatch(text[group_end : match.start()])):
            if group:
                yield group_start, Statement(", ".join(group), True)
            group, group_start = [], match.start()
        group.append(_unboxed(content))
        group_end = match.end() + len(content) + 2
    if group:
        yield group_start, Statement(", ".join(group), True)


def _braced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and the one that closes it."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start, start + MAX_STATEMENT):
        if match[0] in "{}":
            depth += 1 if match[0] == "{" else -1
            if depth == 0:
                return text[start + 1 : match.start()]
    return None


def _unboxed(content: str) -> str:
    inner = _BOX.match(content.strip())
    return (_braced(content.strip(), inner.end()) or content) if inner else content


def _statement(text: str) -> Statement:
    """The statement that a text begins with: a formula, several joined ones, or the sentence."""
    text = text.strip().lstrip("*_ ")
    formula = _FORMULA.match(text)
    if formula:
        return Statement(_formulas(text, formula), True)
    stop = _STOP.search(text)
    sentence = text[: stop.start()] if stop else text
    inside = list(_FORMULA.finditer(sentence))
    if inside:
        return Statement(_formulas(sentence, inside[0]), True)
    return Statement(sentence.strip("*_`\"' \t"), False)


def _formulas(text: str, first: re.Match[str]) -> str:
    """A formula with the unit after it, or with the formulas joined to it."""
    parts = [_content(first)]
    end = first.end()
    while (joint := _BETWEEN.match(text, end)) and (following := _FORMULA.match(text, joint.end())):
        parts.append(_content(following))
        end = following.end()
    if len(parts) > 1:
        return ", ".join(parts)
    stop = _STOP.search(text, end)
    tail = text[end : stop.start() if stop else len(text)].strip("*_ ")
    unit = re.match(r"(?:%|\\%|[A-Za-z]{1,20})(?:[ /][A-Za-z]{1,20}){0,2}$", tail)
    return f"{parts[0]} \\text{{ {tail} }}" if unit else parts[0]


def _content(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _unmarked(text: str) -> Iterator[Statement]:
    stripped = text.strip().strip("*_`").strip()
    if stripped and "\n" not in stripped and len(stripped) <= 200:
        statement = _statement(stripped)
        if statement.formula or not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", stripped):
            yield statement
    tail = text[-20 * MAX_STATEMENT :]
    formulas = list(_FORMULA.finditer(tail))
    numbers = [match for match in _NUMBER.finditer(tail, formulas[-1].end() if formulas else 0) if match[0]]
    if numbers:
        yield Statement(numbers[-1][0], False)
    elif formulas:
        yield Statement(_content(formulas[-1]), True)
    if stripped and len(stripped) <= 200:
        yield Statement(stripped, False)


def numbers_in(text: str) -> list[str]:
    """The numbers of a running text, with their signs, fractions and percent signs."""
    return [match[0].strip() for match in _NUMBER.finditer(text) if match[0].strip()]
