"""Thinking and answer: what comes up to the last closing tag, and what comes after it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

OPENING_TAG = "<think>"
CLOSING_TAG = "</think>"


@dataclass(frozen=True, slots=True)
class Parts:
    """A completion taken apart; `answer` is None when the thinking was never closed."""

    thinking: str
    answer: str | None


def split(completion: str, thinking_opened: bool = False) -> Parts:
    """Take a completion apart at its last closing tag.

    Everything up to that tag is thinking, however many tags there are: a draft of the answer in it
    is not the answer. Without a closing tag the whole is answer, unless thinking was opened, by the
    completion itself or before it (`thinking_opened`): then there is no answer. White space between
    the tag and the answer belongs to neither.
    """
    head, tag, tail = completion.rpartition(CLOSING_TAG)
    if tag:
        return Parts(head.lstrip().removeprefix(OPENING_TAG).strip(), tail.lstrip())
    if thinking_opened or OPENING_TAG in completion:
        return Parts(completion.replace(OPENING_TAG, "", 1).strip(), None)
    return Parts("", completion)


def answer_of(completion: str, thinking_opened: bool = False) -> str | None:
    return split(completion, thinking_opened).answer


def tagged_answers(text: str) -> Iterator[tuple[int, str]]:
    """What stands in each pair of `<answer>` tags, with where the pair begins."""
    opening: re.Match[str] | None = None
    for tag in re.finditer(r"<(/?)answer>", text, re.IGNORECASE):
        if not tag[1]:
            opening = tag
        elif opening:
            yield opening.start(), text[opening.end() : tag.start()].strip()
            opening = None
