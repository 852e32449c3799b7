"""IFEval's 25 instruction types by their public names, arguments and semantics.

Each entry of `INSTRUCTIONS` is a predicate over the whole answer with the schema of its arguments.
Where the public checkers are lenient or odd (keywords are regular expressions, a letter is counted
in any case, an undetectable language counts as followed) so are these: the numbers are comparable.

Source: Zhou et al. 2023 (arXiv:2311.07911) and its public checkers.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alloy.verify.answer import answer_of
from alloy.verify.language import DetectorMissing, LanguageUnknown, detect_language
from alloy.verify.schema_errors import explain
from alloy.verify.sentences import sentences
from alloy.verify.verdict import Verdict
from alloy.verify.words import capital_words

Relation = Literal["at least", "less than"]


class Arguments(BaseModel):
    """No arguments; an instruction with some extends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Language(Arguments):
    language: str


class _Sentences(Arguments):
    num_sentences: int = Field(ge=0)
    relation: Relation


class _Words(Arguments):
    num_words: int = Field(ge=0)
    relation: Relation


class _Paragraphs(Arguments):
    num_paragraphs: int = Field(ge=0)


class _ParagraphStart(Arguments):
    num_paragraphs: int = Field(ge=1)
    nth_paragraph: int = Field(ge=1)
    first_word: str


class _Placeholders(Arguments):
    num_placeholders: int = Field(ge=0)


class _Postscript(Arguments):
    postscript_marker: str


class _Bullets(Arguments):
    num_bullets: int = Field(ge=0)


class _Highlights(Arguments):
    num_highlights: int = Field(ge=0)


class _Sections(Arguments):
    section_spliter: str
    num_sections: int = Field(ge=0)


class _Keywords(Arguments):
    keywords: list[str] = Field(min_length=1)


class _Frequency(Arguments):
    keyword: str = Field(min_length=1)
    frequency: int = Field(ge=0)
    relation: Relation


class _Forbidden(Arguments):
    forbidden_words: list[str] = Field(min_length=1)


class _Letter(Arguments):
    letter: str = Field(min_length=1, max_length=1)
    let_frequency: int = Field(ge=0)
    let_relation: Relation


class _Capitals(Arguments):
    capital_frequency: int = Field(ge=0)
    capital_relation: Relation


class _Repeat(Arguments):
    prompt_to_repeat: str = Field(min_length=1)


class _End(Arguments):
    end_phrase: str


def _holds(count: int, relation: Relation, threshold: int) -> bool:
    return count >= threshold if relation == "at least" else count < threshold


def _pattern(text: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    """The data's text as a regular expression, as the public checkers read it; literally if it is none."""
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


def _keywords(answer: str, given: _Keywords) -> bool:
    return all(_pattern(keyword).search(answer) for keyword in given.keywords)


def _keyword_frequency(answer: str, given: _Frequency) -> bool:
    count = sum(1 for _ in _pattern(given.keyword.strip()).finditer(answer))
    return _holds(count, given.relation, given.frequency)


def _forbidden(answer: str, given: _Forbidden) -> bool:
    return not any(_pattern(rf"\b{word}\b").search(answer) for word in given.forbidden_words)


def _letter_frequency(answer: str, given: _Letter) -> bool:
    return _holds(answer.lower().count(given.letter.lower()), given.let_relation, given.let_frequency)


def _language(answer: str, given: _Language) -> bool:
    try:
        return detect_language(answer) == given.language
    except LanguageUnknown:
        return True


def _sentence_count(answer: str, given: _Sentences) -> bool:
    return _holds(len(sentences(answer)), given.relation, given.num_sentences)


def _word_count(answer: str, given: _Words) -> bool:
    return _holds(len(re.findall(r"\w+", answer)), given.relation, given.num_words)


def _blank_only_at_ends(parts: Sequence[str]) -> bool:
    return all(part.strip() for part in parts[1:-1])


def _paragraph_count(answer: str, given: _Paragraphs) -> bool:
    paragraphs = re.split(r"\s?\*\*\*\s?", answer)
    filled = sum(1 for paragraph in paragraphs if paragraph.strip())
    return _blank_only_at_ends(paragraphs) and filled == given.num_paragraphs


def _paragraph_start(answer: str, given: _ParagraphStart) -> bool:
    paragraphs = answer.split("\n\n")
    filled = sum(1 for paragraph in paragraphs if paragraph.strip())
    if given.nth_paragraph > filled or filled != given.num_paragraphs:
        return False
    # Counted among all pieces, blank ones too, as the public checker does.
    words = paragraphs[given.nth_paragraph - 1].split()
    if not words:
        return False
    word = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == given.first_word.lower()


def _placeholders(answer: str, given: _Placeholders) -> bool:
    return sum(_bracketed(line) for line in answer.split("\n")) >= given.num_placeholders


def _bracketed(line: str) -> int:
    """How many pairs of square brackets a line has, counted in time linear in it."""
    count, start = 0, line.find("[")
    while start >= 0 and (end := line.find("]", start)) >= 0:
        count, start = count + 1, line.find("[", end)
    return count


def _postscript(answer: str, given: _Postscript) -> bool:
    marker = given.postscript_marker.strip()
    written = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, marker.lower())
    return _pattern(written, 0).search(answer.lower()) is not None


def _bullets(answer: str, given: _Bullets) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == given.num_bullets


def _constrained(answer: str, given: Arguments) -> bool:
    return any(f"My answer is {option}." in answer for option in ("yes", "no", "maybe"))


def _highlights(answer: str, given: _Highlights) -> bool:
    # *this* and **this** are both counted, so that **this** counts as the public checker has it.
    single = [found for found in re.findall(r"\*[^\n\*]*\*", answer) if found.strip("*").strip()]
    double = [found for found in re.findall(r"\*\*[^\n\*]*\*\*", answer) if found[2:-2].strip()]
    return len(single) + len(double) >= given.num_highlights


def _sections(answer: str, given: _Sections) -> bool:
    marks = _pattern(rf"\s?{given.section_spliter.strip()}\s?\d+\s?", 0).findall(answer)
    return len(marks) >= given.num_sections


def _json(answer: str, given: Arguments) -> bool:
    text = answer.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(answer: str, given: Arguments) -> bool:
    return any(_has_title(line) for line in answer.split("\n"))


def _has_title(line: str) -> bool:
    """Whether something stands between `<<` and `>>`, found in time linear in the line."""
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start <= end - 3 and bool(line[start : end + 2].lstrip("<").rstrip(">").strip())


def _two_responses(answer: str, given: Arguments) -> bool:
    parts = answer.split("******")
    filled = [part.strip() for part in parts if part.strip()]
    return _blank_only_at_ends(parts) and len(filled) == 2 and filled[0] != filled[1]


def _repeat(answer: str, given: _Repeat) -> bool:
    return answer.strip().lower().startswith(given.prompt_to_repeat.strip().lower())


def _end(answer: str, given: _End) -> bool:
    return answer.strip().strip('"').lower().endswith(given.end_phrase.strip().lower())


def _quotation(answer: str, given: Arguments) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capitals(answer: str, given: _Capitals) -> bool:
    return _holds(capital_words(answer), given.capital_relation, given.capital_frequency)


def _english(answer: str) -> bool:
    return _language(answer, _Language(language="en"))


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is asked: the schema of its arguments, whether an answer does it, and what else is to be checked."""

    arguments: type[BaseModel]
    followed: Callable[[str, Any], bool]
    check_arguments: Callable[[dict[str, Any]], None] = lambda given: None


INSTRUCTIONS: dict[str, Instruction] = {
    "keywords:existence": Instruction(_Keywords, _keywords),
    "keywords:frequency": Instruction(_Frequency, _keyword_frequency),
    "keywords:forbidden_words": Instruction(_Forbidden, _forbidden),
    "keywords:letter_frequency": Instruction(_Letter, _letter_frequency),
    "language:response_language": Instruction(_Language, _language),
    "length_constraints:number_sentences": Instruction(_Sentences, _sentence_count),
    "length_constraints:number_paragraphs": Instruction(_Paragraphs, _paragraph_count),
    "length_constraints:number_words": Instruction(_Words, _word_count),
    "length_constraints:nth_paragraph_first_word": Instruction(_ParagraphStart, _paragraph_start),
    "detectable_content:number_placeholders": Instruction(_Placeholders, _placeholders),
    "detectable_content:postscript": Instruction(_Postscript, _postscript),
    "detectable_format:number_bullet_lists": Instruction(_Bullets, _bullets),
    "detectable_format:constrained_response": Instruction(Arguments, _constrained),
    "detectable_format:number_highlighted_sections": Instruction(_Highlights, _highlights),
    "detectable_format:multiple_sections": Instruction(_Sections, _sections),
    "detectable_format:json_format": Instruction(Arguments, _json),
    "detectable_format:title": Instruction(Arguments, _title),
    "combination:two_responses": Instruction(Arguments, _two_responses),
    "combination:repeat_prompt": Instruction(_Repeat, _repeat),
    "startend:end_checker": Instruction(_End, _end),
    "startend:quotation": Instruction(Arguments, _quotation),
    "change_case:capital_word_frequency": Instruction(_Capitals, _capitals),
    "change_case:english_capital": Instruction(Arguments, lambda text, _: text.isupper() and _english(text)),
    "change_case:english_lowercase": Instruction(
        Arguments, lambda text, _: text.islower() and _english(text)
    ),
    "punctuation:no_comma": Instruction(Arguments, lambda text, _: "," not in text),
}


class _OfAnother(BaseModel):
    """Arguments that a package's checker reads itself."""

    model_config = ConfigDict(extra="allow", frozen=True)


def find_instruction(name: str) -> Instruction | None:
    """IFEval's, or one of IFBench's that the installed package can check; None where neither knows it."""
    if name in INSTRUCTIONS:
        return INSTRUCTIONS[name]
    from alloy.verify import ifbench

    if not ifbench.is_supported(name):
        return None
    return Instruction(
        _OfAnother,
        lambda text, given: ifbench.follows(name, text, given.model_extra),
        lambda given: ifbench.check_arguments(name, given),
    )


def unsupported(names: Iterable[object]) -> list[str]:
    """The names that no checker here knows."""
    return [str(name) for name in names if not isinstance(name, str) or find_instruction(name) is None]


def loose_readings(answer: str) -> list[str]:
    """The answer as it is, without its first, last or both lines, and each of these without asterisks."""
    lines = answer.split("\n")
    trimmed = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    readings = [answer, *trimmed]
    return readings + [reading.replace("*", "") for reading in readings]


def verify_instructions(
    completion: str,
    instruction_id_list: Sequence[str],
    kwargs: Sequence[dict[str, Any]],
    loose: bool = False,
    thinking_opened: bool = False,
) -> Verdict:
    """Whether an answer follows every instruction: reward 1, else 0.

    `parts` has an entry for each instruction in their order, 1 when followed; an id that comes
    again is numbered (`punctuation:no_comma#2`). An empty answer follows nothing. Thinking is not
    part of the answer. Arguments that are None count as not given.

    Args:
        loose: an instruction counts as followed when any of `loose_readings` follows it.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    try:
        asked = [
            _read_instruction(name, given) for name, given in zip(instruction_id_list, kwargs, strict=True)
        ]
    except ValueError as error:
        return Verdict(None, "error", str(error))
    answer = answer_of(completion, thinking_opened)
    readings = [] if answer is None else loose_readings(answer) if loose else [answer]
    try:
        followed = [_followed(instruction, given, readings) for instruction, given in asked]
    except DetectorMissing as error:
        return Verdict(None, "error", str(error))
    parts = dict(zip(_numbered(instruction_id_list), map(float, followed), strict=True))
    missed = [name for name, part in parts.items() if not part]
    if answer is None:
        return Verdict(0.0, "unparsable", "the thinking was never closed", parts)
    return Verdict(float(not missed), "ok", f"not followed: {', '.join(missed)}" if missed else "", parts)


def _read_instruction(name: str, given: dict[str, Any] | None) -> tuple[Instruction, BaseModel]:
    """The instruction of a name with its arguments.

    Raises:
        ValueError: nobody knows it, or they are not its arguments.
    """
    instruction = find_instruction(name)
    if instruction is None:
        raise ValueError(f"instruction_id_list: {name!r} is no IFEval instruction.")
    set_arguments = {key: value for key, value in (given or {}).items() if value is not None}
    try:
        read = instruction.arguments.model_validate(set_arguments)
    except ValidationError as error:
        raise ValueError(f"kwargs of {name}: {explain(error)}") from None
    instruction.check_arguments(set_arguments)
    return instruction, read


def _followed(instruction: Instruction, given: BaseModel, readings: Iterable[str]) -> bool:
    return any(reading.strip() and instruction.followed(reading, given) for reading in readings)


def _numbered(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered
