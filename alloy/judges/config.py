"""Which model judges, and how it is asked; imports no torch."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from alloy.config import Config


class JudgeConfig(Config):
    """A judge behind an OpenAI-compatible endpoint."""

    base_url: str
    """Up to and with /v1."""
    model: str
    """As the server names it."""
    api_key_env: str | None = None
    """The environment variable that holds the key; no key is sent when not given."""
    concurrency: int = Field(16, gt=0)
    """Requests under way at a time."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Of one request."""
    max_retries: int = Field(4, ge=0)
    """Of one request, after 429, 5xx, a timeout or a lost connection; the wait doubles from half a second."""
    max_tries: int = Field(3, gt=0)
    """Of one comparison whose answer cannot be read; after the last it is missing."""
    both_orders: bool = True
    """Ask every comparison twice, the answers swapped, and take the mean: judges prefer a place. Otherwise the
    order is drawn."""
    max_missing_share: float = Field(0.5, ge=0, lt=1)
    """Of the comparisons of a batch; more missing ones stop the run: a judge that says nothing teaches nothing."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the first try; a retry has 0.6 at least, or it would say the same again."""
    max_completion_tokens: int = Field(default=1024, gt=0)
    """Of one answer of the judge."""
    structured: Literal["json_schema", "none"] = "json_schema"
    """Whether the server is told the form of the answer (`response_format`); not every server takes it."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Sent with every request as it is: {chat_template_kwargs: {enable_thinking: false}}."""

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        # The value is not repeated: it may hold what should not be shown.
        if not re.match(r"https?://[^/@\s]+(/|$)", url):
            raise ValueError("it begins with http:// or https:// and a host, without user and password")
        return url
