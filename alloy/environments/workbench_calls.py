"""Reads WorkBench's calls: Python call expressions with literal arguments, parsed and never evaluated."""

import ast
import warnings
from dataclasses import dataclass
from typing import Any


class NotACall(ValueError):
    """Evaluating the text would have raised before any tool was called."""


@dataclass(frozen=True, slots=True)
class Call:
    """`domain.tool.func(...)`, its arguments still to be read."""

    tool: str
    node: ast.Call

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the keyword arguments.

        Raises:
            NotACall: an argument is not a literal (a name, a call, a format string).
        """
        positional: list[Any] = []
        for argument in self.node.args:
            if isinstance(argument, ast.Starred):
                positional += _value(argument.value)
            else:
                positional.append(_value(argument))
        named: dict[str, Any] = {}
        for keyword in self.node.keywords:
            given = _value(keyword.value)
            for name, value in ({keyword.arg: given} if keyword.arg else dict(given)).items():
                if name in named or not isinstance(name, str):
                    raise NotACall(f"the argument {name!r} is given twice or is no name")
                named[name] = value
        return positional, named


def parse_calls(text: object) -> list[Call]:
    """The tool calls that evaluating a text would make, in order; one, unless the text is a tuple or list.

    Raises:
        NotACall: the text is not one Python expression, or does not call `domain.tool.func`.
    """
    if not isinstance(text, str):
        raise NotACall(f"not a text but {type(text).__name__}")
    expression = _parse(text.lstrip(" \t"))
    nodes = expression.elts if isinstance(expression, ast.Tuple | ast.List) else [expression]
    return [_call(node) for node in nodes]


def _parse(text: str) -> ast.expr:
    try:
        # Only a backslash can make the parser warn, and changing the filters is slow.
        if "\\" not in text:
            return ast.parse(text, mode="eval").body
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotACall(f"not a Python expression: {error}") from None


def _call(node: ast.expr) -> Call:
    match node:
        case ast.Call(
            func=ast.Attribute(attr="func", value=ast.Attribute(attr=tool, value=ast.Name(id=domain))),
            keywords=keywords,
        ):
            names = [keyword.arg for keyword in keywords if keyword.arg]
            # Python's compiler refuses this, not its parser: nothing of the text would have run.
            if len(set(names)) < len(names):
                raise NotACall("an argument is given twice")
            return Call(f"{domain}.{tool}", node)
    raise NotACall("not a call of domain.tool.func")


def _value(node: ast.expr) -> Any:
    """What a literal stands for.

    Beside plain literals, `+`, `and`, `or` of literals are worked out: recorded calls quote their
    values without escaping, so that a value holding `" or "` reads as such an expression.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Set(elts=items):
            return {_value(item) for item in items}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left) + _value(right)
        case ast.BoolOp(op=operator, values=values):
            decided = isinstance(operator, ast.Or)
            result = None
            for item in values:
                result = _value(item)
                if bool(result) == decided:
                    break
            return result
    raise NotACall(f"{type(node).__name__} is not a literal")
