"""Well-formedness: thinking closed exactly once, and an answer after it."""

from alloy.verify.answer import CLOSING_TAG, OPENING_TAG
from alloy.verify.verdict import Verdict


def verify_format(completion: str, thinking: bool = True, thinking_opened: bool | None = None) -> Verdict:
    """Reward 1 when thinking is opened and closed exactly once and an answer follows, else 0.

    Args:
        thinking: False when reasoning is off: there must be no tag at all, only an answer.
        thinking_opened: whether the prompt ended with an opened thinking tag. True: the completion
            must not open another. False: it must begin with its own. None: either will do.
    """
    opened, closed = completion.count(OPENING_TAG), completion.count(CLOSING_TAG)
    if not thinking:
        parts = {"tags": float(opened == closed == 0), "answer": float(bool(completion.strip()))}
        return _verdict(parts, "a thinking tag with reasoning off")
    own = completion.lstrip().startswith(OPENING_TAG)
    well_opened = (opened == 0 and thinking_opened is not False) or (
        opened == 1 and own and thinking_opened is not True
    )
    answer = completion.rpartition(CLOSING_TAG)[2] if closed else ""
    parts = {
        "tags": float(well_opened and closed == 1),
        "answer": float(bool(answer.replace(OPENING_TAG, "").strip())),
    }
    return _verdict(parts, f"thinking opened {opened} and closed {closed} times")


def _verdict(parts: dict[str, float], wrong_tags: str) -> Verdict:
    detail = wrong_tags if not parts["tags"] else "" if parts["answer"] else "no answer"
    return Verdict(float(all(parts.values())), "ok", detail, parts)
