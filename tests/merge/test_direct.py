"""Written past the page cache, in whatever portions, a file holds what was written."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge import direct
from merge.direct import DirectFile


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.one_of(st.integers(1, 40_000), st.sampled_from([4096, 8192, 16_384])),
    cut=st.integers(1, 9_000),
    at_once=st.sampled_from([4096, 8192]),
)
def test_a_file_is_its_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, cut: int, at_once: int
) -> None:
    monkeypatch.setattr(direct, "_AT_ONCE", at_once)
    content = os.urandom(size)
    portion = bytearray(cut)
    with DirectFile(tmp_path / "x", size) as file:
        for start in range(0, size, cut):
            part = content[start : start + cut]
            portion[: len(part)] = part
            file.write(memoryview(portion)[: len(part)])
            portion[:] = bytes(cut)  # What was handed over may change at once.
        file.finish()
    assert (tmp_path / "x").read_bytes() == content


def write(path: Path, content: bytes) -> None:
    with DirectFile(path, len(content)) as file:
        file.write(memoryview(content))
        file.finish()


def test_a_shorter_file_replaces_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(50_000))
    write(tmp_path / "x", b"alloy")
    assert (tmp_path / "x").read_bytes() == b"alloy"


def test_a_file_system_without_it_is_written_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some refuse to open a file so, some to write it."""
    whole, pwrite = os.open, os.pwrite
    flags: list[int] = []

    def refuse_to_open(path: Path, asked: int, mode: int = 0o777) -> int:
        flags.append(asked & direct._DIRECT)
        if flags[-1]:
            raise OSError(errno.EINVAL, "no such writing here")
        return whole(path, asked, mode)

    monkeypatch.setattr(os, "open", refuse_to_open)
    write(tmp_path / "x", b"alloy")
    monkeypatch.setattr(os, "open", whole)
    assert flags == [direct._DIRECT, 0]
    assert (tmp_path / "x").read_bytes() == b"alloy"

    refused: list[int] = []

    def refuse_once(handle: int, portion: memoryview, at: int) -> int:
        if not refused:
            refused.append(at)
            raise OSError(errno.EINVAL, "not aligned as this file system wants it")
        return pwrite(handle, portion, at)

    monkeypatch.setattr(os, "pwrite", refuse_once)
    write(tmp_path / "y", b"steel")
    assert refused == [0]
    assert (tmp_path / "y").read_bytes() == b"steel"


def test_a_full_disk_is_told_and_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, portion: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with DirectFile(tmp_path / "x", 5) as file:
        file.write(memoryview(b"alloy"))
        with pytest.raises(OSError, match="No space left"):
            file.finish()
