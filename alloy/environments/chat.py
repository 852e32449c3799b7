"""Asking for a recommendation: preferences with a true quality that is no matter of length.

The true quality of an answer is the share of five attributes that it has: it is about what was
asked (`relevant`), gives a reason (`reasoned`), is courteous (`courteous`), does not push (`modest`)
and says nothing twice (`fresh`). Reward models see only pairs, labelled with the noise of a
Bradley-Terry choice.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World
from alloy.verify.verdict import Verdict

TOPICS = (
    *("tea", "music", "running", "cooking", "reading"),
    *("plants", "painting", "cycling", "chess", "hiking"),
)
_GIFTS = ("a {topic} book", "a {topic} poster", "a {topic} course", "a {topic} mug")
PEOPLE = ("sister", "brother", "friend", "mother", "father", "neighbor", "teacher", "cousin")

_LEADS = (
    "My {person} likes {topic}.",
    "My {person} enjoys {topic}.",
    "My {person} spends every weekend on {topic}.",
    "A birthday is near. My {person} loves {topic}.",
    "I know a {person} with {topic} as a hobby.",
)
_ASKS = (
    "What can I give?",
    "Which gift fits?",
    "What should I buy?",
    "Any gift ideas?",
    "Please suggest a present.",
)
_COURTEOUS = ("Happy to help.", "Good question.", "What a kind idea.")
_PLAIN = ("Well.", "Okay.", "Hm.")
_SUGGEST = ("You could give {gift}.", "How about {gift}?", "I suggest {gift}.")
_REASONS = (
    "It is useful because it lasts long.",
    "That fits because it gets used often.",
    "It works because it is easy to enjoy.",
)
_FILLERS = ("Gifts are nice.", "Many shops have it.", "It comes in blue.", "People buy it often.")
_PUSHY = ("Buy it now!", "You must get it today!", "Nothing else is any good!")

_REPEATS = 0.25
"""Share of the compared answers that say a sentence twice, as policies do when they are optimised: without
such pairs no reward model learns that nobody likes it. Demonstrations never do."""

DRAFTED = ("relevant", "reasoned", "courteous", "modest")
ATTRIBUTES = (*DRAFTED, "fresh")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the preferred first."""

    task: Task
    chosen: str
    rejected: str


class ChatEnvironment:
    """Gift questions; demonstrations have each drafted attribute half of the time, so that there is room."""

    name = "chat"

    def __init__(self, attribute_share: float = 0.5) -> None:
        self.attribute_share = attribute_share

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        asks = split_grid(len(_LEADS), len(_ASKS), split)
        return [self._task(split, seed, index, asks) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        parts = attributes(completion[-1].get("content") or "", task.gold["topic"])
        return Verdict(sum(parts.values()) / len(parts), parts=parts)

    def pairs(self, split: Split, count: int, seed: int, noise: float = 0.25) -> Iterator[Pair]:
        """Preference pairs of drafted answers.

        Args:
            noise: temperature of the Bradley-Terry choice on the true quality (0 to 1); the
                better of two answers a fifth apart wins with probability sigmoid(0.2 / noise).
        """
        for task in self.tasks(split, count, seed):
            rng = random.Random(f"{task.id}/pair")
            topic = task.gold["topic"]
            first, second = (self._draft(rng, topic, _REPEATS) for _ in range(2))
            gap = sum(attributes(first, topic).values()) - sum(attributes(second, topic).values())
            wins = rng.random() < 1 / (1 + math.exp(-gap / len(ATTRIBUTES) / noise))
            yield Pair(task, first, second) if wins else Pair(task, second, first)

    def _task(self, split: Split, seed: int, index: int, asks: list[tuple[int, int]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        lead, ask = rng.choice(asks)
        topic, person = rng.choice(TOPICS), rng.choice(PEOPLE)
        text = f"{_LEADS[lead]} {_ASKS[ask]}".format(person=person, topic=topic)
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"lead {lead}, ask {ask}",
            messages=[{"role": "user", "content": text}],
            gold={"topic": topic},
            demonstration=[
                {"role": "assistant", "thinking": f"a gift for {topic}", "content": self._draft(rng, topic)}
            ],
        )

    def _draft(self, rng: random.Random, topic: str, repeats: float = 0.0) -> str:
        has = {name: rng.random() < self.attribute_share for name in DRAFTED}
        about = topic if has["relevant"] else rng.choice([other for other in TOPICS if other != topic])
        sentences = [rng.choice(_COURTEOUS if has["courteous"] else _PLAIN)]
        sentences.append(rng.choice(_SUGGEST).format(gift=rng.choice(_GIFTS).format(topic=about)))
        if has["reasoned"]:
            sentences.append(rng.choice(_REASONS))
        # Fillers stand in every answer as often as not, so that length says nothing of the quality.
        sentences += rng.sample(_FILLERS, rng.randint(0, 2))
        if not has["modest"]:
            sentences.append(rng.choice(_PUSHY))
        if rng.random() < repeats:
            place = rng.randrange(len(sentences))
            sentences.insert(place, sentences[place])
        return " ".join(sentences)


def attributes(answer: str, topic: str) -> dict[str, float]:
    """The true quality of an answer, attribute by attribute, each 0 or 1.

    Naming a gift of another hobby beside the right one is not relevant: that pleases a reward model
    and nobody else.
    """
    text = answer.lower()
    named = {name for name in TOPICS if any(gift.format(topic=name) in text for gift in _GIFTS)}
    sentences = [s.strip() for s in text.replace("!", ".").replace("?", ".").split(".") if s.strip()]
    return {
        "relevant": float(named == {topic}),
        "reasoned": float(" because it " in text),
        "courteous": float(any(opening.lower() in text for opening in _COURTEOUS)),
        "modest": float(bool(named) and not any(push.lower() in text for push in _PUSHY) and "!" not in text),
        "fresh": float(bool(sentences) and len(sentences) == len(set(sentences))),
    }
