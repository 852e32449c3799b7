"""What a config names of the user's own: one piece, so one wording, for environments, classes of TRL's and verifiers."""

from typing import Any

import pytest

from alloy.environments.registry import make_environment
from alloy.environments.trl_interface_class import TrlClass
from alloy.errors import InputError
from alloy.named import load_named
from alloy.verify.registry import resolve

LIMIT = 3


def test_what_is_named_is_loaded() -> None:
    assert load_named("collections:Counter", "environment")("aab") == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("no_such_module_1:A", "No module named 'no_such_module_1'. Name it package.module:Name, and put it on PYTHONPATH."),
        ("collections:A", "module 'collections' has no attribute 'A'. Name it package.module:Name, and put it"),
        (f"{__name__}:LIMIT", "it is int, and a class or a function is needed. Name one."),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("load", "role"), [(make_environment, "environment"), (TrlClass, "environment"), (resolve, "verifier")]
)
def test_what_is_wrong_is_told_alike_everywhere(load: Any, role: str, told: str, why: str) -> None:
    with pytest.raises(InputError) as raised:
        load(told)
    assert str(raised.value).startswith(f"{role} = {told!r}: {why}")


@pytest.mark.parametrize("told", ["Counter", ":Counter", "collections:", None, 3])
def test_a_name_has_two_parts(told: Any) -> None:
    with pytest.raises(InputError, match=r"name one of yours, package\.module:Name\.$"):
        load_named(told, "environment")
