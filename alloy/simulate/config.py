"""What is simulated, and with which endpoint, in YAML; imports no torch."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from alloy.config import Config

_OF_TOOLS = ("scenarios", "tools_offered", "read_only")
"""Settings that an environment brings itself."""

SYSTEM = (
    "You help people with the tools that you are given. Ask for what you do not know, change only what is "
    "asked for, and say nothing that neither the user nor a tool has told you."
)


class EndpointConfig(Config):
    """A server that speaks OpenAI's chat completions."""

    base_url: str
    """Up to and with /v1."""
    model: str
    """As the server names it."""
    api_key_env: str | None = None
    """The environment variable that holds the key; no key is sent when not given."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Of one request."""
    max_retries: int = Field(6, ge=0)
    """Of one request, after 429, 5xx, a timeout or a lost connection; the wait doubles from half a second."""
    send_seed: bool = True
    """A seed with every request, unless the server refuses it: the same config then gives the same conversations."""
    json_mode: bool = False
    """Ask for JSON by `response_format` where JSON is needed; not every server takes it."""

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        # The value is not repeated: it may hold what should not be shown.
        if not re.match(r"https?://[^/\s]", url):
            raise ValueError("it begins with http:// or https:// and a host")
        if "@" in url.split("//", 1)[1].split("/", 1)[0]:
            raise ValueError(
                "no user and password in the address: name an environment variable in api_key_env"
            )
        return url

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("it is the name of an environment variable, never the key itself")
        return name


class RoleConfig(Config):
    """How one role is played."""

    endpoint: EndpointConfig | None = None
    """Instead of the config's: another model for this role."""
    temperature: float = Field(default=0.7, ge=0)
    """Of sampling."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of sampling."""
    max_completion_tokens: int = Field(default=1024, gt=0)
    """Of one turn; a turn that is cut there is rejected or, where JSON is needed, asked for again."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Sent with every request as it is: {chat_template_kwargs: {enable_thinking: false}}."""


class RolesConfig(Config):
    """The roles that a model plays."""

    scenario: RoleConfig = RoleConfig(temperature=1.0, max_completion_tokens=2048)
    """Writes who wants what, and which calls would do it."""
    user: RoleConfig = RoleConfig(temperature=1.0)
    """Asks, and answers the assistant's questions."""
    assistant: RoleConfig = RoleConfig()
    """Whose turns become rows."""
    server: RoleConfig = RoleConfig(temperature=0.0)
    """Answers the calls."""


class SimulateConfig(Config):
    """Conversations over a set of tools, or with the world of an environment."""

    output: Path
    """A folder: conversations.jsonl, rejected.jsonl, summary.json and what a killed run goes on from."""
    seed: int = 0
    """Of what is drawn, and sent with the requests."""
    conversations: int = Field(gt=0)
    """Tried, kept or not. May be raised later: the run goes on."""
    concurrency: int = Field(8, gt=0)
    """Conversations under way at a time; no result depends on it."""
    endpoint: EndpointConfig
    """Which model plays."""
    roles: RolesConfig = RolesConfig()
    tools: Path | None = None
    """A JSON list of {"name", "description", "parameters"}; `"read_only": true` in one that changes nothing."""
    read_only: list[str] = Field(default_factory=list)
    """More tools that change nothing."""
    free_text: list[str] = Field(default_factory=list)
    """`tool.parameter` whose text the assistant composes, as the body of a letter: only its numbers, ids,
    addresses and quotations must have been told, and any text reaches the goal."""
    tools_offered: int | None = Field(None, gt=0)
    """In one conversation, drawn by chance; all when not given."""
    scenarios: Path | None = None
    """JSONL of the user's own, played in turn; the model writes them when not given."""
    goal_calls: int = Field(3, gt=0)
    """The most that a written scenario needs."""
    environment: str | None = None
    """Instead of `tools`: of alloy/environments; its world answers the calls and its judge decides."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the environment."""
    system: str = SYSTEM
    """The assistant's, and the rows'; an environment's tasks bring their own."""
    calls: Literal["native", "prompted"] = "native"
    """`native`: by the endpoint's `tools`. `prompted`: tools and notation stand in the system prompt, for an
    endpoint without."""
    thinking: bool = True
    """Keep the assistant's thinking in the rows, where the endpoint gives it."""
    max_turns: int = Field(12, gt=0)
    """Of the assistant, calls included."""
    max_tries: int = Field(3, gt=0)
    """To get a scenario or an API's answer that can be used."""
    duplicate_similarity: float | None = Field(0.8, gt=0, le=1)
    """Share of three-word runs in common from which the later conversation is dropped; null keeps all."""

    @model_validator(mode="after")
    def _one_world(self) -> "SimulateConfig":
        if (self.tools is None) == (self.environment is None):
            raise ValueError("give either `tools` (a file) or `environment` (with a world)")
        if self.environment is not None:
            given = [name for name in _OF_TOOLS if getattr(self, name)]
            if given:
                raise ValueError(f"{given[0]} goes with `tools`, not with `environment`: remove it")
        elif self.options:
            raise ValueError("options are the environment's: set `environment`, or remove them")
        wrong = [name for name in self.free_text if not re.fullmatch(r"[^.\s]+\.[^.\s]+", name)]
        if wrong:
            raise ValueError(f"free_text: {wrong[0]!r} is not written tool.parameter")
        return self
