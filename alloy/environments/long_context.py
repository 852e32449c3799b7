"""Long prompts of any length: documents full of small news, and a question about what stands in some of them.

Four kinds of question, in the style of RULER's tasks (arXiv:2404.06654): find one fact (`needle`),
find several (`needles`), follow a value through assignments (`tracking`), count over all documents
(`aggregation`).
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence

from alloy.environments.phrasing import seed_of, split_grid
from alloy.environments.task import Message, Split, Task, World
from alloy.verify.verdict import Verdict

_PLACES = (
    "harbor",
    "market",
    "library",
    "station",
    "museum",
    "garden",
    "school",
    "mill",
    "theater",
    "bridge",
)
_ACTORS = (
    "the council",
    "a baker",
    "two students",
    "the night shift",
    "an engineer",
    "the choir",
    "a visitor",
)
_DEEDS = (
    "painted the fence",
    "repaired a clock",
    "counted the boats",
    "moved some chairs",
    "planted young trees",
    "wrote a long letter",
    "waited for the rain to end",
    "opened a window",
)
_WHEN = (
    "on Monday",
    "on Tuesday",
    "before noon",
    "after dark",
    "last week",
    "in early spring",
    "every morning",
)
_NAMES = tuple(
    f"{first}{second}"
    for first in ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "iris", "koala", "lotus")
    for second in ("fox", "lake", "moon", "rock", "star", "wind")
)
_FACTS = (
    "The code of {name} is {value}.",
    "For {name}, the code {value} was noted.",
    "{value} is the code that {name} was given.",
    "A clerk wrote that {name} has the code {value}.",
    "The list says {value} beside the code of {name}.",
)
_HEADS = (
    "Document {n}: the {place}",
    "Report {n} from the {place}",
    "[{n}] {place}",
    "File {n}, {place}",
    "No. {n}: {place}",
)
_AWARD = "The {place} gave its prize to {name}."

KINDS = ("needle", "needles", "tracking", "aggregation")


class LongContextEnvironment:
    """Prompts of about `words` words in `documents` documents, with questions about them.

    Args:
        words: length of a prompt; a model's tokens are about one and a third of it. A pair of numbers
            is a range to draw from.
        documents: at least so many.
        kinds: which questions, each as often as it is named.
    """

    name = "long_context"

    def __init__(
        self, words: int | Sequence[int] = 400, documents: int = 5, kinds: Sequence[str] = KINDS
    ) -> None:
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown or not kinds:
            raise ValueError(f"kinds are {', '.join(KINDS)}, not {', '.join(unknown) or 'none'}")
        self.shortest, self.longest = (words, words) if isinstance(words, int) else tuple(words)
        if not 0 < self.shortest <= self.longest:
            raise ValueError("words is a length, or a shortest and a longest one")
        self.documents, self.kinds = documents, tuple(kinds)

    def tasks(self, split: Split, count: int, seed: int) -> list[Task]:
        grid = split_grid(len(_HEADS), len(_FACTS), split)
        return [self._task(split, seed, index, grid) for index in range(count)]

    def open(self, task: Task) -> World | None:
        return None

    def judge(self, task: Task, completion: list[Message], world: World | None) -> Verdict:
        """Reward 1 when the answer names all that was asked for, and nothing else of its kind."""
        answer = completion[-1].get("content") or ""
        words = {word.strip(".,;:!?\"'()*") for word in answer.lower().split()}
        said = words & set(task.gold["possible"])
        wanted = set(task.gold["answer"])
        return Verdict(float(said == wanted), parts={"recall": len(said & wanted) / len(wanted)})

    def _task(self, split: Split, seed: int, index: int, grid: list[tuple[int, int]]) -> Task:
        rng = random.Random(seed_of(self.name, split, seed, index))
        head, fact = rng.choice(grid)
        kind = rng.choice(self.kinds)
        facts, question, answer, possible, thinking = _QUESTIONS[kind](rng, _FACTS[fact])
        length = rng.randint(self.shortest, self.longest)
        text = _documents(rng, _HEADS[head], facts, length, self.documents)
        return Task(
            id=f"{self.name}/{split}/{seed}/{index}",
            environment=self.name,
            template=f"head {head}, fact {fact}",
            messages=[{"role": "user", "content": f"{text}\n\n{question}"}],
            gold={"answer": answer, "possible": possible, "kind": kind},
            demonstration=[
                {"role": "assistant", "thinking": thinking, "content": f"The answer is {', '.join(answer)}."}
            ],
        )


Asked = tuple[list[str], str, list[str], list[str], str]
"""The facts to hide, the question, its answer, all words that could be one, and the way to it."""


def _needle(rng: random.Random, fact: str) -> Asked:
    return _find(rng, fact, 1)


def _needles(rng: random.Random, fact: str) -> Asked:
    return _find(rng, fact, 3)


def _find(rng: random.Random, fact: str, asked: int) -> Asked:
    names = rng.sample(_NAMES, asked + 3)
    codes = [str(code) for code in rng.sample(range(1000, 10000), len(names))]
    facts = [fact.format(name=name, value=code) for name, code in zip(names, codes, strict=True)]
    wanted, answer = names[:asked], codes[:asked]
    question = f"What {'is the code' if asked == 1 else 'are the codes'} of {' and '.join(wanted)}?"
    thinking = "; ".join(f"{name}: {code}" for name, code in zip(wanted, answer, strict=True))
    return facts, question, answer, codes, thinking


def _tracking(rng: random.Random, fact: str) -> Asked:
    """Chains of names that take over the code of the one before; one of two values is asked for."""
    names = rng.sample(_NAMES, 8)
    codes = [str(code) for code in rng.sample(range(1000, 10000), 2)]
    facts = []
    for code, chain in zip(codes, (names[:4], names[4:]), strict=True):
        facts.append(fact.format(name=chain[0], value=code))
        facts += [f"{after} has the same code as {before}." for before, after in itertools.pairwise(chain)]
    question = f"Which names have the code {codes[0]}?"
    return facts, question, names[:4], list(_NAMES), f"{codes[0]}: {' -> '.join(names[:4])}"


def _aggregation(rng: random.Random, fact: str) -> Asked:
    """Prizes given in many documents; who has the most?"""
    names = rng.sample(_NAMES, 4)
    counts = dict(zip(names, (5, 3, 2, 2), strict=True))
    facts = [
        _AWARD.format(place=rng.choice(_PLACES), name=name) for name, n in counts.items() for _ in range(n)
    ]
    counted = ", ".join(f"{name} {n}" for name, n in Counter(counts).most_common())
    return facts, "Who was given the most prizes?", [names[0]], list(_NAMES), counted


_QUESTIONS: dict[str, Callable[[random.Random, str], Asked]] = {
    "needle": _needle,
    "needles": _needles,
    "tracking": _tracking,
    "aggregation": _aggregation,
}


def _documents(rng: random.Random, head: str, facts: list[str], words: int, least: int) -> str:
    """Documents of about `words` words in all; the facts at random places, in their order."""
    news: list[str] = []
    length = sum(len(fact.split()) for fact in facts)
    while length < words or len(news) + len(facts) < least:
        sentence = (
            f"{rng.choice(_ACTORS)} {rng.choice(_DEEDS)} at the {rng.choice(_PLACES)} {rng.choice(_WHEN)}."
        )
        news.append(sentence[0].upper() + sentence[1:])
        length += len(sentence.split())
    total = len(news) + len(facts)
    places = set(rng.sample(range(total), len(facts)))
    hidden, plain = iter(facts), iter(news)
    sentences = [next(hidden) if place in places else next(plain) for place in range(total)]
    count = min(total, max(least, words // 200))
    ends = [round(total * number / count) for number in range(count + 1)]
    return "\n\n".join(
        head.format(n=number, place=rng.choice(_PLACES)) + "\n" + " ".join(sentences[start:end])
        for number, (start, end) in enumerate(itertools.pairwise(ends), 1)
    )
