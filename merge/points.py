"""The points of a sweep: each setting evaluated once, in memory, and kept on the disk.

POINTS/  one file a setting: a finer grid, another rule, and an interrupted sweep take what is there
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alloy.artifact import fingerprint_json, write_atomically
from alloy.policy import load_tokenizer
from merge.checkpoint import read_json
from merge.choose import Point
from merge.live import LiveModel
from merge.mixture import Mixture, Setting

Evaluate = Callable[[Any, Any, Setting], dict[str, list[float]]]
"""(model, tokenizer, setting) -> by suite, the scores of its items; the same items at every setting."""


class Points:
    """What is known of a mixture, and the means to know more.

    Args:
        measure: identity of what `evaluate` measures; points of another measure are not taken.
        folder: where points are kept.
        max_shard_bytes: of the files whose hashes a point keeps.
        tell: called with every point that is new to this sweep.
    """

    def __init__(
        self,
        mixture: Mixture,
        evaluate: Evaluate,
        *,
        measure: str,
        folder: Path,
        max_shard_bytes: int,
        tell: Callable[[Point], None],
    ) -> None:
        self.mixture = mixture
        self.reused = 0
        """Points that an earlier sweep evaluated."""
        self._evaluate = evaluate
        self._measure = measure
        self._folder = folder
        self._max_shard_bytes = max_shard_bytes
        self._tell = tell
        self._known: dict[str, Point] = {}
        self._live: LiveModel | None = None
        self._tokenizer: Any = None

    def __len__(self) -> int:
        return len(self._known)

    def at(self, setting: Setting) -> Point:
        """The point of a setting.

        Raises:
            InputError: a setting that makes no sense for these parents.
            StageError: a suite without a judged item, or a score outside 0 to 1.
        """
        identity = [self.mixture.request_at(setting), self._max_shard_bytes, self._measure]
        key = fingerprint_json(identity)[:24]
        if key not in self._known:
            path = self._folder / f"{key}.json"
            if path.is_file():
                self._known[key] = Point(**{**read_json(path), "setting": setting})
                self.reused += 1
            else:
                self._known[key] = self._measured(setting)
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(asdict(self._known[key])))
            self._tell(self._known[key])
        return self._known[key]

    def _measured(self, setting: Setting) -> Point:
        blend = self.mixture.blend_at(setting)
        if self._live is None:
            self._live = LiveModel(self.mixture.plan, self._max_shard_bytes)
            self._tokenizer = load_tokenizer(self.mixture.plan.donor.folder)
        model, hashes = self._live.set(blend)
        return Point(setting, self._evaluate(model, self._tokenizer, setting), hashes)
