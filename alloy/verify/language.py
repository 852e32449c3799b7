"""The language a text is written in, as langdetect says it, the same every time."""

from functools import lru_cache
from typing import Any


class LanguageUnknown(Exception):
    """The text has nothing a language could be told from, such as only digits."""


class DetectorMissing(Exception):
    """langdetect is not installed."""


def detect_language(text: str) -> str:
    """The ISO 639-1 code of a text's language (`zh-cn` and `zh-tw` for Chinese).

    langdetect draws random subsamples; its seed is fixed, so that a text has one language.

    Raises:
        LanguageUnknown: nothing to tell it from.
        DetectorMissing: langdetect is not installed.
    """
    langdetect = _langdetect()
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException as error:
        raise LanguageUnknown(str(error)) from None


@lru_cache(maxsize=1)
def _langdetect() -> Any:
    try:
        import langdetect
    except ImportError:
        raise DetectorMissing(
            "langdetect is not installed, which tells a response's language. Install langdetect."
        ) from None
    langdetect.DetectorFactory.seed = 0
    return langdetect
