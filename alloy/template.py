"""Any chat template: what it makes of a conversation, and which tokens of it the assistant wrote.

What an assistant turn wrote is what the rendering has behind the prompt that the model gets at
inference, up to the end of the turn. A template with `{% generation %}` says it itself. Either way it is
proven before it is trusted: a conversation of the same structure, in which every part is a word of its
own, must show each part where it belongs. Where a template rewrites what came before (drops earlier
thinking, moves the tools), a conversation becomes several training sequences. What cannot be proven is
an error, never a guess.

Prompt, writing and tool responses are tokenised apart, as they are at inference, where the prompt is
tokenised once and what comes after it is appended.
"""

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import TYPE_CHECKING, Any

from transformers.utils.chat_template_utils import render_jinja_template

from alloy.chat import parse_completion, split_control
from alloy.environments.task import Message
from alloy.errors import InputError
from alloy.tool_calls import NOTATIONS, Notation

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
    return template.encode([[Piece(template.after_tools(answers, thinking), False)]])[0].input_ids


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
        reads_control: it has no argument that switches thinking, and looks for `/no_think` in the turns.
        budget_argument: the name of its argument for a thinking budget, where it has one.
        splits: pieces may be tokenised apart (a tokenizer that puts a space before a text may not).
        ends: the tokenizer's special tokens, as text.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", source: str) -> None:
        self.tokenizer, self.source = tokenizer, source
        self.marked = bool(_MARKS.search(source))
        self.reads_control = "enable_thinking" not in source and "/no_think" in source
        self.budget_argument = next((name for name in _BUDGETS if name in source), None)
        self.splits = _splits(tokenizer)
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.ends = tuple(sorted({*special, *filter(None, [tokenizer.eos_token])}))
        self.thought_key = self._thought_key()
        self._proofs: dict[Any, bool | str] = {}

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = (), thinking: bool | None = None
    ) -> str:
        """The text up to where the assistant begins to write."""
        plain, control = split_control(messages)
        given = _Given(tools, control if thinking is None else thinking)
        return self._render(plain, given, prompt=True)[0]

    def after_tools(self, answers: Sequence[str], thinking: bool) -> str:
        """The text between an assistant's end of turn and its next writing, after its tools answered."""
        name = _word("call")
        calls = [{"name": name, "arguments": {}} for _ in answers]
        step: Message = {"role": "assistant", "content": "x", "tool_calls": calls}
        if thinking:
            step["thinking"] = "x"
        said: list[Message] = [{"role": "user", "content": "x"}, step]
        given = _Given((), thinking)
        first = self._render(said, given)[0].rstrip()
        said += [{"role": "tool", "content": answer} for answer in answers]
        after = self._render(said, given, prompt=True)[0]
        if after.startswith(first):
            return after[len(first) :]
        # The step looks different once its tools have answered: what is appended stands behind its end.
        end = next((end for end in self.ends if first.endswith(end)), None)
        if end is None or name not in after:
            raise InputError(f"{self._name()} shows no end of a turn that calls tools. Use another template.")
        return after[after.index(end, after.rindex(name)) + len(end) :]

    @cached_property
    def notation(self) -> Notation:
        """How a model of this template writes its tool calls: the notation that reads back what it renders.

        Raises:
            InputError: it shows calls in a notation that is not known.
        """
        name, value = _word("call"), _word("argument")
        call = {"name": name, "arguments": {_word("key"): value}}
        tool = {
            "name": name,
            "description": "d",
            "parameters": {"type": "object", "properties": {_word("key"): {"type": "string"}}},
        }
        turns: list[Message] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]
        given = _Given([tool], False)
        text, spans = self._written(turns, given, self._proven(turns, given))
        written = "".join(text[start:end] for start, end in spans).rstrip()
        for end in self.ends:
            written = written.removesuffix(end)
        for notation in NOTATIONS:
            if parse_completion(written, False, notation, [tool]).get("tool_calls") == [call]:
                return notation
        raise InputError(
            f"{self._name()} writes a tool call as {written.strip()[:80]!r}, which is none of the notations that are "
            f"read: {', '.join(NOTATIONS)}. Use a template with one of them."
        )

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
            budget: thinking tokens that the last user turn allows, handed to a template that takes it.
        Raises:
            InputError: no assistant turn, or spans that cannot be proven.
        """
        found: list[tuple[str, list[Span]]] = []
        turns = list(_answered(messages))
        for begin, end in turns:
            plain, control = split_control(messages[:end])
            on = thinking if thinking is not None else control
            if thinking is None and not _controlled(messages[:end]):
                # Thinking that was cut to nothing is thinking still.
                on = any(message.get("thinking") is not None for message in messages[begin:end])
            given = _Given(tools, on, budget if (begin, end) == turns[-1] else None)
            for index in range(begin, end):
                if plain[index]["role"] != "assistant":
                    continue
                by_marks = self._proven(plain[: index + 1], given)
                text, spans = self._written(plain[: index + 1], given, by_marks)
                self._check_said(plain[index], index, given, text, spans)
                if found and text.startswith(found[-1][0]):
                    # What came before was not rewritten: one sequence holds both turns.
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

    def _written(self, messages: list[Message], given: _Given, by_marks: bool) -> tuple[str, list[Span]]:
        """The text up to the end of the last turn, and the spans of it that this turn wrote."""
        number = len(messages)
        text, marks = self._render(messages, given)
        prompt = self._render(messages[:-1], given, prompt=True)[0]
        if not text.startswith(prompt):
            raise InputError(
                f"{self._name()}: the rendered conversation does not begin with the prompt of turn {number}, so that "
                "what the model writes there cannot be told. Mark it in the template with {% generation %}, behind "
                "the generation prompt."
            )
        start = len(prompt)
        spans = [(start, len(text))]
        if by_marks:
            spans = [(max(start, first), last) for first, last in marks if last > max(start, first)]
            if not spans:
                raise InputError(
                    f"{self._name()} marks no token of turn {number} as written. Mend the template."
                )
        first, last = spans[-1]
        end = last - len(text[first:last]) + len(text[first:last].rstrip())
        if not text[first:end].endswith(self.ends):
            # A mark may stop before the end of the turn, which is written all the same.
            end = next((last + len(each) for each in self.ends if text.startswith(each, last)), 0)
        if not end:
            raise InputError(
                f"{self._name()} ends turn {number} in {text[first:].rstrip()[-20:]!r} and no special token: the model "
                "would never learn to stop. Let the template end an assistant turn in the tokenizer's eos_token."
            )
        return text[:end], [*spans[:-1], (first, end)]

    def _proven(self, messages: list[Message], given: _Given) -> bool:
        """Whether the template's marks tell what the last turn wrote; else the rendering does.

        Proven once for each structure of a conversation, on one whose parts are words of their own.

        Raises:
            InputError: neither can be proven.
        """
        structure = _structure(messages, given)
        if structure not in self._proofs:
            self._proofs[structure] = self._try(structure)
        proof = self._proofs[structure]
        if isinstance(proof, str):
            raise InputError(proof)
        return proof

    def _try(self, structure: "_Structure") -> bool | str:
        messages, given = structure.example()
        told = ""
        for by_marks in [True, False] if self.marked else [False]:
            try:
                text, spans = self._written(messages, given, by_marks)
                told = self._misplaced(messages, given, text, spans)
            except InputError as error:
                told = str(error)
            if not told:
                return by_marks
        return told

    def _misplaced(self, messages: list[Message], given: _Given, text: str, spans: list[Span]) -> str:
        """What of an example stands in the wrong place or nowhere, as an error; "" when all is right."""
        number = len(messages)
        written = "\0".join(text[start:end] for start, end in spans)
        rest = "\0".join(piece.text for piece in _pieces(text, spans) if not piece.written)
        for index, message in enumerate(messages[:-1], 1):
            said = message["content"]
            if said and said in written:
                return f"{self._name()} marks turn {index} as written by the assistant in turn {number}. Mend it."
            if said not in rest and message["role"] != "assistant":
                return (
                    f"{self._name()} does not show turn {index} (the {message['role']}'s) to the model. Use a template "
                    "with a place for it, or leave such rows out."
                )
        if any(tool["name"] not in rest for tool in given.tools):
            return (
                f"{self._name()} does not show the tools to the model. Use a template with a place for tools, or leave "
                "rows with tools out."
            )
        place = 0
        for what, part in _parts(messages[-1], given.on):
            if part not in written:
                return (
                    f"{self._name()} leaves out or changes the {what} in turn {number}, so that what the model writes "
                    "there cannot be told. Use a template with a place for it, or leave such rows out."
                )
            if what.startswith(("call", "argument")):
                place = written.find(part, place)
                if place < 0:
                    return f"{self._name()} mixes up the calls of turn {number}. Use another template."
        if "{'" in written:
            return (
                f"{self._name()} writes the arguments of a call as Python, not as JSON: use `tojson` in it."
            )
        return ""

    def _check_said(self, message: Message, index: int, given: _Given, text: str, spans: list[Span]) -> None:
        """The structure was proven; a template may still treat some texts in a way of its own."""
        written = "\0".join(text[start:end] for start, end in spans)
        for what in ("content", "thinking"):
            said = (message.get(what) or "").strip() if what == "content" or given.on else ""
            if said not in written:
                raise InputError(
                    f"{self._name()} leaves out or changes the {what} in turn {index + 1}: {said[:60]!r}. Correct the "
                    "row, or use another template."
                )

    def _thought_key(self) -> str | None:
        """Found by trying: which key's thinking does the template show?"""
        for key in ("reasoning_content", "thinking", "reasoning"):
            turns = [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "x", key: _word("thought")},
            ]
            try:
                text = self._rendered(turns, _Given((), True))[0]
            except Exception:  # what it thinks of such a turn is no matter here
                continue
            if _word("thought") in text:
                return key
        return None

    def _render(
        self, messages: Sequence[Message], given: _Given, prompt: bool = False
    ) -> tuple[str, list[Span]]:
        try:
            return self._rendered(self._shaped(messages, given.on), given, prompt)
        except InputError:
            raise
        except Exception as error:  # a template may raise anything, its own refusals among it
            raise InputError(f"{self._name()} refuses the conversation: {error}") from None

    def _rendered(
        self, shaped: list[dict[str, Any]], given: _Given, prompt: bool = False
    ) -> tuple[str, list[Span]]:
        budget = {}
        if given.budget is not None:
            if self.budget_argument is None:
                raise InputError(
                    f"{self._name()} takes no thinking budget ({' or '.join(_BUDGETS)}). Set data.truncate.tell=false."
                )
            budget = {self.budget_argument: given.budget}
        texts, marks = render_jinja_template(
            conversations=[shaped],
            tools=to_template_tools(given.tools),
            chat_template=self.source,
            return_assistant_tokens_mask=self.marked and not prompt,
            add_generation_prompt=prompt,
            **{**self.tokenizer.special_tokens_map, "enable_thinking": given.on, **budget},
        )
        return texts[0], marks[0] if marks else []

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


@dataclass(frozen=True, slots=True)
class _Structure:
    """What a template may treat differently: who speaks, and which parts each turn has."""

    turns: tuple[tuple[str, bool, bool, tuple[bool, ...]], ...]
    """Of each turn the role, whether it has content and thinking, and of each call whether it has arguments."""
    tools: int
    on: bool
    budget: bool

    def example(self) -> tuple[list[Message], _Given]:
        """A conversation of this structure whose parts are words that stand nowhere else."""
        messages: list[Message] = []
        for number, (role, content, thought, calls) in enumerate(self.turns):
            message: Message = {"role": role, "content": _word(f"content{number}") if content else ""}
            if thought:
                message["thinking"] = _word(f"thinking{number}")
            if calls:
                message["tool_calls"] = [
                    {
                        "name": _word(f"call{number}x{place}"),
                        "arguments": {"a": _word(f"argument{number}x{place}")} if has else {},
                    }
                    for place, has in enumerate(calls)
                ]
            messages.append(message)
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        tools = [
            {"name": _word(f"tool{place}"), "description": "d", "parameters": schema}
            for place in range(self.tools)
        ]
        return messages, _Given(tools, self.on, 7 if self.budget else None)


def _structure(messages: list[Message], given: _Given) -> _Structure:
    turns = tuple(
        (
            message["role"],
            # Everyone but an assistant that calls tools has to say something: it must be shown.
            message["role"] != "assistant" or bool(message.get("content")),
            bool(message.get("thinking")),
            tuple(bool(call["arguments"]) for call in message.get("tool_calls") or ()),
        )
        for message in messages
    )
    return _Structure(turns, min(len(given.tools), 2), given.on, given.budget is not None)


def _parts(message: Message, on: bool) -> Iterator[tuple[str, str]]:
    """The parts of an assistant turn by name, calls in their order."""
    if message.get("content"):
        yield "content", message["content"]
    if on and message.get("thinking"):
        yield "thinking", message["thinking"]
    for number, call in enumerate(message.get("tool_calls") or (), 1):
        yield f"call {number}", call["name"]
        for value in call["arguments"].values():
            yield f"argument of call {number}", value


def _word(name: str) -> str:
    """A word that no template and no other part has."""
    return f"Zq{name}qZ"


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


def _splits(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether texts may be tokenised apart where a prompt ends and an answer begins."""
    pairs = [(a, b) for a in ("]", "\n", tokenizer.eos_token or ">") for b in ("b", " b", "7")]
    return all(
        _ids(tokenizer, [a + b])[0] == reduce(operator.iadd, _ids(tokenizer, [a, b]), []) for a, b in pairs
    )


def _ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [encoding.ids for encoding in fast.encode_batch_fast(texts, add_special_tokens=False)]
