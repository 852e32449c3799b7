"""Any chat template: what it makes of a conversation, and which tokens of it the assistant wrote.

A template with `{% generation %}` says itself what the assistant writes, and is used as it is. For any
other the written spans are found by rendering: before a span must stand exactly the prompt that the
model gets at inference, and in it what the turn says. Where the template rewrites history (drops
earlier thinking, moves the tools), a conversation becomes one training sequence a user turn. What
cannot be proven is an error, never a guess.

Prompt, writing and tool responses are tokenised apart, as they are at inference, where the prompt is
tokenised once and what comes after it is appended.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from transformers.utils.chat_template_utils import render_jinja_template

from alloy.chat import split_control
from alloy.environments.task import Message
from alloy.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_BUDGETS = ("reasoning_budget", "thinking_budget")
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered conversation, and whether the assistant wrote it."""

    text: str
    written: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """One training sequence: token ids, and 1 where a token carries loss."""

    input_ids: list[int]
    completion_mask: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a template is given beside the turns."""

    tools: Sequence[dict[str, Any]]
    on: bool
    budget: int | None = None


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    thinking: bool | None = None,
) -> list[int]:
    """Token ids up to where the assistant begins to write.

    Args:
        thinking: on or off; read from `/think` and `/no_think` when None.
    """
    template = chat_template(tokenizer)
    return template.encode([[Piece(template.prompt(messages, tools, thinking), False)]])[0].input_ids


def encode_conversation(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    thinking: bool | None = None,
) -> list[Encoded]:
    """A conversation as training sequences; loss on what the assistant wrote, its end of turn included.

    Raises:
        InputError: no assistant turn, or a template in which the written tokens cannot be told apart.
    """
    template = chat_template(tokenizer)
    return template.encode(template.sequences(messages, tools, thinking))


def tool_turn_ids(tokenizer: "PreTrainedTokenizerBase", answers: Sequence[str], thinking: bool) -> list[int]:
    """What stands between an assistant's end of turn and its next writing, after its tools answered.

    Tokens that the policy wrote are kept as they are: only these are appended, so that nothing is
    ever tokenised twice.
    """
    template = chat_template(tokenizer)
    calls = [{"name": "f", "arguments": {}} for _ in answers]
    said: list[Message] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "x", "thinking": "x", "tool_calls": calls},
        *({"role": "tool", "content": answer} for answer in answers),
        {"role": "assistant", "content": "x", "thinking": "x"},
    ]
    pieces = template.sequences(said, (), thinking)[-1]
    return template.encode([[pieces[-2]]])[0].input_ids


def chat_template(tokenizer: "PreTrainedTokenizerBase") -> "ChatTemplate":
    """The template of a tokenizer, read once.

    Raises:
        InputError: it has none.
    """
    source = tokenizer.chat_template
    if not isinstance(source, str):
        kind = "no chat template" if source is None else "several chat templates"
        raise InputError(
            f"{tokenizer.name_or_path or 'the tokenizer'} has {kind}. Put one chat_template.jinja into its folder, "
            "or build the model with `package: alloy.base`, which brings Alloy's."
        )
    return _read(tokenizer, source)


@lru_cache(maxsize=16)
def _read(tokenizer: "PreTrainedTokenizerBase", source: str) -> "ChatTemplate":
    return ChatTemplate(tokenizer, source)


class ChatTemplate:
    """One tokenizer's chat template, and what there is to know of it.

    Attributes:
        marked: it has `{% generation %}`.
        thought_key: the key of a turn that it reads thinking from. Without one thinking is put where
            models of such templates write it: into the content, in tags.
        switched: it has an argument that switches thinking on and off.
        budget_argument: the name of its argument for a thinking budget, where it has one.
        reads_control: it looks for `/no_think` in the turns instead.
        splits: pieces may be tokenised apart (a tokenizer that puts a space before a text may not).
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", source: str) -> None:
        self.tokenizer, self.source = tokenizer, source
        self.marked = bool(_MARKS.search(source))
        self.thought_key = next(
            (key for key in ("reasoning_content", "thinking") if f".{key}" in source), None
        )
        self.switched = "enable_thinking" in source
        self.reads_control = not self.switched and "/no_think" in source
        self.budget_argument = next((name for name in _BUDGETS if name in source), None)
        self.splits = _ids(tokenizer, ["a"]) != _ids(tokenizer, [" a"])
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.ends = tuple({*special, *filter(None, [tokenizer.eos_token])})

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), thinking: bool | None = None
    ) -> str:
        """The text up to where the assistant begins to write."""
        plain, control = split_control(messages)
        given = _Given(tools, control if thinking is None else thinking)
        return self._render(plain, given, prompt=True)[0]

    def sequences(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        thinking: bool | None = None,
        budget: int | None = None,
    ) -> list[list[Piece]]:
        """A conversation as training sequences: all that was written, each turn in exactly one of them.

        Args:
            thinking: on or off for every turn. When None, `/think` and `/no_think` say it; where they
                do not, it is on for the user turns whose answer has thinking.
            budget: thinking tokens that the prompt allows, handed to a template that takes the number.
        Raises:
            InputError: no assistant turn, or spans that cannot be proven.
        """
        found: list[tuple[str, list[Span]]] = []
        for begin, end in _answered(messages):
            plain, control = split_control(messages[:end])
            on = thinking if thinking is not None else control
            if thinking is None and not _controlled(messages[:end]):
                # Thinking that was cut to nothing is thinking still.
                on = any(message.get("thinking") is not None for message in messages[begin:end])
            text, spans = self._turn(plain, begin, _Given(tools, on, budget))
            if found and text.startswith(found[-1][0]):
                # History was not rewritten: one sequence holds both turns.
                spans = found.pop()[1] + spans
            found.append((text, spans))
        if not found:
            raise InputError("a conversation without an assistant turn has nothing to learn. Remove the row.")
        return [_pieces(text, spans) for text, spans in found]

    def encode(self, sequences: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """Pieces to tokens, many sequences at once.

        Raises:
            InputError: a token that reaches over the border of a piece.
        """
        if not self.splits:
            return [self._encode_whole(pieces) for pieces in sequences]
        ids = iter(_ids(self.tokenizer, [piece.text for pieces in sequences for piece in pieces]))
        encoded = []
        for pieces in sequences:
            tokens: list[int] = []
            mask: list[int] = []
            for piece in pieces:
                part = next(ids)
                tokens += part
                mask += [int(piece.written)] * len(part)
            encoded.append(Encoded(tokens, mask))
        return encoded

    def _encode_whole(self, pieces: Sequence[Piece]) -> Encoded:
        text = "".join(piece.text for piece in pieces)
        whole = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        mask: list[int] = []
        end, written, rest = 0, False, iter(pieces)
        for first, last in whole["offset_mapping"]:
            while first >= end:
                piece = next(rest)
                end, written = end + len(piece.text), piece.written
            if last > end:
                raise InputError(
                    f"{self._name()}: the token {text[first:last]!r} is written by two sides. End the prompt in "
                    "a token of its own."
                )
            mask.append(int(written))
        return Encoded(list(whole["input_ids"]), mask)

    def _turn(self, messages: list[Message], begin: int, given: _Given) -> tuple[str, list[Span]]:
        """The text up to the end of the last answer, and the spans written from turn `begin` on."""
        text, marks = self._render(messages, given)
        self._check_shown(messages, given.tools, text)
        answers = [i for i in range(begin, len(messages)) if messages[i]["role"] == "assistant"]
        if self.marked:
            spans = self._of_turn(messages, answers[0], given, text, marks)
        else:
            spans = [self._proven(messages, index, given, text) for index in answers]
        return text[: spans[-1][1]], spans

    def _check_shown(self, messages: list[Message], tools: Sequence[dict[str, Any]], text: str) -> None:
        """Many templates know no tools, and leave out without a word what they do not know."""
        shown = [("the tool ", str(tool["name"])) for tool in tools]
        shown += [
            ("a tool's answer ", message["content"]) for message in messages if message["role"] == "tool"
        ]
        for kind, part in shown:
            if part.strip() not in text and json.dumps(part.strip(), ensure_ascii=False)[1:-1] not in text:
                raise InputError(
                    f"{self._name()} does not show {kind}{part[:40]!r} to the model. Use a template with a place for "
                    "tools, or leave rows with tools out."
                )

    def _of_turn(
        self,
        messages: list[Message],
        first: int,
        given: _Given,
        text: str,
        marks: list[Span],
    ) -> list[Span]:
        """The template's own marks from the answer `first` on; it may mark earlier answers, too."""
        start = 0
        if any(message["role"] == "assistant" for message in messages[:first]):
            history = self._render(messages[:first], given)[0]
            start = len(history)
            if not text.startswith(history):
                raise InputError(
                    f"{self._name()} renders the turns before answer {first + 1} in two ways, so that where the "
                    "answer begins cannot be told. Mend the template, or give each user turn a row of its own."
                )
        spans = [mark for mark in marks if start <= mark[0] < mark[1]]
        if not spans:
            raise InputError(
                f"{self._name()} marks no assistant token of the answer (its {{% generation %}} is empty there). "
                "Mend the template."
            )
        return spans

    def _proven(self, messages: list[Message], index: int, given: _Given, text: str) -> Span:
        """Where assistant turn `index` stands in `text`: behind its prompt, up to its end of turn."""
        message = messages[index]
        prompt = self._render(messages[:index], given, prompt=True)[0]
        upto = self._render(messages[: index + 1], given)[0]
        if not (upto.startswith(prompt) and text.startswith(upto)):
            raise InputError(
                f"{self._name()}: the rendered conversation does not begin with the prompt of turn {index + 1}, so "
                "that what the model writes there cannot be told. Mark it in the template with {% generation %}."
            )
        written = upto[len(prompt) :].rstrip()
        said = {
            "content": message.get("content") or "",
            "thinking": (given.on and message.get("thinking")) or "",
        }
        names = [call["name"] for call in message.get("tool_calls") or []]
        for what, part in [*said.items(), *((f"call of {name}", name) for name in names)]:
            if part.strip() and written.count(part.strip()) < max(1, names.count(part)):
                raise InputError(
                    f"{self._name()} leaves out or changes the {what} in turn {index + 1}, so that what the model "
                    "writes there cannot be told. Mark it in the template with {% generation %}."
                )
        if not written.endswith(self.ends):
            raise InputError(
                f"{self._name()} ends turn {index + 1} in {written[-20:]!r} and no special token: the model would "
                "never learn to stop. Let the template end an assistant turn in the tokenizer's eos_token."
            )
        return len(prompt), len(prompt) + len(written)

    def _render(
        self, messages: Sequence[Message], given: _Given, prompt: bool = False
    ) -> tuple[str, list[Span]]:
        try:
            texts, marks = render_jinja_template(
                conversations=[self._shaped(messages, given.on)],
                tools=to_template_tools(given.tools),
                chat_template=self.source,
                return_assistant_tokens_mask=self.marked and not prompt,
                add_generation_prompt=prompt,
                **{
                    **self.tokenizer.special_tokens_map,
                    "enable_thinking": given.on,
                    **self._budget(given.budget),
                },
            )
        except Exception as error:  # a template may raise anything, its own refusals among it
            raise InputError(f"{self._name()} refuses the conversation: {error}") from None
        return texts[0], marks[0] if marks else []

    def _budget(self, budget: int | None) -> dict[str, int]:
        if budget is None:
            return {}
        if self.budget_argument is None:
            raise InputError(
                f"{self._name()} takes no thinking budget ({' or '.join(_BUDGETS)}). Set data.truncate.tell=false."
            )
        return {self.budget_argument: budget}

    def _shaped(self, messages: Sequence[Message], on: bool) -> list[dict[str, Any]]:
        """Our turns in the shape that chat templates read."""
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
        shaped: list[dict[str, Any]] = []
        waiting: list[tuple[str, str]] = []
        for index, message in enumerate(messages):
            turn: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
            thought = message.get("thinking") if on else None
            if thought and self.thought_key:
                turn[self.thought_key] = thought
            elif thought:
                turn["content"] = f"<think>\n{thought}\n</think>\n\n{turn['content']}"
            if message.get("tool_calls"):
                # Nine letters and digits, as Mistral's templates demand of an id.
                ids = [f"call{index:03d}{number:02d}"[:9] for number in range(len(message["tool_calls"]))]
                waiting = [(i, call["name"]) for i, call in zip(ids, message["tool_calls"], strict=True)]
                turn["tool_calls"] = [
                    {"type": "function", "id": i, "function": call}
                    for i, call in zip(ids, message["tool_calls"], strict=True)
                ]
            if message["role"] == "tool" and waiting:
                turn["tool_call_id"], turn["name"] = waiting.pop(0)
            if self.reads_control and index == last and not on:
                turn["content"] += " /no_think"
            shaped.append(turn)
        return shaped

    def _name(self) -> str:
        return f"the chat template of {self.tokenizer.name_or_path or 'the tokenizer'}"


def to_template_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return [{"type": "function", "function": tool} for tool in tools] or None


def _answered(messages: Sequence[Message]) -> Iterator[Span]:
    """The user turns that an assistant answers: from the user's turn to behind the last answer."""
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    # What an assistant says before anyone asked belongs to the first turn.
    begins = [0, *users[1:]]
    for begin, end in zip(begins, [*begins[1:], len(messages)], strict=True):
        answers = [index for index in range(begin, end) if messages[index]["role"] == "assistant"]
        if answers:
            yield begin, answers[-1] + 1


def _controlled(messages: Sequence[Message]) -> bool:
    return any(
        plain is not message for plain, message in zip(split_control(messages)[0], messages, strict=True)
    )


def _pieces(text: str, spans: list[Span]) -> list[Piece]:
    pieces, place = [], 0
    for start, end in spans:
        if start > place:
            pieces.append(Piece(text[place:start], False))
        pieces.append(Piece(text[start:end], True))
        place = end
    return pieces


def _ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]
