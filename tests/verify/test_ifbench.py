"""IFBench's constraints: through the package where it is installed, by name where it is not."""

import importlib.util
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from alloy.verify import ifbench
from alloy.verify.instructions import find_instruction, unsupported, verify_instructions

INSTALLED = importlib.util.find_spec("if_verifiable") is not None


class Words:
    """As IFBench's checkers are made: described by keyword, then asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def build_description(self, *, least: int | None = None) -> None:
        self.least = random.randint(1, 9) if least is None else least
        if self.least < 0:
            raise ValueError("least is negative")

    def check_following(self, text: str) -> bool:
        if text == "odd":
            raise IndexError("list index out of range")
        return len(text.split()) >= self.least


class WithoutData(Words):
    def check_following(self, text: str) -> bool:
        raise LookupError("Resource stopwords not found")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with the interface of the real one."""
    module: Any = types.ModuleType("if_verifiable.ifbench.instructions_registry")
    module.INSTRUCTION_DICT = {"count:least": Words, "ratio:data": WithoutData}
    for name in ("if_verifiable", "if_verifiable.ifbench"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ifbench.checkers.cache_clear()
    ifbench.is_supported.cache_clear()
    yield
    ifbench.checkers.cache_clear()
    ifbench.is_supported.cache_clear()


def test_constraints_of_the_package_are_judged_beside_ifeval_s(registry: None) -> None:
    names, kwargs = ["count:least", "punctuation:no_comma"], [{"least": 3, "other": None}, {}]
    assert verify_instructions("one two three", names, kwargs).reward == 1.0
    found = verify_instructions("one, two", names, kwargs)
    assert (found.reward, found.parts) == (0.0, {"count:least": 0.0, "punctuation:no_comma": 0.0})
    # A checker that cannot take an answer apart: it is not followed.
    assert verify_instructions("odd", ["count:least"], [{"least": 1}]).reward == 0.0
    # Loosely: without the first line.
    assert verify_instructions("so:\none two three", ["count:least"], [{"least": 4}]).reward == 1.0


def test_wrong_arguments_are_told(registry: None) -> None:
    for given in ({"least": -1}, {"most": 1}):
        found = verify_instructions("", ["count:least"], [given])
        assert (found.status, found.reward) == ("error", None)
        assert found.detail.startswith("kwargs of count:least: ")


def test_what_needs_data_that_is_not_there_is_not_supported(registry: None) -> None:
    state = random.getstate()
    assert unsupported(["count:least", "ratio:data", "made:up", "punctuation:no_comma", 3]) == [
        "ratio:data", "made:up", "3"]  # fmt: skip
    assert random.getstate() == state
    assert verify_instructions("a", ["ratio:data"], [{}]).status == "error"


@pytest.mark.skipif(INSTALLED, reason="if-verifiable is installed")
def test_without_the_package_ifbench_s_names_are_unsupported() -> None:
    ifbench.checkers.cache_clear()
    ifbench.is_supported.cache_clear()
    assert unsupported(["count:word_count_range", "format:emoji"]) == [
        "count:word_count_range",
        "format:emoji",
    ]
    assert find_instruction("punctuation:no_comma") is not None


@pytest.mark.skipif(not INSTALLED, reason="if-verifiable is not installed")
def test_the_package_itself() -> None:
    assert len(ifbench.checkers()) >= 50
    given = {"min_words": 3, "max_words": 5}
    assert verify_instructions("one two three four", ["count:word_count_range"], [given]).reward == 1.0
    assert verify_instructions("one two", ["count:word_count_range"], [given]).reward == 0.0
    assert verify_instructions("nothing here", ["format:no_whitespace"], [{}]).reward == 0.0
    assert verify_instructions("nothinghere", ["format:no_whitespace"], [{}]).reward == 1.0
