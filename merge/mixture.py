"""Parents that fit together and the method that blends them: what a merge writes and a sweep evaluates.

A setting is what may vary from one merge of the same parents to another: alpha, or one option of a method.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloy.errors import InputError
from merge.blender import Blend, Linear
from merge.checkpoint import Checkpoint
from merge.groups import Alpha
from merge.preflight import Plan
from merge.publish import Progress, publish

MAX_SHARD_BYTES = 4 << 30

Setting = Alpha | None
"""A number, one for every group of tensors, or None where nothing varies."""


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    out: Path
    setting: Setting
    parents: dict[str, str]
    """Role to fingerprint."""
    shards: dict[str, str]
    """File name to BLAKE3."""
    resumed: list[str]
    """Shards that an interrupted run had finished."""
    tensors: int
    bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


class Mixture(ABC):
    """What can be merged at any setting.

    Attributes:
        parents: in order; a base last.
        plan: their tensors, paired.
        over: what a setting is called: alpha, or an option's name; "" where nothing varies.
        asked: the user's choices beside the parents and the setting, as a record keeps them.
    """

    parents: Sequence[Checkpoint]
    plan: Plan
    over: str
    asked: dict[str, Any]

    @abstractmethod
    def blend_at(self, setting: Setting) -> Blend | Linear:
        """What becomes of the weights.

        Raises:
            InputError: a setting that makes no sense for these parents.
        """

    @abstractmethod
    def request_at(self, setting: Setting) -> dict[str, Any]:
        """All that decides the bytes, but for the size of files."""

    @abstractmethod
    def card_at(self, setting: Setting, shards: dict[str, str], table: str) -> str:
        """README.md of the result, from the hashes of its files and how the setting was chosen."""

    @property
    def fingerprints(self) -> dict[str, str]:
        return {parent.role: parent.fingerprint for parent in self.parents}

    def write(
        self,
        setting: Setting,
        out: Path,
        *,
        max_shard_bytes: int = MAX_SHARD_BYTES,
        replace: bool = False,
        table: str = "",
        progress: Progress = lambda written, total: None,
        started: float | None = None,
    ) -> MergeReport:
        """Write the merge as a Hugging Face folder, or go on with it, or find it done.

        Args:
            max_shard_bytes: of one file's tensors; a larger tensor has a file to itself.
            replace: overwrite another model in `out`; refused otherwise.
            table: Markdown for the model card: how the setting was chosen.
            started: when the work began (time.monotonic()), where that was before.
        Raises:
            InputError: the setting makes no sense, `out` holds something else, or the disk is too full.
        """
        started = started or time.monotonic()
        resumed, shards = publish(
            self.plan,
            self.blend_at(setting),
            self.request_at(setting),
            lambda hashes: self.card_at(setting, hashes, table),
            out,
            max_shard_bytes=max_shard_bytes,
            replace=replace,
            progress=progress,
        )
        return MergeReport(
            out=out,
            setting=setting,
            parents=self.fingerprints,
            shards=shards,
            resumed=resumed,
            tensors=len(self.plan.pairs),
            bytes=self.plan.size,
            seconds=round(time.monotonic() - started, 3),
            notes=self.plan.notes,
        )


def refuse(error: ValueError) -> InputError:
    """What a method says of its options, as a user's error."""
    return InputError(f"{error}.")
