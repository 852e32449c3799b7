"""Words in capitals, counted as IFEval counts them: over NLTK's (Penn Treebank) tokens."""

import re

from alloy.verify.sentences import sentences

_OPENING_QUOTE = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", re.IGNORECASE)
_LONG_DOTS = re.compile(r"\.{2,}")
_SEPARATORS = re.compile(r"''|--|[«»“”‘’„`\";@#$%&\u2012-\u2015?!*\[\](){}<>]")
_COMMA_OR_COLON = re.compile(r"([:,])(\D)")
_FINAL_PERIOD = re.compile(r"([^.])\.([\])}>\"'»”’ ]*)\s*$")
_CLITIC = re.compile(r"([^' ])('[sS]|'[mM]|'[dD]|') ")
_LONG_CLITIC = re.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ")
_FUSED = (
    re.compile(r"\b(can)(not)\b", re.IGNORECASE),
    re.compile(r"\b(d)('ye)\b", re.IGNORECASE),
    re.compile(r"\b(gim|lem)(me)\b", re.IGNORECASE),
    re.compile(r"\b(gon)(na)\b", re.IGNORECASE),
    re.compile(r"\b(got)(ta)\b", re.IGNORECASE),
    re.compile(r"\b(more)('n)\b", re.IGNORECASE),
    re.compile(r"\b(wan)(na)(?=\s)", re.IGNORECASE),
    re.compile(r" ('t)(is|was)\b", re.IGNORECASE),
)


def capital_words(text: str) -> int:
    """How many Treebank tokens are all in capitals.

    A hyphenated word is one token, a contraction is two (`DON'T`: `DO`, `N'T`), so both count. Only
    what separates two cased parts matters here; marks of their own are never in capitals.
    """
    return sum(word.isupper() for sentence in sentences(text) for word in _tokens(sentence))


def _tokens(sentence: str) -> list[str]:
    text = _OPENING_QUOTE.sub("' ", sentence)
    text = _FINAL_PERIOD.sub(r"\1 . \2 ", text)
    text = _COMMA_OR_COLON.sub(r" \1 \2", text)
    text = _LONG_DOTS.sub(" ", text)
    text = _SEPARATORS.sub(" ", text)
    text = " " + " ".join(text.rstrip(":,").split()) + " "
    text = _CLITIC.sub(r"\1 \2 ", text)
    text = _LONG_CLITIC.sub(r"\1 \2 ", text)
    for fused in _FUSED:
        text = fused.sub(r" \1 \2 ", text)
    return text.split()
