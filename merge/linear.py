"""The merge itself: (1 - alpha) * reasoning + alpha * chat."""

import time
from pathlib import Path
from typing import Any

from merge.blender import Linear
from merge.card import linear_card
from merge.checkpoint import Checkpoint, Role, open_checkpoints
from merge.groups import Alpha, told
from merge.mixture import MAX_SHARD_BYTES, MergeReport, Mixture, Setting, refuse
from merge.preflight import preflight
from merge.publish import Progress


class LinearMixture(Mixture):
    """Two checkpoints at any alpha.

    Args:
        donor, dtype, match_tokens: as in `merge.preflight.preflight`.
    Raises:
        InputError: the parents do not fit.
    """

    over = "alpha"

    def __init__(
        self,
        reasoning: Checkpoint,
        chat: Checkpoint,
        *,
        donor: Role | None = None,
        dtype: str | None = None,
        match_tokens: bool = False,
    ) -> None:
        self.parents = reasoning, chat
        self.asked = {"donor": donor, "dtype": dtype, "match_tokens": match_tokens}
        self.plan = preflight(reasoning, chat, donor=donor, dtype=dtype, match_tokens=match_tokens)

    def blend_at(self, setting: Setting) -> Linear:
        assert setting is not None
        try:
            return Linear(setting, self.plan.pairs)
        except ValueError as error:
            raise refuse(error) from None

    def request_at(self, setting: Setting) -> dict[str, Any]:
        assert setting is not None
        alpha: float | str = setting if isinstance(setting, float | int) else told(setting)
        if not isinstance(setting, float | int) and len(set(setting.values())) == 1:
            # One alpha for every group is one alpha.
            alpha = next(iter(setting.values()))
        return {"method": "linear", "alpha": alpha, **self.fingerprints, **self.asked}

    def card_at(self, setting: Setting, shards: dict[str, str], table: str) -> str:
        assert setting is not None
        return linear_card(self.parents, setting, self.plan.notes, shards, table)


def merge_checkpoints(
    reasoning: str | Path,
    chat: str | Path,
    alpha: Alpha,
    out: Path,
    *,
    donor: Role | None = None,
    dtype: str | None = None,
    match_tokens: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    replace: bool = False,
    progress: Progress = lambda written, total: None,
) -> MergeReport:
    """Write (1 - alpha) * reasoning + alpha * chat as a Hugging Face folder.

    Args:
        reasoning, chat: run folders, model folders or adapters.
        alpha: share of the chat weights, or one for every group of tensors (`merge.groups`).
        max_shard_bytes, replace, progress: as in `Mixture.write`.
    Raises:
        InputError: the parents do not fit, `out` holds something else, or the disk is too full.
    """
    started = time.monotonic()
    first, second = open_checkpoints((reasoning, chat), ("reasoning", "chat"))
    mixture = LinearMixture(first, second, donor=donor, dtype=dtype, match_tokens=match_tokens)
    return mixture.write(
        alpha, out, max_shard_bytes=max_shard_bytes, replace=replace, progress=progress, started=started
    )
