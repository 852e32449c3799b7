"""The merge itself: two checkpoints in, one out, a few megabytes at a time.

    OUT.partial/  progress.json          what was asked for, and the shards that are done with their hashes
                  model-0000k-of-n       each written under a temporary name, synced, renamed
    OUT/          the same folder, renamed when everything is in it

Interrupted, the same merge goes on at the next shard and ends at the same bytes.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_file, publish_folder, write_atomically
from alloy.errors import InputError
from merge.card import model_card
from merge.checkpoint import INDEX, Checkpoint, Role, open_checkpoint, read_json
from merge.groups import Alpha
from merge.preflight import Plan, check_disk, preflight
from merge.shard import Blend, Linear, Shard, ShardWriter, into_shards

MAX_SHARD_BYTES = 4 << 30
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


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    out: Path
    alpha: Alpha | None
    """None: by another method."""
    reasoning: str
    chat: str
    """Fingerprints of the parents."""
    shards: dict[str, str]
    """File name to BLAKE3."""
    resumed: list[str]
    """Shards that an interrupted run had finished."""
    tensors: int
    bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def merge_checkpoints(
    reasoning: Checkpoint | str | Path,
    chat: Checkpoint | str | Path,
    alpha: Alpha,
    out: Path,
    *,
    donor: Role | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    replace: bool = False,
    match_tokens: bool = False,
    table: str = "",
    progress: Progress = lambda written, total: None,
) -> MergeReport:
    """Write (1 - alpha) * reasoning + alpha * chat as a Hugging Face folder.

    Args:
        reasoning, chat: run folders, plain model folders, or opened checkpoints.
        alpha: share of the chat weights, or one for every group of modules (`merge.groups`).
        donor, dtype, match_tokens: as in `preflight`.
        max_shard_bytes: of one file's tensors; a larger tensor has a file to itself.
        replace: overwrite another model in `out`; refused otherwise.
        table: Markdown for the model card: how alpha was chosen.
    Raises:
        InputError: the parents do not fit, `out` holds something else, or the disk is too full.
    """
    started = time.monotonic()
    first = reasoning if isinstance(reasoning, Checkpoint) else open_checkpoint(reasoning, "reasoning")
    second = chat if isinstance(chat, Checkpoint) else open_checkpoint(chat, "chat")
    for share in alpha.values() if isinstance(alpha, Mapping) else [alpha]:
        if not 0 <= share <= 1:
            raise InputError(f"alpha = {share}: the share of the chat weights lies between 0 and 1.")
    plan = preflight(first, second, donor=donor, dtype=dtype, match_tokens=match_tokens)
    request = {
        "method": "linear",
        "alpha": alpha,
        "reasoning": first.fingerprint,
        "chat": second.fingerprint,
        "donor": donor,
        "dtype": dtype,
        **({"match_tokens": True} if match_tokens else {}),
    }

    def card(shards: dict[str, str]) -> str:
        return model_card(first, second, alpha, plan.notes, shards, table)

    resumed, hashes = publish(
        plan,
        Linear(alpha),
        request,
        card,
        out,
        max_shard_bytes=max_shard_bytes,
        replace=replace,
        progress=progress,
    )
    return MergeReport(
        out=out,
        alpha=alpha,
        reasoning=first.fingerprint,
        chat=second.fingerprint,
        shards=hashes,
        resumed=resumed,
        tensors=len(plan.pairs),
        bytes=plan.size,
        seconds=round(time.monotonic() - started, 3),
        notes=plan.notes,
    )


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
    Returns: the shards that were there already, and the hash of each.
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
        _sync_folder(partial)
        publish_folder(partial, out)
        _sync_folder(out.absolute().parent)
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
    with ShardWriter(blend, lambda written: progress(written, total)) as writer:
        for shard in shards:
            if shard.name in done:
                progress(shard.size, total)
                continue
            done[shard.name] = writer.write(shard, partial / shard.name)
            _sync_folder(partial)
            write_atomically(partial / _PROGRESS, json.dumps({"request": request, "shards": done}))


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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
