"""`python -m merge ...`: two checkpoints, another method, a sweep, or a stage from its config."""

import sys
from pathlib import Path
from typing import get_args

from alloy.command import main
from alloy.errors import InputError
from alloy.stage import stage_main
from merge.config import Donor
from merge.groups import parse_alpha
from merge.method_command import METHODS, by_method
from merge.sweep_command import sweep
from merge.terminal import command, progress_bar, shard_bytes, tell

_FORMS = """forms:
  python -m merge --reasoning A --chat B --alpha 0.5 --out C         merge two checkpoints
  python -m merge --alpha-from SWEEP --out C                         merge what a sweep chose
  python -m merge METHOD --models A B [C ...] [--base X] --out DIR   mean, task, slerp, ties or dare
  python -m merge sweep --reasoning A --chat B --alphas 0.1:0.9:0.1 --suites math,chat --out DIR
  python -m merge sweep METHOD --models A B ... --option NAME --values 0.1:0.9:0.1 ...
  python -m merge CONFIG [--dry-run] [--force] [key.sub=value ...]   a stage of a recipe

groups of --alpha: attention, mlp, embeddings, layers.0-3, layers.0-3.attention, layers.0-3.mlp, other"""


def run(arguments: list[str]) -> int:
    if arguments[:1] == ["sweep"]:
        return sweep(arguments[1:])
    if arguments[:1] and arguments[0] in METHODS:
        return by_method(arguments[0], arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        return stage_main("merge", arguments)
    return merge(arguments)


def merge(arguments: list[str]) -> int:
    """(1 - alpha) * reasoning + alpha * chat, as a Hugging Face folder."""
    about = "Interpolate two checkpoints: (1 - alpha) * reasoning + alpha * chat."
    parser = command("python -m merge", about, _FORMS)
    parser.add_argument("--reasoning", metavar="A", help="run folder, model folder or adapter")
    parser.add_argument("--chat", metavar="B", help="run folder, model folder or adapter")
    parser.add_argument("--alpha", help="share of the chat weights, 0 to 1, or attention=0.3,other=0.5")
    parser.add_argument("--alpha-from", type=Path, metavar="SWEEP", help="folder of a sweep: what it chose")
    parser.add_argument(
        "--donor", choices=get_args(Donor), help="whose config, tokenizer and template to keep"
    )
    parser.add_argument(
        "--match-tokens",
        action="store_true",
        help="bring embeddings of another vocabulary into the donor's order",
    )
    given = parser.parse_args(arguments)
    if (given.alpha is None) == (given.alpha_from is None):
        parser.error("either --alpha or --alpha-from is needed")
    if given.alpha_from is not None:
        from merge.again import merge_again

        return merge_again(given)
    for role in ("reasoning", "chat"):
        if getattr(given, role) is None:
            parser.error(f"--{role} is needed")
    try:
        alpha = parse_alpha(given.alpha)
    except ValueError as error:
        raise InputError(f"--alpha {error}.") from None
    max_shard_bytes = shard_bytes(given.max_shard_bytes, 4 << 30)
    from merge.linear import merge_checkpoints

    with progress_bar(shown=not given.json) as progress:
        report = merge_checkpoints(
            given.reasoning,
            given.chat,
            alpha,
            given.out,
            donor=given.donor,
            dtype=given.dtype,
            match_tokens=given.match_tokens,
            max_shard_bytes=max_shard_bytes,
            progress=progress,
        )
    tell(report, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(run))
