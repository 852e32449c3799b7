"""The one shape of every verifier's answer."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "unparsable", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one completion.

    `ok`: judged, `reward` from 0 to 1. `unparsable`: the model's fault, `reward` 0. `timeout` and
    `error`: the verifier's own failure, `reward` None, which is masked from the loss and counted,
    never taken for a 0. `parts` holds named components of the judgement, each from 0 to 1.
    """

    reward: float | None
    status: Status = "ok"
    detail: str = ""
    parts: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if (self.reward is None) != (self.status in ("timeout", "error")):
            raise ValueError(f"a verdict of status {self.status!r} cannot have reward {self.reward!r}")


def unparsable(detail: str) -> Verdict:
    return Verdict(0.0, "unparsable", detail)
