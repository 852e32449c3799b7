"""A conversation: what has been said, what is set, and the turns that an assistant writes in it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from alloy.environments.task import Message, World
from alloy.serve.asking import Asked, Reply, Show, Writer

_MAX_STEPS = 8
"""Turns of the assistant after one of the user's: a model that only calls tools comes to an end."""

HELP = """\
/think         answer after thinking (the default)
/no_think      answer at once
/budget N      think N tokens at most; 0 is no thinking; /budget none: no limit
/tools         put the assistant into a small company with tools; again: take it out
/system TEXT   what it is told before the conversation; without TEXT: nothing
/clear         forget the conversation
/help          this
/exit          end; so does Ctrl-D"""


@dataclass
class Conversation:
    """What a person and an assistant have said.

    Attributes:
        settings: of the next turn; `messages` and `tools` of it are not used.
        world: behind the tools on offer.
    """

    writer: Writer
    settings: Asked
    open_world: Callable[[], tuple[list[dict[str, Any]], World, str]]
    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    world: World | None = None
    system: str = ""

    def say(self, text: str, show: Show, tell: Callable[[str], None]) -> list[Reply]:
        """The turns that follow one of the user's; tools are called until the assistant calls no more.

        Args:
            tell: is handed each call with its answer, as a line.
        """
        begun = len(self.messages)
        self.messages.append({"role": "user", "content": text})
        replies: list[Reply] = []
        try:
            for _ in range(_MAX_STEPS):
                reply = self.writer.write(self._asked(), show)
                replies.append(reply)
                self.messages.append(reply.message)
                if not self._answer(reply, tell):
                    break
        except BaseException:
            # A turn that nobody answered is not part of what was said.
            if not replies:
                del self.messages[begun:]
            raise
        return replies

    def command(self, line: str) -> str | None:
        """Do what a line that begins with a slash says, and tell; None where it is no command."""
        name, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if name in ("/think", "/no_think") and not rest:
            self.settings = replace(self.settings, thinking=name == "/think")
            return "thinking is on" if self.settings.thinks else "thinking is off"
        done = {
            "/budget": self._budget,
            "/tools": lambda _: self._tools(),
            "/system": self._system,
            "/clear": lambda _: self._clear(),
            "/help": lambda _: HELP,
        }.get(name)
        return done(rest) if done else None

    def _asked(self) -> Asked:
        said = [{"role": "system", "content": self.system}] if self.system else []
        return replace(self.settings, messages=[*said, *self.messages], tools=self.tools)

    def _answer(self, reply: Reply, tell: Callable[[str], None]) -> bool:
        """Call what a turn calls; whether anything was."""
        calls = reply.message.get("tool_calls") or []
        if self.world is None or not calls or not reply.finished:
            return False
        for call in calls:
            answer = self.world.call(call["name"], call["arguments"])
            told = ", ".join(f"{key}={value!r}" for key, value in call["arguments"].items())
            tell(f"{call['name']}({told}) -> {answer}")
            self.messages.append({"role": "tool", "content": answer})
        return True

    def _budget(self, text: str) -> str:
        if text in ("none", "inf"):
            self.settings = replace(self.settings, budget=None)
            return "thinking has no limit"
        if not text.isdecimal():
            return f"/budget {text}: a number of tokens is wanted, or none"
        self.settings = replace(self.settings, budget=int(text))
        return f"thinking: {int(text)} tokens at most" if int(text) else "thinking is off"

    def _tools(self) -> str:
        if self.world is not None:
            self.tools, self.world = [], None
            return "no tools"
        self.tools, self.world, example = self.open_world()
        names = ", ".join(tool["name"] for tool in self.tools)
        return f"tools: {names}\nsuch as: {example}"

    def _system(self, text: str) -> str:
        self.system = text
        return "told before the conversation" if text else "nothing is told before the conversation"

    def _clear(self) -> str:
        self.messages.clear()
        return "forgotten"


def open_workplace(seed: int = 0) -> tuple[list[dict[str, Any]], World, str]:
    """All tools of a company of our own making, the company, and something that may be asked of it."""
    from alloy.environments.workplace import WorkplaceEnvironment
    from alloy.environments.workplace_tools import TOOLS

    environment = WorkplaceEnvironment(tools_offered=len(TOOLS))
    (task,) = environment.tasks("test", 1, seed)
    return task.tools, environment.open(task), str(task.messages[-1]["content"])
