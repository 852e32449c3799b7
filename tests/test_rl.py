"""What a policy is rolled out on, with an engine whose words are known; shares, batches, what was logged."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alloy.chat import TURN_CLOSE
from alloy.curriculum import TaskDraw
from alloy.environments.registry import Environments
from alloy.environments.task import Message, Task
from alloy.rewards import Scores, verdict_outcomes
from alloy.rl import first_metrics
from alloy.rl_config import PolicyOptimisationConfig, divide
from alloy.rl_sampling import Sampler
from alloy.rollout.conversation import Rollout
from alloy.rollout.engine import Generation, Sampling
from alloy.sampler_gap import SamplerGap, gap_metrics
from alloy.verify.verdict import Verdict

SHARES = st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 5), min_size=1)


@given(st.integers(1, 60), SHARES)
def test_divide_sums_up_and_stays_within_one_of_the_ratio(total: int, shares: dict[str, float]) -> None:
    counts = divide(total, shares)
    assert sum(counts.values()) == total
    whole = sum(shares.values())
    assert all(abs(counts[name] - total * share / whole) < 1 + 1e-9 for name, share in shares.items())


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [
        (10, {"a": 1.0, "b": 1.0}, {"a": 5, "b": 5}),
        (10, {"a": 2.0, "b": 1.0}, {"a": 7, "b": 3}),  # 6.67 and 3.33
        (10, {"a": 0.72, "b": 0.2, "c": 0.08}, {"a": 7, "b": 2, "c": 1}),  # 7.2, 2.0, 0.8
    ],
)
def test_divide_by_largest_remainder(total: int, shares: dict[str, float], expected: dict[str, int]) -> None:
    assert divide(total, shares) == expected


class OddsEnvironment:
    """Task n is won in the first `wins[n]` of every group's completions."""

    def __init__(self, name: str, wins: Sequence[int]) -> None:
        self.name, self.wins = name, wins
        self.asked: Counter[str] = Counter()

    def tasks(self, split: Any, count: int, seed: int) -> list[Task]:
        said: list[Message] = [{"role": "user", "content": "Say it."}]
        return [Task(f"{self.name}/{n}", self.name, "t", said, gold={"n": n}) for n in range(count)]

    def open(self, task: Task) -> None:
        return None

    def judge(self, task: Task, completion: list[Message], world: Any) -> Verdict:
        turn = self.asked[task.id] % 4
        self.asked[task.id] += 1
        return Verdict(float(turn < self.wins[task.gold["n"] % len(self.wins)]))


class Echo:
    """An engine that says the same to everything, and remembers what it was asked."""

    grace = 0
    batch_size = None

    def __init__(self, tokenizer: Any) -> None:
        self.ids = tokenizer.encode(f"yes{TURN_CLOSE}", add_special_tokens=False)
        self.calls: list[int] = []
        self.budgets: list[int | None] = []
        self.seeds: list[int] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[Any] | None = None,
    ) -> list[Generation]:
        self.calls.append(len(prompts))
        self.budgets += list(budgets or [])
        self.seeds.append(seed)
        return [
            Generation(list(self.ids), [0] * len(self.ids), True, [-0.5] * len(self.ids)) for _ in prompts
        ]


def sampler(
    tokenizer: Any, wins: dict[str, Sequence[int]], rank: int = 0, world: int = 1, **changes: Any
) -> Sampler:
    values: dict[str, Any] = {
        "environments": {name: {"tasks": 40} for name in wins},
        "rollout": {"max_completion_tokens": 8, **changes.pop("rollout", {})},
        "prompts_per_step": 4,
        "group_size": 4,
        "optim": {"learning_rate": 1.0},
        "train": {"max_steps": 1},
        **changes,
    }
    config = PolicyOptimisationConfig.model_validate(values)
    environments = Environments({name: OddsEnvironment(name, told) for name, told in wins.items()})  # type: ignore[dict-item]
    tasks = {name: environments.tasks(name, "train", 40, 0) for name in wins}

    def score(rollouts: Sequence[Rollout]) -> Scores:
        outcomes = verdict_outcomes(rollouts)
        return Scores(outcomes, [None if o is None else o + 1.0 for o in outcomes])

    return Sampler(config, tokenizer, environments, tasks, score, rank, world)


class Logged(defaultdict[str, list[float]]):
    def __init__(self) -> None:
        super().__init__(list)

    def __call__(self, name: str, value: float) -> None:
        self[name].append(value)


def test_groups_stand_in_the_ratio_of_the_shares_with_their_outcomes(tiny_tokenizer: Any) -> None:
    made = sampler(
        tiny_tokenizer,
        {"a": [2], "b": [1]},
        environments={"a": {"tasks": 40, "share": 3}, "b": {"tasks": 40}},
    )
    groups = made.groups(Echo(tiny_tokenizer), 0, 0.0, Logged())
    assert Counter(group.task.environment for group in groups) == {"a": 3, "b": 1}
    for group in groups:
        expected = [1.0, 1.0, 0.0, 0.0] if group.task.environment == "a" else [1.0, 0.0, 0.0, 0.0]
        assert group.outcomes == expected
        assert group.rewards == [outcome + 1 for outcome in expected]
        assert {r.task.id for r in group.rollouts} == {group.task.id}


def test_a_group_without_signal_gives_its_place_to_others_up_to_the_limit(tiny_tokenizer: Any) -> None:
    """Every fourth task has a signal; the shaped reward always differs from 0, and counts for nothing."""
    log, engine = Logged(), Echo(tiny_tokenizer)
    made = sampler(tiny_tokenizer, {"a": [0, 4, 2, 4]}, rollout={"refills": 20})
    groups = made.groups(engine, 0, 0.0, log)
    assert all(group.outcomes == [1.0, 1.0, 0.0, 0.0] for group in groups)
    assert len({group.task.id for group in groups}) == 4
    rolled = log["groups/rolled"][0]
    assert sum(engine.calls) == 4 * rolled
    assert log["zero_signal/rolled"] == [1 - 4 / rolled]
    assert log["zero_signal/trained"] == [0.0]
    # None of a batch's tasks is drawn twice while there are others.
    assert sum(made.draws["a"].drawn.values()) == len(made.draws["a"].drawn) == rolled


def test_at_the_limit_groups_without_signal_stay(tiny_tokenizer: Any) -> None:
    log, engine = Logged(), Echo(tiny_tokenizer)
    made = sampler(tiny_tokenizer, {"a": [0]}, rollout={"refills": 2})
    groups = made.groups(engine, 0, 0.0, log)
    assert [group.outcomes for group in groups] == [[0.0] * 4] * 4
    assert engine.calls == [16, 16, 16]
    assert (log["zero_signal/trained"], log["zero_signal/rolled"]) == ([1.0], [1.0])


def test_a_refill_keeps_environment_and_thinking(tiny_tokenizer: Any) -> None:
    made = sampler(
        tiny_tokenizer, {"a": [0, 2], "b": [2, 0]},
        rollout={"refills": 30, "thinking_budget": 7},
        environments={"a": {"tasks": 40, "thinking_share": 1.0}, "b": {"tasks": 40, "thinking_share": 0.0}},
    )  # fmt: skip
    engine = Echo(tiny_tokenizer)
    groups = made.groups(engine, 0, 0.0, Logged())
    assert Counter(group.task.environment for group in groups) == {"a": 2, "b": 2}
    assert all(r.thinking is (group.task.environment == "a") for group in groups for r in group.rollouts)
    assert set(engine.budgets) == {7, None}


def test_thinking_on_and_off_by_share(tiny_tokenizer: Any) -> None:
    made = sampler(tiny_tokenizer, {"a": [2]}, rollout={"thinking_share": 0.25})
    on = [
        g.rollouts[0].thinking
        for step in range(250)
        for g in made.groups(Echo(tiny_tokenizer), step, 0.0, Logged())
    ]
    assert 182 <= sum(on) <= 318  # 1,000 draws of 0.25: 250 +- 5 x 13.7


def test_pass_rates_are_the_mean_of_every_task_s_outcomes(tiny_tokenizer: Any) -> None:
    made = sampler(tiny_tokenizer, {"a": [0, 1, 2, 3, 4]})
    rates = made.pass_rates(Echo(tiny_tokenizer), 0, 4)["a"]
    assert [rates[f"a/{n}"] for n in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_curriculum_s_target_and_what_was_drawn_are_logged(tiny_tokenizer: Any) -> None:
    made = sampler(
        tiny_tokenizer, {"a": [2]}, curriculum={"first_pass_rate": 1.0, "last_pass_rate": 0.0, "spread": 0.01, "follow": False}
    )  # fmt: skip
    rates = {f"a/{n}": n / 40 for n in range(40)}
    made.draws["a"] = TaskDraw(made.tasks["a"], made.config.curriculum, rates)
    log = Logged()
    for progress in (0.25, 0.75):
        made.groups(Echo(tiny_tokenizer), 0, progress, log)
    assert log["curriculum/a/target"] == [0.75, 0.25]
    assert log["curriculum/a/pass_rate"] == pytest.approx([0.75, 0.25], abs=0.05)


def test_every_process_has_tasks_and_seeds_of_its_own(tiny_tokenizer: Any) -> None:
    seen, seeds = [], []
    for rank in range(2):
        made = sampler(tiny_tokenizer, {"a": [2]}, rank, 2)
        engine = Echo(tiny_tokenizer)
        groups = made.groups(engine, 0, 0.0, Logged())
        assert len(groups) == 2
        seen.append({task.id for task in made.tasks["a"]})
        seeds += engine.seeds
    assert not seen[0] & seen[1]
    assert len(seen[0] | seen[1]) == 40
    assert len(set(seeds)) == 2


def test_the_same_seed_draws_the_same(tiny_tokenizer: Any) -> None:
    drawn = []
    for seed in (0, 0, 1):
        made = sampler(tiny_tokenizer, {"a": [2]}, seed=seed)
        drawn.append([g.task.id for g in made.groups(Echo(tiny_tokenizer), 3, 0.0, Logged())])
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_gap_of_two_policies() -> None:
    gap = SamplerGap()
    difference = torch.tensor([[0.1, -0.3, 9.0], [float("nan"), 0.0, 9.0]])
    gap.add(difference, torch.tensor([[1, 1, 0], [1, 1, 0]]))
    found = gap_metrics(gap.sums, gap.largest)
    weights = torch.tensor([0.1, -0.3, 0.0]).double().exp()
    assert found["mean"] == pytest.approx(0.4 / 3)
    assert found["max"] == pytest.approx(0.3)
    assert found["effective"] == pytest.approx(float(weights.sum() ** 2 / (3 * (weights**2).sum())))
    assert gap_metrics(SamplerGap().sums, 0.0) == {}


def test_first_and_last_of_what_was_logged() -> None:
    history: list[dict[str, Any]] = [
        {"reward": value} for value in (1.0, 2.0, None, 3.0, float("nan"), 6.0, 7.0)
    ]
    assert first_metrics([*history, {"loss": 9.0}], "reward") == (2.0, 16 / 3)
    assert first_metrics(history, "nothing") == (0.0, 0.0)
