"""The user's own prompts with instructions added that a rule can check: what Nemotron Nano 2's GRPO trains on."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from alloy.environments.prompts import PromptsEnvironment
from alloy.environments.row_files import SHARES, Place
from alloy.environments.task import Message, Split, Task, World
from alloy.errors import InputError

Arguments = dict[str, Any]
Drawn = tuple[Arguments, str]
"""An instruction's arguments, and how it is said."""

_AVOIDED = ("very", "important", "however", "also", "many", "really", "simply", "various")
_ENDINGS = ("Is there anything else?", "That is all for now.", "Let me know what you think.")


def _forbidden(rng: random.Random) -> Drawn:
    words = rng.sample(_AVOIDED, 2)
    return {"forbidden_words": words}, f'Do not use the words "{words[0]}" and "{words[1]}".'


def _words(rng: random.Random) -> Drawn:
    relation, number = rng.choice(("at least", "less than")), rng.choice((50, 100, 150, 200, 300))
    return {"relation": relation, "num_words": number}, f"Answer in {relation} {number} words."


def _sentences(rng: random.Random) -> Drawn:
    relation, number = rng.choice(("at least", "less than")), rng.randint(4, 12)
    return {"relation": relation, "num_sentences": number}, f"Write {relation} {number} sentences."


def _paragraphs(rng: random.Random) -> Drawn:
    number = rng.randint(2, 5)
    return {"num_paragraphs": number}, f"Write {number} paragraphs, with the divider *** between them."


def _bullets(rng: random.Random) -> Drawn:
    number = rng.randint(2, 6)
    return {"num_bullets": number}, f'Give exactly {number} bullet points, each a line that begins with "* ".'


def _highlights(rng: random.Random) -> Drawn:
    number = rng.randint(1, 4)
    return {"num_highlights": number}, f"Highlight at least {number} parts, *like this*."


def _title(rng: random.Random) -> Drawn:
    return {}, "Put a title in double angular brackets, such as <<a title>>."


def _placeholders(rng: random.Random) -> Drawn:
    number = rng.randint(1, 4)
    return {
        "num_placeholders": number
    }, f"Have at least {number} placeholders in square brackets, such as [name]."


def _postscript(rng: random.Random) -> Drawn:
    return {"postscript_marker": "P.S."}, "Add a postscript that begins with P.S. at the end."


def _ending(rng: random.Random) -> Drawn:
    said = rng.choice(_ENDINGS)
    return {"end_phrase": said}, f'End with the very words "{said}" and nothing behind them.'


def _quotation(rng: random.Random) -> Drawn:
    return {}, "Put the whole answer into double quotation marks."


def _lowercase(rng: random.Random) -> Drawn:
    return {}, "Write in English and in lower case alone: no capital letters."


def _no_comma(rng: random.Random) -> Drawn:
    return {}, "Use no commas."


INSTRUCTIONS: dict[str, Callable[[random.Random], Drawn]] = {
    "keywords:forbidden_words": _forbidden,
    "length_constraints:number_words": _words,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "startend:end_checker": _ending,
    "startend:quotation": _quotation,
    "change_case:english_lowercase": _lowercase,
    "punctuation:no_comma": _no_comma,
}
"""By IFEval's names: those that any prompt can be answered under."""

# Of a group at most one is asked for; and no answer can follow both of these.
_APART = (
    {"change_case:english_lowercase", "startend:end_checker"},
    {"change_case:english_lowercase", "detectable_content:postscript"},
    {"startend:end_checker", "detectable_content:postscript"},
    {"startend:quotation", "detectable_content:postscript"},
    {"length_constraints:number_paragraphs", "detectable_format:number_bullet_lists"},
    {"length_constraints:number_sentences", "detectable_format:number_bullet_lists"},
)


class InstructedEnvironment:
    """Prompts of files, each with one to `most` instructions behind it. Nothing else of the answer is judged.

    Args:
        path, paths, shares, columns, max_rejected_share: as for `prompts`.
        most: instructions of a prompt at most.
        longest: characters of a prompt at most; longer ones are passed over.
    """

    name = "instructed"
    verifier = "instructions"

    def __init__(
        self,
        path: Place | None = None,
        paths: Mapping[str, Place] | None = None,
        shares: Mapping[str, float] = SHARES,
        columns: Mapping[str, str] | None = None,
        max_rejected_share: float = 0.01,
        most: int = 3,
        longest: int = 4000,
    ) -> None:
        self.prompts = PromptsEnvironment(path, paths, shares, columns, None, max_rejected_share)
        if not 1 <= most <= 4 or longest < 1:
            raise InputError(f"most = {most}, longest = {longest}: take 1 to 4, and 1 or more.")
        self.most, self.longest = most, longest

    @classmethod
    def fingerprint(cls, options: Mapping[str, Any]) -> str:
        """Of the contents of the files that the options name; of a Hub dataset, name and revision."""
        return PromptsEnvironment.fingerprint(options)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        """`count` different prompts of a split in the seed's order, each with instructions of its own.

        Raises:
            InputError: more bad rows than are allowed, or fewer prompts than that.
        """
        short = [row for row in self.prompts.rows[split] if _characters(row.messages) <= self.longest]
        drawn = self.prompts.files.draw(short, split, count, seed)
        return [self._task(split, row.id, row.messages, seed) for row in drawn]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", **task.gold}

    def _task(self, split: Split, prompt: str, messages: list[Message], seed: int) -> Task:
        rng = random.Random(f"{seed}/{self.name}/{prompt}")
        names = _choose(rng, rng.randint(1, self.most))
        drawn = [INSTRUCTIONS[name](rng) for name in names]
        asked = "\n".join([messages[-1]["content"], "", *(said for _, said in drawn)])
        return Task(
            id=f"{self.name}/{split}/{seed}/{prompt}",
            environment=self.name,
            template=prompt,
            messages=[*messages[:-1], {**messages[-1], "content": asked}],
            gold={"instruction_id_list": names, "kwargs": [arguments for arguments, _ in drawn]},
        )


def _characters(messages: list[Message]) -> int:
    return sum(len(turn["content"]) for turn in messages)


def _choose(rng: random.Random, count: int) -> list[str]:
    """Instructions of different groups that one answer can follow."""
    chosen: list[str] = []
    for name in rng.sample(list(INSTRUCTIONS), len(INSTRUCTIONS)):
        groups = {found.partition(":")[0] for found in chosen}
        apart = any({name, found} in _APART for found in chosen)
        if name.partition(":")[0] not in groups and not apart:
            chosen.append(name)
        if len(chosen) == count:
            break
    return chosen
