"""Short texts under constraints that a rule can check, by IFEval's names."""

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

from alloy.environments.phrasing import seed_of, split_grid, split_templates
from alloy.environments.task import Message, Split, Task, World

TOPICS = ("rivers", "trains", "bread", "winter", "music", "gardens", "birds", "the sea", "tea", "stars")
WORDS = ("blue", "quiet", "green", "small", "bright", "warm", "old", "kind", "fast", "round", "sweet", "cold")

_SENTENCES = (
    "I like {topic} a lot.",
    "Many people enjoy {topic}.",
    "We often talk about {topic}.",
    "There is much to say about {topic}.",
    "Some days I think of {topic}.",
    "My friends love {topic} too.",
)
_NOTES_AFTER = ("It is nice.", "Ask me more.", "I mean it.")
_ENDINGS = ("That is all.", "Thank you.", "Good night.", "See you soon.")

# Each constraint draws its arguments, says itself in words (five wordings) and mends a draft.
Draft = list[str]
"""Sentences of an answer before it is joined."""


def _keyword(rng: random.Random) -> dict[str, Any]:
    return {"keywords": [rng.choice(WORDS)]}


def _forbid(rng: random.Random) -> dict[str, Any]:
    return {"forbidden_words": [rng.choice(("many", "often", "love", "like", "people", "friends"))]}


def _count(rng: random.Random) -> dict[str, Any]:
    return {"num_bullets": rng.randint(2, 4)}


def _ending(rng: random.Random) -> dict[str, Any]:
    return {"end_phrase": rng.choice(_ENDINGS)}


def _words(rng: random.Random) -> dict[str, Any]:
    return {"relation": "less than", "num_words": rng.choice((11, 12, 14))}


def _postscript(rng: random.Random) -> dict[str, Any]:
    return {"postscript_marker": "P.S."}


def _none(rng: random.Random) -> dict[str, Any]:
    return {}


CONSTRAINTS: dict[str, tuple[Callable[[random.Random], dict[str, Any]], tuple[str, ...]]] = {
    "keywords:existence": (
        _keyword,
        (
            'Use the word "{0}".',
            'Include "{0}".',
            'The word "{0}" must appear.',
            'Mention "{0}".',
            'Say "{0}" once.',
        ),
    ),
    "keywords:forbidden_words": (
        _forbid,
        (
            'Do not use "{0}".',
            'Avoid the word "{0}".',
            'Never say "{0}".',
            'Leave out "{0}".',
            'No "{0}" please.',
        ),
    ),
    "detectable_format:number_bullet_lists": (
        _count,
        (
            "Write {0} bullets.",
            "Give {0} bullet points.",
            "Make a list of {0} items.",
            "List {0} points.",
            "Use {0} bullets.",
        ),
    ),
    "startend:end_checker": (
        _ending,
        (
            'End with "{0}"',
            'Finish with "{0}"',
            'Your last words are "{0}"',
            'Close with "{0}"',
            'The end is "{0}"',
        ),
    ),
    "length_constraints:number_words": (
        _words,
        (
            "Use less than {1} words.",
            "Stay under {1} words.",
            "Fewer than {1} words.",
            "Keep below {1} words.",
            "Less than {1} words please.",
        ),
    ),
    "detectable_content:postscript": (
        _postscript,
        (
            'Add a note after "{0}"',
            'End with a "{0}" line.',
            'Put a "{0}" at the end.',
            'It needs a "{0}" too.',
            'Append a "{0}" note.',
        ),
    ),
    "startend:quotation": (
        _none,
        (
            "Wrap it in double quotes.",
            "Put it in double quotes.",
            "Quote the whole answer.",
            "Use double quotes around it.",
            "Set it in quotes.",
        ),
    ),
    "detectable_format:title": (
        _none,
        (
            "Add a title in <<>>.",
            "Give it a <<title>>.",
            "Put a title in double angles.",
            "Start with a <<title>>.",
            "It needs a <<title>>.",
        ),
    ),
}

# Pairs that no text can follow at once: a quotation ends with its quote, and a list has no last sentence.
_APART = {
    frozenset(("startend:quotation", "startend:end_checker")),
    frozenset(("length_constraints:number_words", "detectable_content:postscript")),
    frozenset(("startend:quotation", "detectable_format:title")),
    frozenset(("startend:quotation", "detectable_format:number_bullet_lists")),
    frozenset(("length_constraints:number_words", "detectable_format:number_bullet_lists")),
    frozenset(("startend:end_checker", "detectable_format:number_bullet_lists")),
}
_PAIRS = [pair for pair in combinations(CONSTRAINTS, 2) if frozenset(pair) not in _APART]
_ASKS = (
    "Write about {topic}.",
    "Tell me about {topic}.",
    "Say something about {topic}.",
    "Give me a text on {topic}.",
    "I want to read about {topic}.",
)


class InstructionsEnvironment:
    """One or two constraints at a time; the pairs of validation and test are never trained on.

    Args:
        single: share of tasks with one constraint.
        thinking: whether demonstrations name the constraints before they write.
    """

    name = "instructions"
    verifier = "instructions"

    def __init__(self, single: float = 0.3, thinking: bool = True) -> None:
        self.single, self.thinking = single, thinking

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        pairs = split_templates(_PAIRS, split)
        return [self._task(split, seed, index, pairs) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def row(self, task: Task, completion: list[Message]) -> dict[str, Any]:
        return {"completion": completion[-1].get("content") or "", **task.gold}

    def _task(self, split: Split, seed: int, index: int, pairs: list[tuple[str, str]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        names = list(rng.choice(pairs))
        if rng.random() < self.single:
            names = [rng.choice(names)]
        rng.shuffle(names)
        kwargs = [CONSTRAINTS[name][0](rng) for name in names]
        topic = rng.choice(TOPICS)
        ask, wording = rng.choice(split_grid(len(_ASKS), 5, split))
        asks = [_ASKS[ask].format(topic=topic)]
        asks += [_say(name, given, wording) for name, given in zip(names, kwargs, strict=True)]
        thought = "\n".join(_note(name, given) for name, given in zip(names, kwargs, strict=True))
        answer = compose(rng, topic, dict(zip(names, kwargs, strict=True)))
        turn: Message = {"role": "assistant", "content": answer}
        if self.thinking:
            turn["thinking"] = thought
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"{' + '.join(sorted(names))}, wording {ask} {wording}",
            messages=[{"role": "user", "content": " ".join(asks)}],
            gold={"instruction_id_list": names, "kwargs": kwargs},
            demonstration=[turn],
        )


def _arguments(given: dict[str, Any]) -> list[Any]:
    return [value[0] if isinstance(value, list) else value for value in given.values()]


def _say(name: str, given: dict[str, Any], wording: int) -> str:
    return CONSTRAINTS[name][1][wording].format(*_arguments(given))


_NOTES = {
    "keywords:existence": 'use "{0}"',
    "keywords:forbidden_words": 'no "{0}"',
    "detectable_format:number_bullet_lists": "bullets: {0}",
    "startend:end_checker": 'end: "{0}"',
    "length_constraints:number_words": "words under {1}",
    "detectable_content:postscript": "note",
    "startend:quotation": "quotes",
    "detectable_format:title": "title",
}


def _note(name: str, given: dict[str, Any]) -> str:
    return _NOTES[name].format(*_arguments(given))


def compose(rng: random.Random, topic: str, wanted: dict[str, dict[str, Any]]) -> str:
    """A text about a topic that follows every wanted constraint."""
    banned = wanted.get("keywords:forbidden_words", {}).get("forbidden_words", [])
    usable = [s for s in _SENTENCES if not any(word in s.lower().split() for word in banned)]
    words = wanted.get("length_constraints:number_words")
    bullets = wanted.get("detectable_format:number_bullet_lists", {}).get("num_bullets")
    count = bullets or (1 if words else rng.randint(1, 2))
    lines: Draft = [s.format(topic=topic) for s in rng.sample(usable, count)]
    if "keywords:existence" in wanted:
        word = wanted["keywords:existence"]["keywords"][0]
        if words:
            lines = [f"The {topic.removeprefix('the ')} look {word}."]
        else:
            lines[-1] = f"All of it looks {word}."
    text = "\n".join(f"* {line}" for line in lines) if bullets else " ".join(lines)
    if "detectable_format:title" in wanted:
        text = f"<<{topic}>>\n{text}"
    if "detectable_content:postscript" in wanted:
        text = f"{text}\nP.S. {rng.choice(_NOTES_AFTER)}"
    if "startend:end_checker" in wanted:
        ending = wanted["startend:end_checker"]["end_phrase"]
        text = (
            ending if words and len(f"{text} {ending}".split()) >= words["num_words"] else f"{text} {ending}"
        )
    return f'"{text}"' if "startend:quotation" in wanted else text
