"""Multiple choice: which letter does a completion settle on?"""

import re
from collections.abc import Sequence
from functools import lru_cache

from alloy.verify.answer import answer_of
from alloy.verify.verdict import Verdict, unparsable

MAX_CHARACTERS = 20_000
"""Of an answer that are looked at, from its end."""


def verify_choice(
    completion: str,
    gold: str,
    choices: Sequence[str] | None = None,
    thinking_opened: bool = False,
) -> Verdict:
    """Reward 1 when the last choice that a completion states is `gold`, else 0.

    Understood are "The answer is (B)", "Answer: B", "B.", "(B)", "B) Paris", `\\boxed{B}`,
    `\\boxed{\\text{B}}`, "**B**", "option B", `<answer>B</answer>`, and the text of a choice where
    `choices` is given. Two letters in one statement ("A or B") are none.

    Args:
        gold: a letter, or the text of a choice.
        choices: the texts behind A, B, C, ...; without them A to J are possible.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    letters = _letters(choices or ())
    right = gold_letter(gold, choices or ())
    if right is None:
        return Verdict(
            None, "error", f"gold = {gold!r}: write one of {', '.join(letters)}, or a choice's text."
        )
    answer = answer_of(completion, thinking_opened)
    if answer is None:
        return unparsable("the thinking was never closed")
    stated = stated_choice(answer, letters, tuple(choices or ()))
    if stated is None:
        return unparsable("no single choice found")
    return Verdict(float(stated == right), "ok", stated)


def _letters(choices: Sequence[str]) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices) or 10]


def gold_letter(gold: str, choices: Sequence[str] = ()) -> str | None:
    """The letter that a gold answer means, itself one or the text of a choice; None when it is neither."""
    letters = _letters(choices)
    letter = gold.strip().strip("().").upper()
    if len(letter) == 1 and letter in letters:
        return letter
    same = [number for number, choice in enumerate(choices) if _bare(choice) == _bare(gold)]
    return letters[same[0]] if same else None


@lru_cache(maxsize=64)
def _patterns(letters: str) -> tuple[re.Pattern[str], ...]:
    """What states a choice, anywhere in the text; the letter is group 1 or 2."""
    cue = (
        r"(?:\banswers?\b(?:\s+(?:to|for)\s[^.\n:]{0,80}?)?|\b(?:correct|right|best)\s+(?:option|choice|answer)\b"
        r"|\b(?:choose|pick|select|go with)\b|\b(?:option|choice)\b|</?answer>)"
    )
    glue = r"[*_\s]*(?:is|are|would be|must be|:|=)?[*_\s:]*(?:(?:option|choice|letter|the)\s+)*[*_$\s]*"
    upper, any_case = f"[{letters}]", f"[{letters}{letters.lower()}]"
    return (
        re.compile(rf"\\boxed\s*\{{(?:\\(?:text|textbf|mathrm|mathbf)\s*\{{)?\s*\(?({any_case})(?![A-Za-z])"),
        re.compile(
            rf"(?i:{cue}){glue}(?:[(\[]({any_case})[)\]]"
            rf"|({upper})(?=\s*(?:$|[.,;:!)*_<$\n]|because\b|since\b|as\b|which\b|and\b|or\b|[-–—/]))"
            rf"|(?<=[:=>\s])({any_case})(?=\s*(?:[.)*<]|$)))",
            re.MULTILINE,
        ),
        re.compile(rf"^[\s*_#>$-]*[(\[]?({upper})[)\].:]*[*_$]*\s*$", re.MULTILINE),
        re.compile(rf"^[\s*_#>-]*(?:[(\[]({upper})[)\]]|({upper})[).:])[*_]*\s+\S", re.MULTILINE),
        re.compile(rf"\*\*[(\[]?({upper})[)\].:]?\*\*"),
        re.compile(
            rf"(?:^|\s)[(\[]({upper})[)\]](?:\s+is\b|[*_]*[.\s]*$)|\b({upper})\s+is\s+(?:correct|right)\b"
        ),
    )


def stated_choice(text: str, letters: str, choices: tuple[str, ...] = ()) -> str | None:
    """The letter that a text settles on: its last explicit statement, else the last one on a line."""
    lines = (" ".join(line.split()) for line in text[-MAX_CHARACTERS:].splitlines())
    text = "\n".join(line for line in lines if line)
    boxed, cued, *weak = _patterns(letters)
    explicit = [match for pattern in (boxed, cued) for match in pattern.finditer(text)]
    found = explicit or [match for pattern in weak for match in pattern.finditer(text)]
    by_text = _by_text(text, letters, choices)
    if not found:
        return by_text
    last = max(found, key=lambda match: (match.start() if explicit else 0, match.end()))
    # A list of all the choices settles on none.
    if not explicit and len({_letter(match) for match in found}) > 1 and last.re is weak[1]:
        return by_text
    rest = text[last.end() :].lstrip(")]}*_. ")
    if re.match(rf"(?:or|and|/|,)\s*[(\[*]*[{letters}](?![A-Za-z'])", rest):
        return None
    return _letter(last)


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


def _by_text(text: str, letters: str, choices: tuple[str, ...]) -> str | None:
    """The choice whose text is the answer's last line, or what stands after "answer is"."""
    if not choices or not text.strip():
        return None
    line = text.strip().splitlines()[-1]
    said = re.split(r"(?i)\banswer\b\s*(?:is|:)", line)[-1]
    same = [number for number, choice in enumerate(choices) if _bare(choice) in (_bare(line), _bare(said))]
    return letters[same[0]] if len(same) == 1 else None


def _bare(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[*_`$\"'.:]|\\boxed|[{}]", "", text)).strip().casefold()
