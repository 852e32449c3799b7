"""IFBench's own constraint types, checked by the package `if-verifiable` where it is installed.

Source: Pyatkin et al. 2025, IFBench (arXiv:2507.02833), and its public checkers, which the package carries.
"""

import contextlib
import io
import random
from collections.abc import Iterator
from functools import cache
from typing import Any


@cache
def checkers() -> dict[str, Any]:
    """The checkers' classes by the names of their constraints; none where the package is not installed."""
    # It looks for NLTK's data on the network when it is imported, and says on the console that it found none.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT
        except ImportError:
            return {}
    return dict(INSTRUCTION_DICT)


@cache
def is_supported(name: str) -> bool:
    """Whether a constraint can be checked here: some need data of NLTK's that may not be there."""
    if name not in checkers():
        return False
    checker = checkers()[name](name)
    with _random_state_kept():
        try:
            checker.build_description()
            checker.check_following("One sentence. And another.\n\nA paragraph.")
        except LookupError as error:
            return type(error) is not LookupError  # an IndexError is the checker's, on these words
        except Exception:
            return True  # it wants arguments
    return True


def check_arguments(name: str, given: dict[str, Any]) -> None:
    """Refuse what the constraint's checker does not take.

    Raises:
        ValueError: with what it says of them.
    """
    with _random_state_kept():
        try:
            checkers()[name](name).build_description(**given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"kwargs of {name}: {error}") from None


def follows(name: str, answer: str, given: dict[str, Any]) -> bool:
    """Whether an answer does what a constraint asks; what the checker cannot take apart does not."""
    checker = checkers()[name](name)
    with _random_state_kept():
        checker.build_description(**given)
        try:
            return bool(checker.check_following(answer))
        except Exception:
            return False


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Arguments that are not given are drawn at random by the checkers."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
