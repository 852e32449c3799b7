"""Rows that repeat an evaluation set: found by runs of words."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from alloy.data.config import DecontaminateConfig, SourceConfig
from alloy.data.shapes import RowError
from alloy.data.sources import chunks, place, raw_rows, to_row
from alloy.environments.registry import make_environment
from alloy.environments.task import Message
from alloy.errors import InputError


class EvaluationText:
    """What the users of evaluation sets ask, as runs of words.

    Source: 13-word runs, as GPT-3 was decontaminated (arXiv:2005.14165, appendix C).
    """

    def __init__(self, config: DecontaminateConfig, seed: int) -> None:
        self.words = config.words
        self.runs: set[str] = set()
        self.prompts: set[str] = set()
        """Those shorter than a run; they count where they are all that a user asks."""
        for source in config.against:
            for text in asked(source, seed):
                words = plain_words(text)
                if not words:
                    continue  # signs alone are in every text
                if len(words) < self.words:
                    self.prompts.add(" ".join(words))
                self.runs.update(self._runs(words))

    def shared(self, messages: Sequence[Message]) -> str | None:
        """A run of words that a user turn shares with an evaluation set, or None."""
        for message in messages:
            if message["role"] != "user":
                continue
            words = plain_words(message["content"])
            if " ".join(words) in self.prompts:
                return " ".join(words)
            for run in self._runs(words):
                if run in self.runs:
                    return run
        return None

    def _runs(self, words: list[str]) -> Iterator[str]:
        return (" ".join(words[start : start + self.words]) for start in range(len(words) - self.words + 1))


def plain_words(text: str) -> list[str]:
    """Lower-case words and numbers: punctuation and spacing hide no copy."""
    return re.findall(r"\w+", text.lower())


def asked(source: SourceConfig, seed: int) -> Iterator[str]:
    """What the users of an evaluation set ask; an environment's test split, or rows with or without answers.

    Raises:
        InputError: a row without a question, with where it stands.
    """
    if source.environment is not None:
        for task in make_environment(source.environment, source.options).tasks(
            "test", source.rows or 0, seed
        ):
            yield from (turn["content"] for turn in task.messages if turn["role"] == "user")
        return
    for chunk in chunks(source, seed):
        for number, raw in raw_rows(chunk):
            try:
                yield from _asked(raw, source, number)
            except RowError as error:
                raise InputError(
                    f"{place(source, number)}: {error}. Say with `columns` what the question is."
                ) from None


def _asked(raw: Any, source: SourceConfig, number: int) -> list[str]:
    try:
        row = to_row(raw, source, number)
    except RowError as error:
        # Evaluation sets often have a question and no answer.
        columns = {"prompt": "prompt", **source.columns}
        if isinstance(raw, dict) and isinstance(raw.get(columns["prompt"]), str):
            return [raw[columns["prompt"]]]
        raise error from None
    return [turn["content"] for turn in row.messages if turn["role"] == "user"]
