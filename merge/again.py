"""`python -m merge --alpha-from SWEEP`: what a sweep chose, merged from its record and compared with it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from alloy.errors import InputError, StageError
from merge.checkpoint import open_checkpoint, read_json
from merge.linear import LinearMixture
from merge.terminal import progress_bar, shard_bytes, tell

RECORD = "sweep.json"
"""What a sweep found, in its folder."""


def merge_again(given: Namespace) -> int:
    """Write the sweep's choice; parents that are not given are taken from where the sweep found them.

    Raises:
        InputError: no record there, one of another method, or parents that are not those of the sweep.
        StageError: the files are not those that the sweep evaluated.
    """
    record = _read(given.alpha_from)
    parents = []
    for role in ("reasoning", "chat"):
        known = record["parents"][role]
        parent = open_checkpoint(getattr(given, role) or known["path"], role)
        if parent.fingerprint != known["fingerprint"]:
            raise InputError(
                f"--{role} {parent.path} holds other weights than {given.alpha_from} swept. "
                f"Name the ones it swept, or give --alpha."
            )
        parents.append(parent)
    asked = record["asked"]
    changed = [name for name in asked if getattr(given, name) not in (None, False, asked[name])]
    if changed:
        raise InputError(
            f"--{changed[0].replace('_', '-')} {getattr(given, changed[0])}: the sweep had {asked[changed[0]]}. "
            "Leave it out, or give --alpha."
        )
    max_shard_bytes = shard_bytes(given.max_shard_bytes, record["max_shard_bytes"])
    mixture = LinearMixture(*parents, **asked)
    with progress_bar(shown=not given.json) as progress:
        report = mixture.write(
            record["chosen"], given.out, max_shard_bytes=max_shard_bytes, progress=progress
        )
    # Files of another size have other hashes by right.
    if max_shard_bytes == record["max_shard_bytes"] and report.shards != record["shards"]:
        raise StageError(
            f"{given.out} is not what {given.alpha_from} evaluated: its files have other hashes."
        )
    tell(report, given.json)
    return 0


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise InputError(f"--alpha-from {folder} has no {RECORD}. Name the folder of a finished sweep.")
    record = read_json(path)
    if "parents" not in record or "shards" not in record:
        raise InputError(f"{path} is of an older version: run the sweep again.")
    if record["over"] != "alpha":
        raise InputError(
            f"--alpha-from {folder}: it swept {record['over']}, not alpha. Use `python -m merge METHOD`."
        )
    return record
