"""What a disk that is full or cannot be written says, through every library, in one line with the remedy."""

import errno
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)
# Safetensors and PyTorch write in their own languages, and raise errors of their own.
_FULL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "iostream error",
)


def disk_trouble(error: BaseException) -> str | None:
    """The message for an error that a disk is at the root of; None for another."""
    for cause in _causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        where = cause.filename if isinstance(cause, OSError) else None
        if number in _FULL or any(words in str(cause) for words in _FULL_WORDS):
            return (
                f"no space left on the disk of {where or 'the run folder'}. Free some, run again: it goes on from "
                "the last checkpoint. train.keep_checkpoints=1 needs the least."
            )
        if number in _LOCKED:
            return (
                f"{where or 'the run folder'} cannot be written or read ({cause.strerror}). Give this user "  # type: ignore[attr-defined]
                "the right to, or set output (with `alloy run`: --runs) to another folder, then run again."
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
