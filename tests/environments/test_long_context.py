from typing import Any

import pytest

from alloy.environments.long_context import KINDS, LongContextEnvironment
from alloy.environments.registry import make_environment


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("words", [50, 400, 20_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_as_long_as_asked_and_its_demonstration_is_right(kind: str, words: int) -> None:
    environment = LongContextEnvironment(words=words, documents=5, kinds=[kind])
    for task in environment.tasks("train", 5, 0):
        text = task.messages[0]["content"]
        # Heads of documents and the question come on top; the facts alone of the shortest are longer.
        assert words <= len(text.split()) <= 1.1 * words + 150
        assert text.count("\n\n") >= 5
        assert environment.judge(task, task.demonstration, None).reward == 1
        assert environment.judge(task, says("I do not know."), None).reward == 0


def test_answers_by_reading() -> None:
    """The gold answers, found again in the text by other means."""
    for task in LongContextEnvironment(words=600).tasks("test", 60, 1):
        text, question = task.messages[0]["content"].rsplit("\n\n", 1)
        sentences = [s.strip() for part in text.split("\n") for s in part.split(". ")]
        if task.gold["kind"] in ("needle", "needles"):
            names = question.split(" of ")[1].rstrip("?").split(" and ")
            found = [
                next(w for s in sentences if name in s for w in s.rstrip(".").split() if w.isdigit())
                for name in names
            ]
            assert found == task.gold["answer"]
        elif task.gold["kind"] == "tracking":
            code = question.rstrip("?").split()[-1]
            holders = [
                n.strip(",.")
                for s in sentences
                if code in s
                for n in s.split()
                if n.strip(",.") in task.gold["possible"]
            ]
            for _ in range(3):
                link = f" has the same code as {holders[-1]}"
                holders.append(next(s.split()[0] for s in sentences if link in s))
            assert holders == task.gold["answer"]
        else:
            prizes = [s.rstrip(".").split()[-1] for s in sentences if " gave its prize to " in s]
            assert [max(set(prizes), key=prizes.count)] == task.gold["answer"]


def test_naming_everything_wins_nothing() -> None:
    environment = LongContextEnvironment(words=100, kinds=["tracking"])
    (task,) = environment.tasks("train", 1, 0)
    verdict = environment.judge(task, says(" ".join(task.gold["possible"])), None)
    assert (verdict.reward, verdict.parts) == (0.0, {"recall": 1.0})
    half = environment.judge(task, says(", ".join(task.gold["answer"][:2])), None)
    assert (half.reward, half.parts) == (0.0, {"recall": 0.5})


def test_a_range_of_lengths_and_options_that_are_none() -> None:
    lengths = [
        len(task.messages[0]["content"].split())
        for task in LongContextEnvironment(words=[200, 900]).tasks("train", 40, 0)
    ]
    assert min(lengths) < 400
    assert max(lengths) > 700
    with pytest.raises(Exception, match="kinds are needle, needles, tracking, aggregation, not poem"):
        make_environment("long_context", {"kinds": ["poem"]})
    with pytest.raises(Exception, match="words is a length"):
        make_environment("long_context", {"words": [9, 3]})
