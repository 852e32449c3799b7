"""Repeating names: the sizes asked for are kept to, and only the very same words win."""

from alloy.environments.repeat import RepeatEnvironment


def _names(answer: str) -> list[str]:
    return answer.split('"')[1::2]


def test_names_and_words_stay_within_their_limits_and_reach_them() -> None:
    tasks = RepeatEnvironment(most=3, longest=4, words=5).tasks("train", 300, 0)
    counts = {len(_names(task.gold["answer"])) for task in tasks}
    words = {len(name.split()) for task in tasks for name in _names(task.gold["answer"])}
    assert counts == {1, 2, 3}
    assert words == {1, 2, 3, 4}


def test_only_the_same_words_in_the_same_order_win() -> None:
    environment = RepeatEnvironment(most=2)
    task = next(t for t in environment.tasks("test", 50, 0) if len(_names(t.gold["answer"])) == 2)
    first, second = _names(task.gold["answer"])
    swapped = task.gold["answer"].replace(first, "?").replace(second, first).replace("?", second)
    for said, reward in ((task.gold["answer"], 1.0), (swapped, 0.0), (task.gold["answer"][:-1], 0.0)):
        assert environment.judge(task, [{"role": "assistant", "content": said}], None).reward == reward
    assert environment.judge(task, task.demonstration, None).reward == 1.0
