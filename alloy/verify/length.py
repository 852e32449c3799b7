"""Length: does the answer, the thinking or the whole completion stay within bounds?"""

import re
from typing import Literal

from alloy.verify.answer import split
from alloy.verify.verdict import Verdict, unparsable

Unit = Literal["tokens", "words", "characters"]
Part = Literal["answer", "thinking", "completion"]


def verify_length(
    completion: str,
    minimum: int = 0,
    maximum: int | None = None,
    unit: Unit = "words",
    part: Part = "answer",
    tokens: int | None = None,
    thinking_opened: bool = False,
) -> Verdict:
    """Reward 1 when `minimum <= length <= maximum`, else 0.

    Args:
        maximum: None for no upper bound.
        unit: words are runs of letters, digits and underscores.
        tokens: how many the part has, counted by whoever has the tokenizer; only for unit `tokens`.
        thinking_opened: the prompt ended with an opened thinking tag.
    """
    if unit == "tokens" and tokens is None:
        return Verdict(None, "error", "tokens is needed for unit tokens: a verifier has no tokenizer")
    parts = split(completion, thinking_opened)
    if part == "answer" and parts.answer is None:
        return unparsable("the thinking was never closed")
    text = {"answer": parts.answer or "", "thinking": parts.thinking, "completion": completion}[part]
    if unit == "tokens":
        length = tokens or 0
    else:
        length = len(re.findall(r"\w+", text)) if unit == "words" else len(text)
    fits = minimum <= length and (maximum is None or length <= maximum)
    return Verdict(float(fits), "ok", f"{length} {unit}")
