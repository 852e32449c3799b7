"""One source to a store of tokenised examples: read, check, transform, render, mask; on all cores."""

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from filelock import FileLock

from alloy.artifact import fingerprint_json
from alloy.data.checks import check
from alloy.data.config import CheckConfig, DataConfig, SourceConfig
from alloy.data.contamination import EvaluationText
from alloy.data.identity import cache_folder, contents
from alloy.data.shapes import Conversation, RowError
from alloy.data.sources import Chunk, Row, chunks, place, raw_rows, to_row
from alloy.data.store import Portion, Store, write_store
from alloy.data.transforms import draw, strip_reasoning, truncate_thinking
from alloy.errors import InputError, StageError
from alloy.parent_death import end_with
from alloy.template import Encoded, Piece, chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Leaf:
    """A source that is no blend of others.

    Attributes:
        rate: which part of its rows is read at all.
        whole: it is taken for its epochs, not for a share of the tokens.
    """

    source: SourceConfig
    rate: float = 1.0
    whole: bool = True


def open_store(
    leaf: Leaf, config: DataConfig, tokenizer: "PreTrainedTokenizerBase", seed: int, cache: Path | None = None
) -> Store:
    """The examples of a source: made now, or found in the cache under the same inputs.

    Raises:
        InputError: an unreadable source, or more bad rows than the config allows.
    """
    work = Work(leaf, config, tokenizer, seed)
    folder = (cache or cache_folder() / "data") / work.fingerprint()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Other processes of the same run, and other runs, wait here and then find the store.
    with FileLock(f"{folder}.lock"):
        store = Store(folder) if (folder / "store.json").is_file() else _make(work, folder)
    _refuse_many_bad(store, leaf.source, config.checks)
    for theirs in leaf.source.columns.values():
        if store.counts["rows"] and not store.counts[f"column {theirs}"]:
            raise InputError(f"{leaf.source.name}: no row has the column {theirs!r}. Correct `columns`.")
    return store


def hub_commit(source: SourceConfig) -> str | None:
    """The commit that a Hub dataset's revision is now; what is not known is not found in the cache again."""
    if source.hub is None or Path(source.hub).is_dir():
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.hub, revision=source.revision, timeout=10).sha)
    except Exception:  # no network, or no such dataset: reading it will tell
        return f"unknown, {time.time_ns()}"


class _Contaminated(RowError):
    """It repeats an evaluation set."""


class Work:
    """What is done to each chunk of a source; a process gets it once, when it starts."""

    def __init__(
        self, leaf: Leaf, config: DataConfig, tokenizer: "PreTrainedTokenizerBase", seed: int
    ) -> None:
        self.leaf, self.config, self.tokenizer, self.seed = leaf, config, tokenizer, seed
        self.template = chat_template(tokenizer)
        self.evaluation: EvaluationText | None = None

    def fingerprint(self) -> str:
        source, tokenizer = self.leaf.source, self.tokenizer
        checks = self.config.checks
        return fingerprint_json(
            [
                source.model_dump(mode="json", exclude={"epochs", "share"}),
                contents(source),
                hub_commit(source),
                self.leaf.rate,
                self.seed,
                checks.model_dump(mode="json", include={"repeats", "decontaminate"}),
                [contents(each) for each in checks.decontaminate.against] if checks.decontaminate else [],
                self.config.model_dump(mode="json", include={"reasoning_off", "truncate"}),
                tokenizer.backend_tokenizer.to_str()
                if tokenizer.is_fast
                else sorted(tokenizer.get_vocab().items()),
                [tokenizer.chat_template, tokenizer.special_tokens_map],
                _code(),
            ]
        )

    def prepare(self) -> None:
        """What is read once, before the first chunk."""
        if self.config.checks.decontaminate is not None:
            self.evaluation = EvaluationText(self.config.checks.decontaminate, self.seed)

    def portion(self, chunk: Chunk) -> Portion:
        """The chunk's rows as examples, and those that were left out."""
        source = self.leaf.source
        counts = dict.fromkeys(("rows", "rejected", "contaminated", "thinking_off", "truncated"), 0)
        counts |= {f"column {theirs}": 0 for theirs in source.columns.values()}
        rejected: list[dict[str, Any]] = []
        pieces: list[Any] = []
        origin: list[tuple[int, int]] = []
        for number, raw in raw_rows(chunk):
            where = place(source, number)
            if (
                self.leaf.rate < 1
                and draw(f"{Path(source.name).name}:{number}", "take", self.seed) >= self.leaf.rate
            ):
                continue
            counts["rows"] += 1
            if isinstance(raw, dict):
                for theirs in source.columns.values():
                    counts[f"column {theirs}"] += theirs in raw
            try:
                row, made, sequences = self._examples(raw, number)
            except Exception as error:  # whatever a row holds, it is one row
                counts["contaminated" if isinstance(error, _Contaminated) else "rejected"] += 1
                known = isinstance(error, RowError | InputError)
                reason = str(error) if known else f"cannot be read ({type(error).__name__}: {error})"
                rejected.append(_entry(source, where, reason))
                continue
            counts["thinking_off"] += sum(not each.thinking for each in made)
            counts["truncated"] += sum(each.budget is not None for each in made)
            pieces += sequences
            origin += [(number, _hash(row))] * len(sequences)
        return Portion(_arrays(self.template.encode(pieces), origin), rejected, counts)

    def _examples(self, raw: Any, number: int) -> tuple[Row, list[Row], list[list[Piece]]]:
        """The row, what the transforms make of it, and the sequences of all that.

        Raises:
            RowError, InputError: what is wrong with it.
        """
        row = to_row(raw, self.leaf.source, number)
        check(Conversation(row.messages, row.tools), self.config.checks.repeats, self.template.ends)
        shared = self.evaluation.shared(row.messages) if self.evaluation else None
        if shared is not None:
            raise _Contaminated(f"shares with an evaluation set: {shared!r}")
        made = self._transformed(row)
        tell = self.config.truncate is not None and self.config.truncate.tell
        sequences = [
            sequence
            for each in made
            for sequence in self.template.sequences(
                each.messages, each.tools, None if each.thinking else False, each.budget if tell else None
            )
        ]
        if not self.template.splits:
            self.template.encode(sequences)  # a token over the border of two sides is this row's fault
        return row, made, sequences

    def _transformed(self, row: Row) -> list[Row]:
        rows: Iterator[Row] = iter([row])
        if self.config.reasoning_off is not None:
            rows = strip_reasoning(rows, self.config.reasoning_off, self.seed)
        if self.config.truncate is not None:
            rows = truncate_thinking(
                rows,
                self.config.truncate,
                self.seed,
                encode=partial(self.tokenizer.encode, add_special_tokens=False),
                decode=self.tokenizer.decode,
            )
        return list(rows)


def _make(work: Work, folder: Path) -> Store:
    source = work.leaf.source
    workers = work.config.workers or os.cpu_count() or 1
    before = contents(source)
    work.prepare()
    found = chunks(source, work.seed)
    first = [chunk for _, chunk in zip(range(2), found, strict=False)]

    def fill(append: Any) -> None:
        # A few rows are done before another process would have started.
        if workers == 1 or len(first) < 2:
            for chunk in chain(first, found):
                append(work.portion(chunk))
        else:
            for portion in _in_processes(work, chain(first, found), workers):
                append(portion)
        if contents(source) != before:
            raise InputError(f"{source.name}: it changed while it was read. Run again when it is complete.")

    return write_store(folder, fill)


_work: Work | None = None


def _start(work: Work, parent: int) -> None:
    # The others hold the ends of its pipes as well: it would wait for chunks for ever.
    end_with(parent)
    global _work
    _work = work
    # Each process has a core of its own.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _portion(chunk: Chunk) -> Portion:
    assert _work is not None
    return _work.portion(chunk)


def _in_processes(work: Work, found: Iterator[Chunk], workers: int) -> Iterator[Portion]:
    """Portions in the order of their chunks; only a few chunks are in memory at once."""
    # Forked, a process has the tokenizer at once.
    with ProcessPoolExecutor(workers, get_context("fork"), _start, (work, os.getpid())) as pool:
        waiting: deque[Future[Portion]] = deque()
        try:
            for chunk in found:
                waiting.append(pool.submit(_portion, chunk))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise StageError(
                f"{work.leaf.source.name}: a process that read it was killed, most likely for memory. Set "
                "data.workers lower, then run the same command again: nothing of it was kept."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _arrays(encoded: list[Encoded], origin: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "tokens": np.fromiter(chain.from_iterable(e.input_ids for e in encoded), np.uint32),
        "mask": np.fromiter(chain.from_iterable(e.completion_mask for e in encoded), np.uint8),
        "lengths": np.array([len(e) for e in encoded], dtype=np.int32),
        "losses": np.array([sum(e.completion_mask) for e in encoded], dtype=np.int32),
        "rows": np.array([number for number, _ in origin], dtype=np.int64),
        "hashes": np.array([digest for _, digest in origin], dtype=np.uint64),
    }


def _hash(row: Row) -> int:
    said = fingerprint_json([row.messages, row.tools, row.thinking])
    return int(said[:16], 16)


def _entry(source: SourceConfig, where: str, reason: str) -> dict[str, Any]:
    return {"source": source.name, "where": where, "reason": reason}


def _refuse_many_bad(store: Store, source: SourceConfig, checks: CheckConfig) -> None:
    rows, rejected = store.counts.get("rows", 0), store.counts.get("rejected", 0)
    if rejected <= checks.max_rejected_share * rows:
        return
    bad = [entry for entry in store.rejected() if not entry["reason"].startswith("shares with")]
    shown = "".join(f"\n  {entry['where']}: {entry['reason']}" for entry in bad[:5])
    raise InputError(
        f"{source.name}: {rejected} of {rows} rows are bad, data.checks.max_rejected_share allows "
        f"{checks.max_rejected_share:.1%}.{shown}\nAll of them are in {store.folder / 'rejected.jsonl'}. Correct or "
        "remove them, or allow more."
    )


def _code() -> str:
    """The code that makes examples: what it made before is not found when it has changed."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "template.py", here.parent / "chat.py"]
    packages = ("transformers", "tokenizers", "jinja2", "jsonschema", "reasoning-gym", "bfcl-eval")
    return fingerprint_json(
        [
            *(
                blake3(path.read_bytes()).hexdigest()
                for path in [*files, here.parent / "verify" / "schema.py"]
            ),
            *(version(package) for package in packages),
        ]
    )
