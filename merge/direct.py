"""A file written past the page cache: what a merge writes is not read again by it.

Copied into the cache and written from there, two gigabytes cost more of two cores than blending them does.
Where a file system has no such writing it is done through the cache.
"""

import errno
import fcntl
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

_AT_ONCE = 16 << 20
_BLOCK = 4096
"""What such writing is aligned to: places in the file, lengths, memory."""
_DIRECT: int = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """A new file of a size that is known, written from its beginning to its end.

    The disk writes one buffer while the other is filled.

    Raises:
        OSError: as `os.write`; a full disk says so when the file is opened.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._handle = _open(path)
        os.posix_fallocate(self._handle, 0, size)
        # Anonymous maps begin at a page.
        self._filling, self._writing = (memoryview(mmap.mmap(-1, _AT_ONCE)) for _ in range(2))
        self._filled = self._sent = 0
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        os.close(self._handle)

    def write(self, portion: memoryview) -> None:
        """The next bytes; they may change as soon as this returns."""
        while portion:
            taken = min(len(portion), _AT_ONCE - self._filled)
            self._filling[self._filled : self._filled + taken] = portion[:taken]
            self._filled += taken
            portion = portion[taken:]
            if self._filled == _AT_ONCE:
                self._send()

    def finish(self) -> None:
        """Write what is left, cut the last block to size, and sync."""
        self._filled += -self._filled % _BLOCK
        self._send()
        self._wait()
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)

    def _send(self) -> None:
        self._wait()
        self._filling, self._writing = self._writing, self._filling
        portion = self._writing[: self._filled]
        self._pending = self._writer.submit(_write_at, self._handle, portion, self._sent)
        self._sent += self._filled
        self._filled = 0

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o666)


def _write_at(handle: int, portion: memoryview, at: int) -> None:
    while portion:
        try:
            done = os.pwrite(handle, portion, at)
        except OSError as error:
            flags = fcntl.fcntl(handle, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & _DIRECT:
                raise
            # Opened so, and not written so: through the cache from here on.
            fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~_DIRECT)
            continue
        portion, at = portion[done:], at + done
