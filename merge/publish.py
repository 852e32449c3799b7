"""The folder of a merge: begun under another name, gone on with after a kill, renamed when it is whole.

    OUT.partial/  progress.json          what was asked for, and the shards that are done with their hashes
                  model-0000k-of-n       each written under a temporary name, synced, renamed
    OUT/          the same folder, renamed when everything is in it

Interrupted, the same merge goes on at the next shard and ends at the same bytes.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from blake3 import blake3

from alloy.artifact import fingerprint_file, publish_folder, sync_folder, write_atomically
from alloy.errors import InputError
from merge.blender import Blend, Blender, Linear
from merge.checkpoint import INDEX, read_json
from merge.direct import DirectFile
from merge.preflight import Plan, check_disk
from merge.shard import Shard, into_shards
from merge.weights import Files

RECORD = "merge.json"
_PROGRESS = "progress.json"
# Beside the weights: what a tokenizer, a config, a template or a model's own code may be kept in.
_KEPT_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".py", ".tiktoken"}
_KEPT_NAMES = {"LICENSE", "NOTICE"}
_TEMPLATES = "additional_chat_templates"
_NOT_KEPT = {
    "config.json",
    INDEX,
    RECORD,
    "artifact.json",
    "trainer_state.json",
    "pytorch_model.bin.index.json",
}

Progress = Callable[[int, int], None]
"""Called with the bytes that were just written, and those of all weight files."""


def publish(
    plan: Plan,
    blend: Blend | Linear,
    request: dict[str, Any],
    card: Callable[[dict[str, str]], str],
    out: Path,
    *,
    max_shard_bytes: int,
    replace: bool,
    progress: Progress,
) -> tuple[list[str], dict[str, str]]:
    """Write a planned merge, or go on with it, or find it done.

    Args:
        request: all that decides the bytes; the shards of an interrupted merge are taken if it is the same.
        card: the model card, from the hashes of the shards.
        replace: overwrite another model in `out`; refused otherwise.
    Returns: the shards that were there already, and the hash of each.
    Raises:
        InputError: `out` holds something else, or the disk is too full.
    """
    shards = into_shards(plan.pairs, max_shard_bytes)
    request = {**request, "files": {shard.name: shard.size for shard in shards}}
    resumed: list[str] = []
    if not _is_done(out, request, replace):
        partial = out.with_name(out.name + ".partial")
        done = _resume(partial, request)
        resumed = sorted(done)
        check_disk(partial, sum(shard.size for shard in shards if shard.name not in done))
        _write_shards(partial, shards, blend, request, done, progress)
        _write_rest(partial, plan, shards)
        write_atomically(partial / "README.md", card(done))
        write_atomically(partial / RECORD, json.dumps({**request, "shards": done}, indent=1, sort_keys=True))
        (partial / _PROGRESS).unlink()
        sync_folder(partial, deep=False)
        publish_folder(partial, out)
        sync_folder(out.absolute().parent, deep=False)
    hashes: dict[str, str] = read_json(out / RECORD)["shards"]
    return resumed, hashes


def _is_done(out: Path, request: dict[str, Any], replace: bool) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    record = read_json(out / RECORD) if (out / RECORD).is_file() else {}
    if record.pop("shards", None) is not None and record == request:
        return True
    if not replace:
        raise InputError(
            f"{out} is there already and holds something else. Remove it, or name another folder."
        )
    return False


def _resume(partial: Path, request: dict[str, Any]) -> dict[str, str]:
    """What an interrupted merge of the same request left: its finished shards, hashed again.

    Anything else that lies in the folder is removed.
    """
    path = partial / _PROGRESS
    done: dict[str, str] = {}
    if path.is_file():
        progress = read_json(path)
        if progress.get("request") == request:
            done = {
                name: known
                for name, known in progress["shards"].items()
                if (partial / name).is_file() and fingerprint_file(partial / name) == known
            }
    if not done:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    return done


def _write_shards(
    partial: Path,
    shards: list[Shard],
    blend: Blend | Linear,
    request: dict[str, Any],
    done: dict[str, str],
    progress: Progress,
) -> None:
    """Write what is not done yet; `done` grows by a shard at a time, here and on the disk."""
    total = sum(shard.size for shard in shards)
    files = Files()
    try:
        with Blender(files) as blender:
            for shard in shards:
                if shard.name in done:
                    progress(shard.size, total)
                    continue
                contents = (data for _, data in blender.pieces(shard, blend))
                written = _write_shard(shard, contents, partial / shard.name, lambda n: progress(n, total))
                done[shard.name] = written
                sync_folder(partial, deep=False)
                write_atomically(partial / _PROGRESS, json.dumps({"request": request, "shards": done}))
    finally:
        files.close()


def _write_shard(
    shard: Shard, contents: Iterable[memoryview], path: Path, progress: Callable[[int], None]
) -> str:
    """Write one file under a temporary name, sync it, rename it.

    Returns: its BLAKE3 hash, computed on the way.
    """
    hasher = blake3()
    partial = path.with_name(path.name + ".partial")
    with DirectFile(partial, shard.size) as file:
        for portion in chain([memoryview(shard.header)], contents):
            hasher.update(portion)
            file.write(portion)
            progress(len(portion))
        file.finish()
    partial.replace(path)
    return hasher.hexdigest()


def _write_rest(partial: Path, plan: Plan, shards: list[Shard]) -> None:
    """Everything beside the weights, from the donor."""
    if len(shards) > 1:
        where = {pair.name: shard.name for shard in shards for pair in shard.pairs}
        index = {"metadata": {"total_size": plan.size}, "weight_map": dict(sorted(where.items()))}
        write_atomically(partial / INDEX, json.dumps(index, indent=2))
    write_atomically(partial / "config.json", json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n")
    for path in sorted(plan.donor.folder.iterdir()):
        wanted = path.suffix in _KEPT_SUFFIXES or path.stem in _KEPT_NAMES
        if path.is_file() and wanted and path.name not in _NOT_KEPT:
            shutil.copyfile(path, partial / path.name)
        elif path.is_dir() and path.name == _TEMPLATES:
            shutil.copytree(path, partial / path.name, dirs_exist_ok=True)
