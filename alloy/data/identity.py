"""What a source holds, as a fingerprint; imports no torch."""

import os
from pathlib import Path

from alloy.artifact import fingerprint_bytes, fingerprint_file, fingerprint_json
from alloy.data.config import SourceConfig, blended_sources
from alloy.environments.registry import fingerprint_environment

LARGE = 1 << 26
"""Bytes from which on a file's hash is remembered: below, reading it again takes no time."""


def cache_folder() -> Path:
    """Where tokenised sources and hashes of large files are kept: $ALLOY_CACHE, or ~/.cache/alloy."""
    return Path(os.environ.get("ALLOY_CACHE") or Path.home() / ".cache" / "alloy")


def contents(source: SourceConfig) -> str:
    """The identity of what a source holds; a dataset of the Hub is what its name and revision say."""
    if source.environment is not None:
        return fingerprint_environment(source.environment, source.options)
    if source.blend is not None:
        inner = blended_sources(source.blend)
        return fingerprint_json([[each.model_dump(mode="json"), contents(each)] for each in inner])
    local = source.path or (Path(source.hub) if source.hub and Path(source.hub).is_dir() else None)
    if local is None:
        return f"{source.hub}@{source.revision}"
    files = [local] if local.is_file() else sorted(path for path in local.rglob("*") if path.is_file())
    return fingerprint_json([[str(path), _remembered(path)] for path in files])


def _remembered(path: Path) -> str:
    """A file's fingerprint; of a large one computed once for its size and times of change."""
    told = path.stat()
    if told.st_size < LARGE:
        return fingerprint_file(path)
    # The time of the inode's change cannot be set back, as the file's own can.
    state = f"{path.resolve()}|{told.st_ino}|{told.st_size}|{told.st_mtime_ns}|{told.st_ctime_ns}"
    memory = cache_folder() / "hashes" / fingerprint_bytes(state.encode())
    if memory.is_file():
        return memory.read_text()
    found = fingerprint_file(path)
    memory.parent.mkdir(parents=True, exist_ok=True)
    writing = memory.with_name(f"{memory.name}.{os.getpid()}")
    writing.write_text(found)
    writing.replace(memory)
    return found
