"""The keys of a config.json."""

from typing import Any

Config = dict[str, Any]


def first_of(config: Config, names: tuple[str, ...], default: Any) -> Any:
    """The value under the first of the names that is there: configs have been renamed."""
    return next((config[name] for name in names if config.get(name) is not None), default)
