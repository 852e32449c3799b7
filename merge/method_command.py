"""`python -m merge METHOD ...`: any number of models, by a method whose options are its function's own."""

from argparse import ArgumentParser, Namespace
from typing import Any, get_args

from merge.config import Method
from merge.terminal import command, progress_bar, shard_bytes, tell

METHODS = tuple(name for name in get_args(Method) if name != "linear")


def by_method(method: str, arguments: list[str]) -> int:
    from merge.many import merge_models
    from merge.methods import METHODS as FUNCTIONS
    from merge.mixture import MAX_SHARD_BYTES

    parser = command(f"python -m merge {method}", str(FUNCTIONS[method].__doc__))
    add_method(parser, method)
    given = parser.parse_args(arguments)
    max_shard_bytes = shard_bytes(given.max_shard_bytes, MAX_SHARD_BYTES)
    with progress_bar(shown=not given.json) as progress:
        report = merge_models(
            method,
            options_given(method, given),
            given.models,
            given.base,
            given.out,
            donor=given.donor,
            dtype=given.dtype,
            max_shard_bytes=max_shard_bytes,
            progress=progress,
        )
    tell(report, given.json)
    return 0


def add_method(parser: ArgumentParser, method: str, swept: bool = False) -> None:
    """The models, the base, and an argument for every option; none is required where one is swept."""
    from merge.methods import needs_base, options_of

    parser.add_argument(
        "--models", required=True, nargs="+", metavar="A", help="run folders, model folders or adapters"
    )
    parser.add_argument(
        "--base", required=needs_base(method), metavar="X", help="what they were trained from"
    )
    parser.add_argument("--donor", help="model-1, model-2, ... or base: whose config and tokenizer to keep")
    for name, option in options_of(method).items():
        required = option.default is option.empty and not swept
        default = {} if option.default is option.empty else {"help": f"default {option.default}"}
        parser.add_argument(f"--{name}", required=required, type=_reader(option.annotation), **default)


def options_given(method: str, given: Namespace) -> dict[str, Any]:
    """By name, the default where there is one and nothing was given."""
    from merge.methods import options_of

    found = {
        name: option.default if getattr(given, name) is None else getattr(given, name)
        for name, option in options_of(method).items()
    }
    return {name: value for name, value in found.items() if value is not options_of(method)[name].empty}


def _reader(annotation: Any) -> Any:
    if annotation is bool:
        return _yes_or_no
    return annotation if annotation in (int, float) else _numbers


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"
