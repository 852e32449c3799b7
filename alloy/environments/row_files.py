"""Rows of the user's files, each in one split for good: what `problems` and `trl` make their tasks of."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

from pydantic import ValidationError

from alloy.artifact import fingerprint_bytes, fingerprint_json
from alloy.data.config import SourceConfig
from alloy.data.identity import contents
from alloy.data.shapes import RowError, messages
from alloy.data.sources import chunks, place, raw_rows
from alloy.environments.task import Message, Split
from alloy.errors import InputError
from alloy.verify.schema_errors import explain

SPLITS: tuple[Split, ...] = get_args(Split)
_MEASURED_FIRST: tuple[Split, ...] = ("test", "validation", "train")
SHARES: dict[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}
_PLACE_KEYS = ("path", "hub", "subset", "split", "revision", "streaming", "rows", "keep")
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")

Place = str | Path | Mapping[str, Any]
"""A file, a folder or a name on the Hub; or the keys of a source (`hub`, `subset`, `split`, `revision` ...)."""


class Item(Protocol):
    """What is made of a row."""

    @property
    def id(self) -> str:
        """A hash of what it asks: rows with the same one are the same, wherever they stand."""
        ...

    @property
    def where(self) -> str:
        """File and line."""
        ...


R = TypeVar("R", bound=Item)


class RowFiles:
    """Where an environment's rows are, and which split each is in.

    A split that `paths` does not name is cut from train, by a row's id: it is in one split for good,
    however rows are added or moved. What is in another split, too, is dropped from train (from
    validation, when it is in test). Of equal rows the first is kept.

    Args:
        path: where all rows are; or
        paths: by split: {train: ..., test: ...}.
        shares: of the rows of train, for the splits that are cut from it.
        max_rejected_share: of the rows; more bad ones are an error, fewer are left out and counted. Without
            one every bad row is an error.

    Attributes:
        counts: what became of the rows; of the splits, too, once they are read.
        columns: that any row has, once they are read.

    Raises:
        InputError: nothing or both is given, an unknown split, no such file, or wrong shares.
    """

    def __init__(
        self,
        path: Place | None,
        paths: Mapping[str, Place] | None,
        shares: Mapping[str, float] = SHARES,
        max_rejected_share: float | None = None,
    ) -> None:
        self.sources = _sources(path, paths)
        self.shares = _checked_shares(shares)
        if max_rejected_share is not None and not 0 <= max_rejected_share < 1:
            raise InputError(
                f"max_rejected_share = {max_rejected_share}: a share from 0 to below 1 is needed."
            )
        self.max_rejected_share = max_rejected_share
        self.counts = {"rows": 0, "rejected": 0, "duplicates": 0, "in_another_split": 0}
        self.columns: set[str] = set()

    def read(
        self,
        to_item: Callable[[Any, str], R],
        check_equal: Callable[[R, R], None] = lambda later, earlier: None,
    ) -> dict[Split, list[R]]:
        """Every row, in its split.

        Args:
            to_item: makes one of a row as it stands in its file, and of where it stands.
            check_equal: looks at a row that is dropped, and the one of its split that is kept for it.
        Raises:
            InputError: a missing file, or more bad rows (either of the two raised `RowError`) than are
                allowed.
        """
        found: dict[Split, list[R]] = {split: [] for split in SPLITS}
        kept: dict[str, tuple[Split, R]] = {}
        bad: list[str] = []
        # What is in two files is kept in the one that it is measured on.
        for given in _MEASURED_FIRST:
            if given not in self.sources:
                continue
            for where, raw in _rows(self.sources[given]):
                self.counts["rows"] += 1
                self.columns.update(raw if isinstance(raw, dict) else ())
                try:
                    item = to_item(raw, where)
                    earlier_split, earlier = kept.setdefault(item.id, (given, item))
                    if earlier_split != given:
                        self.counts["in_another_split"] += 1
                    elif earlier is not item:
                        check_equal(item, earlier)
                        self.counts["duplicates"] += 1
                    else:
                        found[self._split_of(item) if given == "train" else given].append(item)
                except RowError as error:
                    bad.append(f"{where}: {error}")
        if len(bad) > (self.max_rejected_share or 0) * self.counts["rows"]:
            share = self.max_rejected_share
            allowed = "" if share is None else f", max_rejected_share = {share:g} are allowed"
            raise InputError(
                f"{'; '.join(bad[:3])}. {len(bad)} of {self.counts['rows']} rows are bad{allowed}. Correct or "
                "remove them."
            )
        self.counts |= {"rejected": len(bad)} | {split: len(items) for split, items in found.items()}
        return found

    def draw(self, found: list[R], split: Split, count: int, seed: int) -> list[R]:
        """`count` different rows of a split in the seed's order.

        Raises:
            InputError: there are fewer.
        """
        if count > len(found):
            told = ", ".join(source.name for source in self.sources.values())
            raise InputError(
                f"{told}: {count} tasks are asked for, and the {split} split has {len(found)} rows. Ask for "
                f"{len(found)} or fewer (`tasks`, `items`, `rows`), or give it more."
            )
        # By a hash of its own a row's place does not depend on the others.
        return sorted(found, key=lambda item: fingerprint_bytes(f"{seed}/{item.id}".encode()))[:count]

    def _split_of(self, item: Item) -> Split:
        """The split of a row of train: those that have no file of their own are cut from it."""
        at = int(item.id[:8], 16) / 2**32
        for split in _MEASURED_FIRST[:2]:
            if split in self.sources:
                continue
            if at < self.shares[split]:
                return split
            at -= self.shares[split]
        return "train"


def turns_of(prompt: list[Any], column: str = "prompt") -> list[Message]:
    """A prompt that is a list of turns; it ends with the user's.

    Raises:
        RowError: it does not, or is no conversation.
    """
    turns = messages({"messages": prompt}).messages
    if not turns or turns[-1]["role"] != "user":
        raise RowError(f"`{column}` does not end with the user's turn")
    return turns


def fingerprint_rows(options: Mapping[str, Any]) -> str:
    """Of the contents of the files that `path` or `paths` name; of a Hub dataset, name and revision.

    Raises:
        InputError: the options name none, or one that is not there.
    """
    sources = _sources(options.get("path"), options.get("paths"))
    return fingerprint_json({split: contents(source) for split, source in sources.items()})


def _rows(source: SourceConfig) -> Iterator[tuple[str, Any]]:
    """Every row with where it stands."""
    for chunk in chunks(source, 0):
        for number, raw in raw_rows(chunk):
            yield place(source, number), raw


def _sources(path: Place | None, paths: Mapping[str, Place] | None) -> dict[Split, SourceConfig]:
    """Where the rows of each split are.

    Raises:
        InputError: nothing, both, or an unknown split is given, or no such file is there.
    """
    if (path is None) == (paths is None):
        raise InputError("path, paths: give one of them, a file or a dataset's name with rows.")
    given: Any = {"train": path} if path is not None else paths
    if not isinstance(given, Mapping) or not given or not set(given) <= set(SPLITS):
        raise InputError(f"paths = {given!r}: a file for some of {', '.join(SPLITS)} is needed.")
    return {split: _source(f"paths.{split}" if paths else "path", where) for split, where in given.items()}


def _source(key: str, given: Place) -> SourceConfig:
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in _PLACE_KEYS]
        if unknown:
            raise InputError(f"{key}: {unknown[0]!r} is none of {', '.join(_PLACE_KEYS)}.")
        try:
            source = SourceConfig.model_validate(given)
        except ValidationError as error:
            raise InputError(f"{key}: {explain(error)}.") from None
    else:
        path = Path(given)
        # A name on the Hub has one slash at the most; what looks like a path is one.
        is_hub = path.is_dir() or (not path.is_file() and not _looks_like_a_path(str(given)))
        source = SourceConfig.model_validate({"hub": str(given)} if is_hub else {"path": path})
    if source.path is not None and not source.path.is_file():
        raise InputError(f"{key}: {source.path}: there is no such file. Name a JSONL or Parquet file.")
    return source


def _looks_like_a_path(text: str) -> bool:
    return text.endswith(_ENDINGS) or text.startswith((".", "/", "~")) or text.count("/") > 1


def _checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    wrong = set(shares) != set(SPLITS) or any(not 0 <= share <= 1 for share in shares.values())
    if wrong or abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"shares = {dict(shares)!r}: {', '.join(SPLITS)} are needed, adding up to 1.")
    return dict(shares)
