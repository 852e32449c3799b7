"""Which tasks are drawn, how often, and how that moves."""

import json
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.curriculum import TaskDraw, slots
from alloy.environments.task import Task
from alloy.rl_config import CurriculumConfig


def make(count: int, **rates: float) -> list[Task]:
    names = list(rates) or [str(n) for n in range(count)]
    return [Task(name, "math", "t", []) for name in names]


def draw(rates: dict[str, float], **settings: object) -> TaskDraw:
    return TaskDraw(make(0, **rates), CurriculumConfig.model_validate(settings), rates)


def ids(tasks: list[Task]) -> list[str]:
    return [task.id for task in tasks]


def test_without_a_curriculum_all_are_drawn_before_one_comes_again() -> None:
    plain, rng = TaskDraw(make(12)), random.Random(0)
    drawn = [task for _ in range(6) for task in ids(plain.draw(4, 0.0, rng))]
    assert set(drawn[:12]) == set(drawn[12:]) == {str(n) for n in range(12)}
    assert drawn[:12] != drawn[12:]


def test_the_mean_moves_evenly_from_easy_to_hard() -> None:
    found = draw({"a": 0.5}, first_pass_rate=0.8, last_pass_rate=0.2)
    assert [found.target(p) for p in (0.0, 0.25, 0.5, 1.0, 2.0)] == pytest.approx([0.8, 0.65, 0.5, 0.2, 0.2])


def test_a_task_is_drawn_in_proportion_to_the_gaussian() -> None:
    rates = {"easy": 0.9, "middle": 0.5, "hard": 0.1}
    counts: Counter[str] = Counter()
    for seed in range(4000):
        fresh = draw(rates, first_pass_rate=0.9, spread=0.4)
        counts.update(ids(fresh.draw(1, 0.0, random.Random(seed))))
    weights = {
        name: math.exp(-(((rate - 0.9) / 0.4) ** 2) / 2) for name, rate in rates.items()
    }  # 1, 0.61, 0.14
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        # 4 standard deviations of a binomial share.
        assert counts[name] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_a_drawn_task_is_e_times_less_likely_for_each_time() -> None:
    rates = {"a": 0.5, "b": 0.5}
    first = 0
    for seed in range(4000):
        twice = draw(rates)
        twice.drawn = {"a": 1}
        first += ids(twice.draw(1, 0.0, random.Random(seed))) == ["a"]
    share = 1 / (1 + math.e)
    assert first / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_solved_and_unsolved_tasks_are_dropped_where_the_config_says_so() -> None:
    rates = {"never": 0.0, "some": 0.25, "most": 0.75, "always": 1.0}
    assert ids(draw(rates).kept()) == ["never", "some", "most"]
    assert ids(draw(rates, drop_unsolved=True).kept()) == ["some", "most"]
    assert ids(draw(rates, drop_solved=False).kept()) == list(rates)
    everything = {"a": 1.0, "b": 1.0}
    assert ids(draw(everything).kept()) == ["a", "b"]


def test_a_dropped_task_is_never_drawn_and_one_of_this_batch_only_when_the_others_are_gone() -> None:
    found = draw({"a": 0.5, "b": 0.5, "c": 1.0})
    for seed in range(50):
        assert set(ids(found.draw(2, 0.5, random.Random(seed)))) == {"a", "b"}
        assert ids(found.draw(1, 0.5, random.Random(seed), without={"a"})) == ["b"]
        assert len(found.draw(3, 0.5, random.Random(seed), without={"a", "b"})) == 3


def test_a_group_s_outcomes_become_the_task_s_pass_rate() -> None:
    followed, fixed = draw({"a": 0.5, "b": 0.5}), draw({"a": 0.5, "b": 0.5}, follow=False)
    for found in (followed, fixed):
        found.observe(found.tasks[0], [1.0, 0.0, None, 1.0, 1.0])
        found.observe(found.tasks[1], [None, None])
    assert followed.pass_rates == {"a": 0.75, "b": 0.5}
    assert fixed.pass_rates == {"a": 0.5, "b": 0.5}


def test_restored_it_draws_on_as_it_would_have() -> None:
    rates = {str(n): n / 20 for n in range(20)}
    first = draw(rates)
    first.draw(5, 0.1, random.Random(1))
    first.observe(first.tasks[3], [1.0])
    second = draw(dict.fromkeys(rates, 0.0))
    second.restore(json.loads(json.dumps(first.state())))
    for seed in range(5):
        assert ids(first.draw(4, 0.5, random.Random(seed))) == ids(second.draw(4, 0.5, random.Random(seed)))


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1)


@given(COUNTS, st.integers(1, 3), st.integers(1, 4))
def test_every_batch_has_its_ratio_over_all_processes(
    counts: dict[str, int], updates: int, world: int
) -> None:
    counts = {name: count * world for name, count in counts.items()}
    parts = [slots(counts, updates, rank, world) for rank in range(world)]
    share = sum(counts.values()) // world
    assert all(len(part) == share * updates for part in parts)
    for update in range(updates):
        batch = [label for part in parts for label in part[update * share : (update + 1) * share]]
        assert Counter(batch) == counts


def test_a_process_s_part_is_as_mixed_as_the_whole() -> None:
    assert Counter(slots({"a": 6, "b": 2}, 1, 0, 2)) == {"a": 3, "b": 1}
