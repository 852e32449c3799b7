"""The conversations that the served model knows by heart."""

from typing import Any

WEATHER = {
    "name": "weather",
    "description": "tells the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
LINES = [f"{word} is {word} and {word}" for word in ("one", "two", "three", "four", "five", "six")]
COUNT = [{"role": "user", "content": "Count."}]
RAIN = [{"role": "user", "content": "How is Rome?"}]


def conversations() -> list[tuple[list[dict[str, Any]], list[dict[str, Any]], bool]]:
    """Turns, tools, thinking: counting whole, cut after every line, and not at all; and a call with its answer."""
    counted = [
        ([*COUNT, {"role": "assistant", "content": "done", "thinking": "\n".join(LINES[:lines])}], [], True)
        for lines in range(1, len(LINES) + 1)
    ]
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    asked = {"role": "assistant", "content": "", "thinking": "look", "tool_calls": [call]}
    told = [
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny.", "thinking": "so"},
    ]
    return [
        *counted,
        # The whole one is what it writes when nobody stops it.
        *[counted[-1]] * 8,
        ([*COUNT, {"role": "assistant", "content": "done"}], [], False),
        ([*RAIN, asked, *told], [WEATHER], True),
    ]
