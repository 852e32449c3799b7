"""Two processes that call each other: the program that nobody trusts, and the tests of it.

Both run this file's text in a sandbox, so it imports the standard library alone. What crosses is plain
data: numbers, texts, containers of them. Anything else stays where it is and is reached through a proxy.
So the program can neither see a test nor what it expects, cannot touch what compares, and an object of
its own never equals, and is never less or more than, a plain value.
"""

import builtins
import datetime
import decimal
import fractions
import json
import operator
import os
import socket
import sys
import unittest
from collections import deque
from enum import Enum
from typing import Any

MAX_LINE = 64 * 2**20
"""Bytes of one message."""


class Broken(Exception):
    """The other process ended, or says what makes no sense."""


class Peer:
    """One end of the conversation.

    Args:
        trusting: whether the other end may do all that it asks for, or only call what it was handed.
    """

    def __init__(self, descriptor: int, trusting: bool) -> None:
        connection = socket.socket(fileno=descriptor)
        self.reader, self.writer = connection.makefile("rb"), connection.makefile("wb")
        self.trusting = trusting
        self.held: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.asked = 0

    def ask(self, operation: str, *parts: Any) -> Any:
        """Have the other end do something; its answer, or what it raised."""
        self.asked += 1
        number = self.asked
        self._send(["ask", number, operation, [self.encode(part) for part in parts]])
        while True:
            kind, told, *rest = self._receive()
            if kind == "ask":
                self._answer(told, *rest)
            elif kind == "answer" and told == number:
                return self._take(parts, *rest)
            else:
                raise Broken("an answer to nothing")

    def serve(self) -> None:
        """Answer until the other end closes."""
        while True:
            kind, number, *rest = self._receive()
            if kind != "ask":
                raise Broken("an answer to nothing")
            self._answer(number, *rest)

    def _answer(self, number: int, operation: str, encoded: list[Any]) -> None:
        after: list[Any] = []
        try:
            parts = [self.decode(part) for part in encoded]
            try:
                if not self.trusting and operation != "call":
                    raise PermissionError(f"{operation} is not allowed here")
                result = OPERATIONS[operation](*parts)
                answer = ["value", self.encode(result)]
            finally:
                # What was changed in place is changed in place at the other end too.
                given = parts[1] if operation == "call" else []
                for index, value in enumerate(given):
                    if isinstance(value, list | dict | set | bytearray | deque):
                        now = self.encode(value)
                        if now != encoded[1][1][index]:
                            after.append([index, now])
        except Broken:
            raise
        except BaseException as error:  # the program's own, of whatever kind
            answer = ["raised", _builtin_name(error), str(error)[:2_000]]
        self._send(["answer", number, after, *answer])

    def _take(self, parts: tuple[Any, ...], after: list[Any], kind: str, *rest: Any) -> Any:
        for index, encoded in after:
            _change(parts[1][index], self.decode(encoded))
        if kind == "value":
            return self.decode(rest[0])
        name, text = rest
        cls = getattr(builtins, str(name), None)
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            cls = RuntimeError
        try:
            error = cls(text)
        except TypeError:  # such as UnicodeDecodeError, which takes five arguments
            error = RuntimeError(f"{name}: {text}")
        raise error

    def _send(self, message: list[Any]) -> None:
        try:
            self.writer.write(json.dumps(message).encode() + b"\n")
            self.writer.flush()
        except OSError:
            raise Broken("the other process ended") from None

    def _receive(self) -> list[Any]:
        try:
            line = self.reader.readline(MAX_LINE)
            message = json.loads(line)
        except (OSError, ValueError, RecursionError):
            raise Broken("the program ended before its answer") from None
        if not isinstance(message, list) or len(message) < 4:
            raise Broken("a message that is none")
        return message

    def encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool) or type(value) in (int, str):
            return value
        if isinstance(value, Proxy):
            return ["yours", object.__getattribute__(value, "_number")]
        for kind, (cls, out, _) in PLAIN.items():
            if isinstance(value, cls) and not isinstance(value, Enum):
                return [kind, [self.encode(item) for item in out(value)]]
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.held)
            self.held.append(value)
        return ["mine", self.numbers[id(value)]]

    def decode(self, told: Any) -> Any:
        if not isinstance(told, list):
            return told
        kind, content = told
        if kind == "mine":
            return Proxy(self, content)
        if kind == "yours":
            return self.held[content]
        return PLAIN[kind][2]([self.decode(item) for item in content])


def _items(value: Any) -> list[Any]:
    return [part for pair in value.items() for part in pair]


# Kind of value -> its class, its parts, and how it is made of them. Counters and the like are the dicts they hold.
PLAIN: dict[str, tuple[Any, Any, Any]] = {
    "int": (int, lambda v: [int(v)], lambda p: p[0]),
    "str": (str, lambda v: [str.__str__(v)], lambda p: p[0]),
    "float": (float, lambda v: [float.__repr__(v)], lambda p: float(p[0])),
    "complex": (complex, lambda v: [v.real, v.imag], lambda p: complex(p[0], p[1])),
    "bytes": (bytes, lambda v: [v.hex()], lambda p: bytes.fromhex(p[0])),
    "bytearray": (bytearray, lambda v: [v.hex()], lambda p: bytearray.fromhex(p[0])),
    "list": (list, list, list),
    "tuple": (tuple, list, tuple),
    "set": (set, list, set),
    "frozenset": (frozenset, list, frozenset),
    "deque": (deque, list, deque),
    "range": (range, lambda v: [v.start, v.stop, v.step], lambda p: range(*p)),
    "dict": (dict, _items, lambda p: dict(zip(p[::2], p[1::2], strict=True))),
    "decimal": (decimal.Decimal, lambda v: [str(v)], lambda p: decimal.Decimal(p[0])),
    "fraction": (fractions.Fraction, lambda v: [v.numerator, v.denominator], lambda p: fractions.Fraction(*p)),
    "datetime": (datetime.datetime, lambda v: [v.isoformat()], lambda p: datetime.datetime.fromisoformat(p[0])),
    "date": (datetime.date, lambda v: [v.isoformat()], lambda p: datetime.date.fromisoformat(p[0])),
    "timedelta": (
        datetime.timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda p: datetime.timedelta(*p),
    ),
}  # fmt: skip


def _change(value: Any, new: Any) -> None:
    if isinstance(value, list | bytearray):
        value[:] = new
    elif isinstance(value, dict | set):
        value.clear()
        value.update(new)
    elif isinstance(value, deque):
        value.clear()
        value.extend(new)


def _builtin_name(error: BaseException) -> str:
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins")


OPERATIONS: dict[str, Any] = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "get": getattr,
    "set": setattr,
    "bool": bool,
    "len": len,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "hash": hash,
    "iter": iter,
    "next": next,
    "abs": abs,
    "reversed": reversed,
    "isinstance": isinstance,
    "enter": lambda value: value.__enter__(),
    "exit": lambda value: value.__exit__(None, None, None),
    "item": lambda value, key: value[key],
    "set item": lambda value, key, new: value.__setitem__(key, new),
    "delete item": lambda value, key: value.__delitem__(key),
    **{name: getattr(operator, name) for name in ("eq", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv",
                                                  "floordiv", "mod", "pow", "and_", "or_", "xor")},
}  # fmt: skip


class Proxy:
    """Something of the other process. It is compared with its like there, and never with plain values."""

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _ask(self, "call", list(arguments), named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and bool(_ask(self, "eq", other))

    def __hash__(self) -> int:
        return int(_ask(self, "hash"))

    def __contains__(self, wanted: Any) -> bool:
        # The program is not asked whether it has what it does not show.
        return any(item == wanted for item in _ask(self, "iter"))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Proxy) and bool(_ask(value, "isinstance", self))

    def __exit__(self, *error: object) -> None:
        _ask(self, "exit")


def _ask(proxy: Proxy, operation: str, *parts: Any) -> Any:
    return object.__getattribute__(proxy, "_peer").ask(operation, proxy, *parts)


def _forward(operation: str) -> Any:
    return lambda self, *parts: _ask(self, operation, *parts)


def _compare(operation: str) -> Any:
    def compare(self: Proxy, other: Any) -> Any:
        return _ask(self, operation, other) if isinstance(other, Proxy) else NotImplemented

    return compare


for _name, _operation in {
    "__bool__": "bool", "__len__": "len", "__str__": "str", "__repr__": "repr", "__int__": "int",
    "__float__": "float", "__iter__": "iter", "__next__": "next", "__abs__": "abs", "__reversed__": "reversed",
    "__enter__": "enter", "__getitem__": "item", "__setitem__": "set item", "__delitem__": "delete item",
    "__add__": "add", "__sub__": "sub", "__mul__": "mul", "__truediv__": "truediv", "__floordiv__": "floordiv",
    "__mod__": "mod", "__pow__": "pow", "__and__": "and_", "__or__": "or_", "__xor__": "xor",
}.items():  # fmt: skip
    setattr(Proxy, _name, _forward(_operation))
for _operation in ("lt", "le", "gt", "ge"):
    setattr(Proxy, f"__{_operation}__", _compare(_operation))


def be_program() -> None:
    """Run the program that stands in the first line of standard input, and answer what it is asked."""
    given = json.loads(sys.stdin.readline())
    sys.set_int_max_str_digits(0)
    peer = Peer(given["descriptor"], trusting=True)
    namespace: dict[str, Any] = {"__name__": "solution"}

    def names() -> dict[str, Any]:
        exec(compile(given["program"], "<program>", "exec"), namespace)
        return {name: value for name, value in namespace.items() if not name.startswith("__")}

    OPERATIONS["names"] = names
    try:
        peer.serve()
    except Broken:
        os._exit(0)


def be_tests() -> None:
    """Run the tests that stand in the first line of standard input; the verdict goes to its own descriptor."""
    given = json.loads(sys.stdin.readline())
    sys.set_int_max_str_digits(0)
    peer = Peer(given["descriptor"], trusting=False)
    verdict: dict[str, Any] = {"passed": 0, "first": ""}
    try:
        names = peer.ask("names")
        if not isinstance(names, dict):
            raise Broken("a message that is none")
    except BaseException as error:
        verdict["first"] = f"the program: {_builtin_name(error)}: {error}"[:300]
    else:
        for number, test in enumerate(given["tests"], 1):
            try:
                run_test(test, dict(names), given["entry_point"])
                verdict["passed"] += 1
            except BaseException as error:
                told = f"test {number}: {type(error).__name__}: {error}"
                verdict["first"] = verdict["first"] or told[:300]
                if isinstance(error, Broken):
                    break
    with os.fdopen(given["verdict"], "w") as out:
        json.dump(verdict, out)
    os._exit(0)


def run_test(text: str, namespace: dict[str, Any], entry_point: str | None) -> None:
    """A test is code that raises when it fails: statements, `check(candidate)`, `test_*` or a TestCase."""
    namespace["__name__"] = "tests"
    mine = dict(namespace)
    if entry_point is not None:
        namespace["candidate"] = namespace[entry_point]
    exec(compile(text, "<test>", "exec"), namespace)
    if entry_point is not None and namespace.get("check") is not mine.get("check"):
        namespace["check"](namespace[entry_point])
    for name, value in list(namespace.items()):
        if name in mine and value is mine[name]:
            continue
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            wrong = [*result.failures, *result.errors]
            if wrong or not result.testsRun:
                raise AssertionError(
                    wrong[0][1].strip().splitlines()[-1] if wrong else f"{name} has no tests"
                )
        elif name.startswith("test") and callable(value):
            value()
