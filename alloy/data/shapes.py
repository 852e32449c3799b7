"""The shapes in which conversations are published, read into one.

A shape is a function from a row to a `Conversation`; it raises `RowError` with what is wrong. A row
that fits none of them is told which columns it has.
"""

from collections.abc import Callable, Collection
from typing import Any

from alloy.data.tool_shapes import glaive, xlam
from alloy.data.turns import (
    ROLES,
    Conversation,
    RowError,
    conversation,
    expect,
    from_json,
    listed,
    read_call,
    read_turn,
)
from alloy.environments.task import Message

__all__ = ["SHAPES", "Conversation", "RowError", "Shape", "messages", "shape_of"]

Shape = Callable[[dict[str, Any]], Conversation]


def messages(row: dict[str, Any]) -> Conversation:
    """`messages` of `role` and `content`, with `tool_calls`; thinking beside the content or in tags.

    The row may carry `tools` (a list, or JSON of one), or have them in `metadata`, and `reasoning` as
    "on" or "off", as the Nemotron post-training datasets do.
    """
    turns = [read_turn(turn) for turn in expect(row, "messages", list)]
    if turns and turns[0]["role"] == "system" and not turns[0]["content"].strip():
        del turns[0]  # published sets have an empty one where nothing is said
    return conversation(turns, row)


def sharegpt(row: dict[str, Any]) -> Conversation:
    """`conversations` of `from` and `value`, with `system` beside them."""
    turns: list[Message] = []
    if row.get("system"):
        turns.append({"role": "system", "content": expect(row, "system", str)})
    for turn in expect(row, "conversations", list):
        if not isinstance(turn, dict):
            raise RowError(f"a turn is {type(turn).__name__}, an object is needed")
        said = {"role": turn.get("from", turn.get("role")), "content": turn.get("value", turn.get("content"))}
        if ROLES.get(str(said["role"])) == "call":
            call = read_call(from_json(said["content"], "a function call"))
            turns.append({"role": "assistant", "content": "", "tool_calls": [call]})
        else:
            turns.append(read_turn(said))
    return conversation(turns, row)


def alpaca(row: dict[str, Any]) -> Conversation:
    """`instruction`, perhaps `input`, and `output`; `history` as pairs and `system` where there are any."""
    turns: list[Message] = []
    if row.get("system"):
        turns.append({"role": "system", "content": expect(row, "system", str)})
    for pair in listed(row, "history"):
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise RowError("history is no list of pairs")
        turns += [
            read_turn({"role": r, "content": c}) for r, c in zip(("user", "assistant"), pair, strict=True)
        ]
    given = row.get("input") or ""
    if not isinstance(given, str):
        raise RowError(f"input is {type(given).__name__}, a text is needed")
    asked = expect(row, "instruction", str)
    turns.append({"role": "user", "content": f"{asked}\n\n{given}" if given.strip() else asked})
    turns.append(read_turn({"role": "assistant", "content": expect(row, "output", str)}))
    return conversation(turns, row)


def prompt_completion(row: dict[str, Any]) -> Conversation:
    """`prompt` and `completion`, each a text or a list of turns; `thinking` where there is any."""
    turns: list[Message] = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(key)
        if isinstance(value, list):
            turns += [read_turn(turn) for turn in value]
        else:
            turns.append(read_turn({"role": role, "content": expect(row, key, str)}))
    if row.get("thinking"):
        if not turns or turns[-1]["role"] != "assistant":
            raise RowError("has thinking and no answer that it belongs to")
        turns[-1]["thinking"] = expect(row, "thinking", str)
    return conversation(turns, row)


SHAPES: dict[str, Shape] = {
    "messages": messages,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "prompt-completion": prompt_completion,
    "xlam": xlam,
    "glaive": glaive,
}

_TOLD_BY = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "xlam": ("query", "answers"),
    "glaive": ("system", "chat"),
}


def shape_of(row: dict[str, Any], named: Collection[str] = ()) -> Shape:
    """The shape that a row's columns tell.

    Args:
        named: our names of columns that the config gives: a shape that they tell goes before the others.
    Raises:
        RowError: none does.
    """
    ordered = sorted(_TOLD_BY.items(), key=lambda item: not set(item[1]) <= set(named))
    for name, columns in ordered:
        if all(row.get(column) is not None for column in columns):
            return SHAPES[name]
    wanted = "; ".join(" and ".join(f"`{c}`" for c in columns) for columns in _TOLD_BY.values())
    raise RowError(
        f"has {', '.join(sorted(row)) or 'nothing'}, and needs {wanted}. Say with `columns` which is which"
    )
