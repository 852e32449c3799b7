"""What a config names of the user's own: a class or a function, as `package.module:Name`."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from alloy.errors import InputError


def split_name(told: Any, role: str) -> tuple[str, str]:
    """Module and name of `package.module:Name`.

    Args:
        role: the setting that it stands in, as errors tell it.
    Raises:
        InputError: it is not of this form.
    """
    module, _, name = told.partition(":") if isinstance(told, str) else ("", "", "")
    if not module or not name:
        raise InputError(f"{role} = {told!r}: name one of yours, package.module:Name.")
    return module, name


def load_named(told: Any, role: str) -> Callable[..., Any]:
    """The class or the function that `package.module:Name` names.

    Raises:
        InputError: it is not of this form, cannot be imported, is not there, or cannot be called.
    """
    module, name = split_name(told, role)
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{role} = {told!r}: {error}. Name it package.module:Name, and put it on PYTHONPATH."
        ) from None
    if not callable(found):
        raise InputError(
            f"{role} = {told!r}: it is {type(found).__name__}, and a class or a function is needed. Name one."
        )
    loaded: Callable[..., Any] = found
    return loaded
