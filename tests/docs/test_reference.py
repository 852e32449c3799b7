"""docs/configuration.md is what the configs say, and every key has a meaning."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from alloy.config import Config
from alloy.reference import _table, reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


class _Inner(Config):
    """What is in it."""

    size: int = Field(3, gt=0, le=9)


class _Outer(Config):
    kind: Literal["a", "b"]
    """Which of
    the two."""
    names: list[str] | None = Field(None, min_length=2)
    share: float = Field(ge=0, lt=1)
    """One | a half."""
    inner: _Inner = _Inner(size=4)


def test_a_table_tells_type_default_rule_and_meaning() -> None:
    assert _table(_Outer).splitlines()[2:] == [
        "| `kind` | choice | **needed** | `a`, `b` | Which of the two. |",
        "| `names` | list of text or null | `null` | at least 2 of them |  |",
        "| `share` | number | **needed** | >= 0; < 1 | One \\| a half. |",
        "| `inner` | [_Inner](#_inner) | `{size: 4}` |  | What is in it. |",
    ]


def test_the_page_is_what_the_configs_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run make docs"


def test_every_key_has_a_meaning_and_every_link_an_end() -> None:
    text = reference()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []
    headings = [line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line.startswith("#")]  # fmt: skip
    assert len(set(headings)) == len(headings)
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= set(headings)
