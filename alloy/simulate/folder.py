"""The output folder: what is finished, what a killed run goes on from, and the files that come of it.

progress.jsonl       every finished conversation, in the order in which they ended; only ever added to
inputs.json          what it was begun with
config.yaml          the whole config, with its defaults
conversations.jsonl  the kept ones, by number: rows for `data.sources`
rejected.jsonl       the others, by number, with rule and detail
summary.json         counts by rule, tokens; written last
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from alloy.artifact import changed_keys, write_atomically
from alloy.config import dump
from alloy.environments.task import Message
from alloy.errors import InputError
from alloy.simulate.config import SimulateConfig
from alloy.simulate.duplicates import Seen
from alloy.simulate.rules import rows

_WHERE = {"base_url", "api_key_env", "timeout_seconds", "max_retries"}
_NOT_INPUTS: Any = {
    "output": True,
    "conversations": True,
    "concurrency": True,
    # These two act when the files are written.
    "thinking": True,
    "duplicate_similarity": True,
    "endpoint": _WHERE,
    "roles": {role: {"endpoint": _WHERE} for role in ("scenario", "user", "assistant", "server")},
}


class Folder:
    """One run's folder; nothing is written before `begin`.

    Args:
        identity: fingerprints of the files that the config names.
    Raises:
        InputError: the folder was begun with other inputs, or holds something else.
    """

    def __init__(self, config: SimulateConfig, identity: dict[str, str]) -> None:
        self._config = config
        self.path = config.output
        self._progress = self.path / "progress.jsonl"
        self._inputs = {"config": config.model_dump(mode="json", exclude=_NOT_INPUTS), "files": identity}
        self._places: dict[int, int] = {}
        self._stream: Any = None
        self._check()

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"output = {self.path}: it is no folder. Name another.")
        self._places.clear()
        told = self.path / "inputs.json"
        if told.is_file():
            changes = changed_keys(json.loads(told.read_text(encoding="utf-8")), self._inputs)
            if changes:
                raise InputError(
                    f"output = {self.path}: it was begun with other inputs. Changed: {'; '.join(changes)}. "
                    "Name another folder, or remove this one."
                )
            self._read()
        elif self.path.is_dir() and not all(self._is_a_beginning(file) for file in self.path.iterdir()):
            raise InputError(f"output = {self.path}: there are other files in it. Name another folder.")

    def _is_a_beginning(self, file: Path) -> bool:
        """Whether a kill right after the start may have left it."""
        return file.suffix == ".partial" or (file == self._progress and not file.stat().st_size)

    def todo(self) -> list[int]:
        """Numbers of the conversations that are not finished."""
        return [number for number in range(self._config.conversations) if number not in self._places]

    def begin(self) -> Self:
        """Open it for more conversations; what a kill left half written is cut off.

        Raises:
            InputError: another run writes into it, or began it with other inputs in the meantime.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._stream = self._progress.open("ab")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._stream.close()
            raise InputError(f"output = {self.path}: another run writes into it. Wait for its end.") from None
        try:
            # Another run may have come and gone since this one looked.
            self._check()
        except InputError:
            self._stream.close()
            raise
        write_atomically(self.path / "inputs.json", json.dumps(self._inputs, indent=1))
        write_atomically(self.path / "config.yaml", dump(self._config))
        self._stream.truncate(self._read())
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add(self, record: dict[str, Any]) -> None:
        place = self._stream.seek(0, os.SEEK_END)
        self._stream.write(json.dumps(record).encode() + b"\n")
        self._stream.flush()
        self._places[record["number"]] = place

    def write_files(self) -> dict[str, Any]:
        """The files of all finished conversations up to the config's number, and their summary."""
        seen = Seen(self._config.duplicate_similarity) if self._config.duplicate_similarity else None
        by_rule: Counter[str] = Counter()
        tokens: dict[str, list[int]] = {}
        kept = requests = total = 0
        partial = {name: self.path / f"{name}.jsonl.partial" for name in ("conversations", "rejected")}
        with (
            partial["conversations"].open("w", encoding="utf-8") as good,
            partial["rejected"].open("w", encoding="utf-8") as bad,
        ):
            for record in self._records():
                total += 1
                requests += record["requests"]
                for role, (prompt, completion) in record["tokens"].items():
                    sums = tokens.setdefault(role, [0, 0])
                    sums[0] += prompt
                    sums[1] += completion
                alike = seen.like(record["id"], record["messages"]) if seen and not record["rule"] else None
                if alike:
                    record |= {"rule": "duplicate", "detail": f"{alike[1]:.2f} like {alike[0]}"}
                if record["rule"]:
                    by_rule[record["rule"]] += 1
                    bad.write(_line({key: record[key] for key in _REJECTED}))
                else:
                    kept += 1
                    good.write(_line(self._row(record)))
        for path in partial.values():
            path.replace(path.with_suffix(""))
        summary = {
            "conversations": total,
            "kept": kept,
            "rejected": total - kept,
            "by_rule": dict(by_rule.most_common()),
            "requests": requests,
            "tokens": {
                role: {"prompt": prompt, "completion": completion}
                for role, (prompt, completion) in sorted(tokens.items())
            },
        }
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=1) + "\n")
        return summary

    def _row(self, record: dict[str, Any]) -> dict[str, Any]:
        messages: list[Message] = rows(record["messages"], self._config.thinking)
        return {
            "messages": messages,
            "tools": record["tools"],
            "id": record["id"],
            "scenario": record["scenario"],
        }

    def _records(self) -> Iterator[dict[str, Any]]:
        """Finished conversations by number, one at a time."""
        if not self._places:
            return
        with self._progress.open("rb") as stream:
            for number in sorted(self._places):
                if number < self._config.conversations:
                    stream.seek(self._places[number])
                    yield json.loads(stream.readline())

    def _read(self) -> int:
        """Note where every finished conversation stands; the end of the last whole line."""
        end = 0
        if not self._progress.is_file():
            return end
        with self._progress.open("rb") as stream:
            for count, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break  # a kill while it was written
                try:
                    self._places.setdefault(json.loads(line)["number"], end)
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        f"{self._progress}:{count}: no record of a conversation. Remove the line."
                    ) from None
                end += len(line)
        return end


_REJECTED = ("id", "rule", "detail", "scenario", "messages", "tools")


def _line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text + "\n"
