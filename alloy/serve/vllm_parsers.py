"""vLLM's two plugins: thinking split from the answer, and tool calls in the notation of the model's template.

    vllm serve MODEL --reasoning-parser alloy --reasoning-parser-plugin alloy.serve.vllm_parsers
                     --tool-call-parser alloy --tool-parser-plugin alloy.serve.vllm_parsers --enable-auto-tool-choice

A parser lives as long as its request.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.chat_utils import make_tool_call_id
from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.reasoning import ReasoningParser, ReasoningParserManager
from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager

from alloy.chat import THINK_CLOSE, THINK_OPEN, split_control
from alloy.rollout.budget import BudgetTokens, count_thinking
from alloy.serve.splitting import CallSplit, Said, ThinkingSplit
from alloy.template import chat_template

NAME = "alloy"


@ReasoningParserManager.register_module(NAME)
class AlloyReasoningParser(ReasoningParser):
    """Whether an answer begins with thinking is read from its prompt, so that `/no_think` is understood."""

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self.tokens = BudgetTokens.of(tokenizer)
        self._enabled = (kwargs.get("chat_template_kwargs") or {}).get("enable_thinking")
        self._prompt_read = False
        self._opened: bool | None = None
        self._split: ThinkingSplit | None = None

    @property
    def reasoning_start_str(self) -> str:
        return THINK_OPEN

    @property
    def reasoning_end_str(self) -> str:
        return THINK_CLOSE

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """vLLM asks this of a request's prompt before anything else."""
        self._opened, self._prompt_read = self.tokens.opened(input_ids), True
        return self._opened is False

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        if self._split is not None:
            return self._split.answering
        # The engine's own parser sees tokens alone: it waits with a grammar until the thinking is over.
        width = len(list(delta_ids)) + len(THINK_CLOSE)
        return count_thinking(self.tokens, input_ids[-width:]) < min(width, len(input_ids))

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        matched = 0
        for place, token in enumerate(input_ids):
            matched = self.tokens.step(matched, token)
            if matched == len(THINK_CLOSE):
                return input_ids[place + 1 :]
        return []

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        if self._opened is False:
            return 0
        begins = "".join(map(self.tokens.text, token_ids[: len(THINK_OPEN)])).lstrip()
        if self._opened is None and not begins.startswith(THINK_OPEN):
            return 0
        return count_thinking(self.tokens, token_ids)

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        split = ThinkingSplit(self._opened if self._prompt_read else self._guess(model_output, request))
        parts = [split.feed(model_output), split.finish()]
        thinking, answer = (
            "".join(part) for part in zip(*((p.thinking, p.answer) for p in parts), strict=True)
        )
        return thinking or None, answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        if self._split is None:
            self._split = ThinkingSplit(self._opened)
        parts = self._split.feed(delta_text)
        if not parts.thinking and not parts.answer:
            return None
        return DeltaMessage(reasoning=parts.thinking or None, content=parts.answer or None)

    def adjust_request(self, request: Any) -> Any:
        """Tags that a tokenizer calls special must come out, too."""
        special = self.model_tokenizer.all_special_tokens
        if THINK_OPEN in special or THINK_CLOSE in special:
            request.skip_special_tokens = False
        return request

    def _guess(self, output: str, request: Any) -> bool | None:
        """Where nobody asked of the prompt: from the output, and from what the request says of thinking."""
        if THINK_CLOSE in output:
            return not output.lstrip().startswith(THINK_OPEN) or None
        messages = [m for m in getattr(request, "messages", None) or [] if isinstance(m.get("content"), str)]
        on = split_control(messages)[1] if self._enabled is None else self._enabled
        return None if on else False


@ToolParserManager.register_module(NAME)
class AlloyToolParser(ToolParser):
    """Calls as the model's chat template writes them, whole ones, also while they are streamed."""

    # So vLLM asks for what is held back when a stream ends.
    engine_based_streaming = True

    def __init__(self, tokenizer: Any, tools: Any = None) -> None:
        super().__init__(tokenizer, tools)
        self.notation = chat_template(tokenizer).notation
        self._split: CallSplit | None = None
        self._told = 0
        """Calls that have been handed out."""

    def adjust_request(self, request: Any) -> Any:
        request = super().adjust_request(request)
        if request.tools and request.tool_choice != "none":
            # Where a call's tags are special tokens they would be gone before anyone parses them.
            request.skip_special_tokens = False
        return request

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        split = CallSplit(self.notation, _schemas(request))
        said = [split.feed(model_output), split.finish()]
        calls = [call for one in said for call in one.calls]
        content = "".join(one.content for one in said)
        return ExtractedToolCallInformation(
            tools_called=bool(calls),
            tool_calls=[
                ToolCall(function=FunctionCall(name=call["name"], arguments=_json(call["arguments"])))
                for call in calls
            ],
            content=content or None,
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> DeltaMessage | None:
        if self._split is None:
            self._split = CallSplit(self.notation, _schemas(request))
        return self._delta(self._split.feed(delta_text))

    def finish_streaming(self) -> DeltaMessage | None:
        return None if self._split is None else self._delta(self._split.finish())

    def _delta(self, said: Said) -> DeltaMessage | None:
        if not said.content and not said.calls:
            return None
        calls = []
        for call in said.calls:
            function = DeltaFunctionCall(name=call["name"], arguments=_json(call["arguments"]))
            calls.append(
                DeltaToolCall(id=make_tool_call_id(), type="function",
                              index=self._told, function=function)
            )  # fmt: skip
            self._told += 1
        return DeltaMessage(content=said.content or None, tool_calls=calls)


def _schemas(request: Any) -> list[dict[str, Any]]:
    return [tool.function.model_dump() for tool in request.tools or [] if getattr(tool, "function", None)]


def _json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)
