"""The messages that docs/faq.md quotes are messages of the code."""

import ast
import re
from functools import cache

import pytest
from shown import ROOT

PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^ {4}\s*(.+)$", PAGE, re.MULTILINE)
VALUE = "\0"
"""Stands for what a message puts in."""


@cache
def _texts() -> tuple[str, ...]:
    """Every text of the code, its values left open, and the Makefile's lines."""
    found = (ROOT / "Makefile").read_text().splitlines()
    for package in ("alloy", "sft", "grpo", "dpo", "rlhf", "merge"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.BinOp | ast.JoinedStr | ast.Constant):
                    found.append(_told(node))
    return tuple(text for text in found if text)


def _told(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else VALUE
    if isinstance(node, ast.JoinedStr):
        return "".join(_told(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _told(node.left) + _told(node.right)
    return VALUE


def _is_a_message(quoted: str) -> bool:
    """Whether the quoted words stand in one text of the code, in order, with values where the page has `...`.

    What the command line puts before every message, a remedy told apart, and a value that the page writes out
    are left to the values of the text.
    """
    quoted = re.sub(r"^(error|failed): ", "", quoted)
    pieces = [re.escape(piece.strip()) for piece in re.split(r"'?\.{3,}'?", quoted) if piece.strip(" :'.()")]
    pattern = re.compile(".*?".join(pieces), re.DOTALL)
    return bool(pieces) and any(pattern.search(text) for text in _texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one(message: str) -> None:
    assert _is_a_message(message)


def test_what_is_no_message_is_found() -> None:
    assert len(MESSAGES) > 25
    assert not _is_a_message("error: ...: no row had the column '...'. Correct `columns`.")
    assert not _is_a_message("error: ...: Correct `columns`. no row has the column ....")
