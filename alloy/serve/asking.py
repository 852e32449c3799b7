"""What a model is asked over one turn, and what comes back, whoever writes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from alloy.environments.task import Message
from alloy.serve.splitting import Parts

Show = Callable[[Parts], None]
"""Is handed every piece as it comes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One turn that an assistant shall write.

    Attributes:
        tools: schemas of the tools on offer, {"name", "description", "parameters"}.
        budget: tokens of thinking; 0 is thinking off, None no limit.
        max_tokens: of thinking and answer together; None: as many as there is room for.
        temperature: 0 is greedy; when None as the paper samples: 0.6 with thinking, greedy without.
    """

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    thinking: bool = True
    budget: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float = 0.95
    seed: int | None = None

    @property
    def thinks(self) -> bool:
        return self.thinking and self.budget != 0

    @property
    def heat(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 0.6 if self.thinks else 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A turn as it was written.

    Attributes:
        tokens: of thinking and answer together, forced ones included.
        thinking_tokens: of the thinking alone.
        finished: whether it ended by itself, within its limit.
        requests: to a server.
    """

    message: Message
    tokens: int
    thinking_tokens: int
    finished: bool
    requests: int = 0


class Writer(Protocol):
    """Writes a turn."""

    def write(self, asked: Asked, show: Show) -> Reply: ...
