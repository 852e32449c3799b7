import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.verify.instructions import INSTRUCTIONS, loose_readings, verify_instructions
from alloy.verify.sentences import sentences
from alloy.verify.words import capital_words

IFEVAL = Path(__file__).parents[3] / "shared" / "data" / "ifeval" / "prompts.jsonl"

WORDS_20 = "one two three four five six seven eight nine ten " * 2
KEYWORD = {"keyword": "cat", "frequency": 2, "relation": "at least"}
LETTER = {"letter": "e", "let_frequency": 3, "let_relation": "at least"}
START = {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Elm"}
CAPITALS = {"capital_frequency": 2, "capital_relation": "at least"}
SECTIONS = {"section_spliter": "Section", "num_sections": 2}

CASES = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "Cats and DOGS.", True),
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "Only a cat.", False),
    ("keywords:existence", {"keywords": ["C++"]}, "I write C++ code.", True),
    ("keywords:frequency", KEYWORD, "cat Cathedral", True),
    ("keywords:frequency", KEYWORD, "one cat", False),
    ("keywords:frequency", KEYWORD | {"relation": "less than"}, "one cat", True),
    ("keywords:frequency", KEYWORD | {"relation": "less than"}, "cat cat", False),
    ("keywords:forbidden_words", {"forbidden_words": ["run"]}, "He was running.", True),
    ("keywords:forbidden_words", {"forbidden_words": ["run"]}, "RUN!", False),
    ("keywords:letter_frequency", LETTER, "Eleven e", True),
    ("keywords:letter_frequency", LETTER, "one e", False),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        "a #",
        True,
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        "##",
        False,
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", True),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        "Dr. Who is.",
        False,
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Just one.", True),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "One! Two?",
        False,
    ),
    ("length_constraints:number_words", {"num_words": 20, "relation": "at least"}, WORDS_20, True),
    ("length_constraints:number_words", {"num_words": 21, "relation": "at least"}, WORDS_20, False),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "don't", True),
    ("length_constraints:number_words", {"num_words": 2, "relation": "less than"}, "don't", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb\n***", True),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\nb", False),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\n\n***\nb", False),
    ("length_constraints:nth_paragraph_first_word", START, "a b\n\n'Elm, c", True),
    ("length_constraints:nth_paragraph_first_word", START, "a b\n\nelmwood c", False),
    ("length_constraints:nth_paragraph_first_word", START, "elm", False),
    ("length_constraints:nth_paragraph_first_word", START, "a\n\nelm\n\nc", False),
    ("length_constraints:nth_paragraph_first_word", START, "a\n\n\n\nelm", False),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [address]", True),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name]", False),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. PS more", False),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. p.p.s more", True),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. P.S. more", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", True),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c", False),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "** not a bullet **\n  * a", True),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", True),
    ("detectable_format:constrained_response", {}, "My answer is perhaps.", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", True),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and * *", False),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "**bold**", True),
    ("detectable_format:multiple_sections", SECTIONS, "Section 1\na\nSection 2\nb", True),
    ("detectable_format:multiple_sections", SECTIONS, "Section 1\na\nSECTION 2\nb", False),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', True),
    ("detectable_format:json_format", {}, '{"a": 1,}', False),
    ("detectable_format:json_format", {}, "[" * 100_000, False),
    ("detectable_format:title", {}, "<<poem of joy>>\nRoses", True),
    ("detectable_format:title", {}, "<< >>\nRoses", False),
    ("combination:two_responses", {}, "a\n******\nb", True),
    ("combination:two_responses", {}, "a\n******\na", False),
    ("combination:two_responses", {}, "a\n******\n \n******\nb", False),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "say HI. Hi!", True),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Hi! Say hi.", False),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, '"Bye. any QUESTIONS?" ', True),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, "Any questions? Bye.", False),
    ("startend:quotation", {}, ' "Hello" ', True),
    ("startend:quotation", {}, '"', False),
    ("change_case:capital_word_frequency", CAPITALS, "I AM here", True),
    ("change_case:capital_word_frequency", CAPITALS, "He IS here", False),
    ("change_case:capital_word_frequency", CAPITALS, "DON'T", True),
    ("change_case:capital_word_frequency", CAPITALS, "WELL-KNOWN", False),
    ("change_case:english_capital", {}, "Not all CAPITALS", False),
    ("change_case:english_lowercase", {}, "Not all lower", False),
    ("punctuation:no_comma", {}, "no such mark", True),
    ("punctuation:no_comma", {}, "one, two", False),
]
LANGUAGE_CASES = [
    ("language:response_language", {"language": "de"}, "Das ist ein einfacher deutscher Satz.", True),
    ("language:response_language", {"language": "de"}, "This is a plain English sentence.", False),
    ("language:response_language", {"language": "de"}, "12345", True),
    ("change_case:english_capital", {}, "THIS IS A PLAIN ENGLISH SENTENCE.", True),
    ("change_case:english_capital", {}, "DAS IST EIN EINFACHER DEUTSCHER SATZ.", False),
    ("change_case:english_lowercase", {}, "this is a plain english sentence.", True),
]


@pytest.mark.parametrize(("name", "arguments", "answer", "followed"), CASES)
def test_strict_reading(name: str, arguments: dict, answer: str, followed: bool) -> None:
    verdict = verify_instructions(answer, [name], [arguments])
    assert (verdict.reward, verdict.status, verdict.parts) == (float(followed), "ok", {name: float(followed)})


@pytest.mark.parametrize(("name", "arguments", "answer", "followed"), LANGUAGE_CASES)
def test_language(name: str, arguments: dict, answer: str, followed: bool) -> None:
    pytest.importorskip("langdetect", reason="langdetect is not installed")
    assert verify_instructions(answer, [name], [arguments]).reward == float(followed)


def test_without_langdetect_a_language_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from alloy.verify import language

    monkeypatch.setitem(__import__("sys").modules, "langdetect", None)
    language._langdetect.cache_clear()
    verdict = verify_instructions("hallo", ["language:response_language"], [{"language": "de"}])
    language._langdetect.cache_clear()
    assert (verdict.reward, verdict.status) == (None, "error")
    assert "Install langdetect" in verdict.detail


def test_every_type_has_a_case_that_is_followed_and_one_that_is_not() -> None:
    seen = {(name, followed) for name, _, _, followed in CASES + LANGUAGE_CASES}
    seen.add(("change_case:english_lowercase", False))
    assert seen == {(name, followed) for name in INSTRUCTIONS for followed in (True, False)}
    assert len(INSTRUCTIONS) == 25


LOOSE_CASES = [
    # The first line may be an introduction, the last a farewell, and asterisks may be emphasis.
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "Sure!\nSay hi. Hi!"),
    ("startend:end_checker", {"end_phrase": "The end."}, "The end.\nI hope this helps!"),
    ("startend:quotation", {}, 'Sure:\n"Hello"\nDone.'),
    ("detectable_format:constrained_response", {}, "My **answer** is yes."),
    ("punctuation:no_comma", {}, "Sure, here it is\nno such mark"),
]


@pytest.mark.parametrize(("name", "arguments", "answer"), LOOSE_CASES)
def test_loose_reading_follows_what_the_strict_one_does_not(name: str, arguments: dict, answer: str) -> None:
    assert verify_instructions(answer, [name], [arguments]).reward == 0.0
    assert verify_instructions(answer, [name], [arguments], loose=True).reward == 1.0


def test_loose_readings() -> None:
    assert loose_readings("a*\nb\nc") == ["a*\nb\nc", "b\nc", "a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]


def test_reward_is_all_or_nothing_and_parts_tell_which() -> None:
    names = ["punctuation:no_comma", "startend:quotation", "punctuation:no_comma"]
    verdict = verify_instructions("no comma", names, [{}, {}, {}])
    assert verdict.reward == 0.0
    assert verdict.parts == {
        "punctuation:no_comma": 1.0,
        "startend:quotation": 0.0,
        "punctuation:no_comma#2": 1.0,
    }
    assert verdict.detail == "not followed: startend:quotation"


def test_an_empty_answer_follows_nothing() -> None:
    assert verify_instructions(" \n", ["punctuation:no_comma"], [{}]).reward == 0.0


def test_thinking_is_not_part_of_the_answer() -> None:
    completion = "<think>First, commas.</think>\n\nelm tree\n\nb"
    arguments = {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "elm"}
    names = ["punctuation:no_comma", "length_constraints:nth_paragraph_first_word"]
    assert verify_instructions(completion, names, [{}, arguments]).reward == 1.0
    assert verify_instructions("<think>no end", names, [{}, arguments]).status == "unparsable"


@pytest.mark.parametrize(
    ("name", "arguments", "detail"),
    [
        ("keywords:nonsense", {}, "'keywords:nonsense' is no IFEval instruction"),
        ("length_constraints:number_words", {"num_words": 3}, "relation is needed"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "at most"}, "relation = 'at most'"),
        ("length_constraints:number_words", {"words": 3}, "words is not known"),
        ("keywords:letter_frequency", LETTER | {"letter": "ab"}, "letter = 'ab'"),
    ],
)
def test_bad_arguments_are_our_error(name: str, arguments: dict, detail: str) -> None:
    verdict = verify_instructions("text", [name], [arguments])
    assert (verdict.reward, verdict.status) == (None, "error")
    assert detail in verdict.detail


def test_arguments_that_are_none_count_as_not_given() -> None:
    given = {"num_words": 1, "relation": "at least", "keywords": None, "language": None}
    assert verify_instructions("word", ["length_constraints:number_words"], [given]).reward == 1.0


@pytest.mark.skipif(not IFEVAL.is_file(), reason=f"{IFEVAL} is not there")
def test_every_public_prompt_is_accepted() -> None:
    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    names: set[str] = set()
    for row in rows:
        names.update(row["instruction_id_list"])
        # In capitals no language is asked for, which may not be installed.
        verdict = verify_instructions("Some Text.", row["instruction_id_list"], row["kwargs"])
        assert verdict.status == "ok" or "Install langdetect" in verdict.detail, (row["key"], verdict.detail)
    assert len(rows) == 541
    assert names == set(INSTRUCTIONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones. They left.", ["Dr. Smith met Mrs. Jones.", "They left."]),
        ("It costs 3.50 dollars. Good.", ["It costs 3.50 dollars.", "Good."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("(It rained.) We left.", ["(It rained.)", "We left."]),
        ("J. Bach wrote it. Yes.", ["J. Bach wrote it.", "Yes."]),
        ("Really?! Yes.", ["Really?!", "Yes."]),
        ("Wait... what? Well.", ["Wait... what?", "Well."]),
        ("1. First item\n2. Second item", ["1.", "First item\n2.", "Second item"]),
        ("no end mark\n\nanother paragraph", ["no end mark\n\nanother paragraph"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("NASA and the U.S. AGREE", 3),
        ("WELL-KNOWN", 1),
        ("DON'T", 2),
        ("IT'S, he said", 2),
        ("A,B and C:D", 4),
        ("*BOLD*WORDS*", 2),
        ("3 4 %", 0),
        ("ÉTÉ été", 1),
        ("CANNOT", 2),
    ],
)
def test_words_in_capitals_are_treebank_tokens(text: str, count: int) -> None:
    assert capital_words(text) == count


def test_sentences_are_those_of_nltk() -> None:
    punkt = pytest.importorskip("nltk.tokenize.punkt", reason="NLTK is not installed")
    from alloy.verify.sentences import model

    if model().source == "built-in":
        pytest.skip("no Punkt model is installed")
    oracle = punkt.PunktSentenceTokenizer()
    oracle._params.abbrev_types = set(model().abbreviations)
    oracle._params.collocations = set(model().collocations)
    oracle._params.sent_starters = set(model().starters)
    oracle._params.ortho_context.update(model().casing)
    draw = random.Random(0)
    pieces = [*"ab AB.?!\n,;:'\"()[]-*35 ", "Dr. ", "U.S. ", "The ", "he ", "e.g. ", "... ", "-- ", "\u201d "]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randint(0, 60)))
        assert sentences(text) == oracle.tokenize(text)


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="aB.,!?*\"'[]<>{}\n #-1P.S\ud800", max_size=60), st.booleans())
def test_arbitrary_text_never_raises(answer: str, loose: bool) -> None:
    for name, arguments, _, _ in CASES:
        if not name.startswith("change_case:english"):
            verdict = verify_instructions(answer, [name], [arguments], loose)
            assert verdict.status == "ok"
            assert verdict.reward in (0.0, 1.0)
