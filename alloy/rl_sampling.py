"""What a policy is rolled out on, and what comes of it: groups with a signal, pass rates, held-out outcomes.

Knows engines, tasks and scores, and no trainer: one process's part of a run, the same for the same seed.
"""

import random
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from alloy.advantages import has_signal
from alloy.curriculum import TaskDraw, slots
from alloy.environments.registry import Environments
from alloy.environments.task import Split, Task
from alloy.pass_rates import PassRates, measure_pass_rates
from alloy.rewards import Score, verdict_outcomes
from alloy.rl_config import PolicyOptimisationConfig, divide
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out
from alloy.rollout.engine import Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Log = Callable[[str, float], None]
Measure = Callable[[Sequence[Rollout]], dict[str, list[float | None]]]
"""Of held-out rollouts, by name, one number each or None; `OUTCOME` chooses the step that is kept."""

OUTCOME = "outcome"


def measure_verdicts(rollouts: Sequence[Rollout]) -> dict[str, list[float | None]]:
    return {OUTCOME: verdict_outcomes(rollouts)}


class _Given(Protocol):
    @property
    def environment(self) -> str | None: ...
    @property
    def options(self) -> dict[str, Any]: ...


class _WithEnvironments(Protocol):
    """A config with environments by label."""

    @property
    def environments(self) -> Mapping[str, _Given]: ...


def make_environments(config: "_WithEnvironments") -> Environments:
    """The environments of a config, each under its label."""
    return Environments.make(
        {label: given.options for label, given in config.environments.items()},
        {label: given.environment or label for label, given in config.environments.items()},
    )


def draw_tasks(
    config: PolicyOptimisationConfig, environments: Environments, split: Split = "train"
) -> dict[str, list[Task]]:
    """The tasks of every environment in a config, by its label: for training, or held out for validation."""
    held_out = config.validation.tasks if config.validation else 0
    return {
        label: environments.tasks(
            label, split, given.tasks if split == "train" else held_out, config.seed, given.system
        )
        for label, given in config.environments.items()
    }


@dataclass
class Group:
    """The rollouts of one task, and what came of them."""

    rollouts: list[Rollout]
    outcomes: list[float | None]
    rewards: list[float | None]

    @property
    def task(self) -> Task:
        return self.rollouts[0].task


class Sampler:
    """Rolls a policy out on the tasks of one process.

    Args:
        tasks: of all processes, by environment; every process draws from its own part of them.
        measure: what held-out rollouts are worth; what their verdicts say when not given.

    Attributes:
        draws: what is drawn from, by environment.
        failures: the verifiers' own, by environment and status.
        beside: what else was measured of the held-out tasks, by name, environment and task id.
    """

    def __init__(
        self,
        config: PolicyOptimisationConfig,
        tokenizer: "PreTrainedTokenizerBase",
        environments: Environments,
        tasks: Mapping[str, Sequence[Task]],
        score: Score,
        rank: int = 0,
        world: int = 1,
        measure: Measure | None = None,
    ) -> None:
        self.config, self.tokenizer, self.environments, self.score = config, tokenizer, environments, score
        self.rank, self.world = rank, world
        self.slots = slots(
            divide(config.prompts_per_step, config.shares()), config.rollout.updates, rank, world
        )
        self.measure = measure or measure_verdicts
        self.beside: dict[str, dict[str, dict[str, float]]] = {}
        self.tasks = {label: list(found[rank::world]) for label, found in tasks.items()}
        self.draws = {label: TaskDraw(found) for label, found in self.tasks.items()}
        self.failures: Counter[str] = Counter()
        rollout = config.rollout
        self.plan = RolloutPlan(
            Sampling(rollout.max_completion_tokens, rollout.temperature, rollout.top_p),
            rollout.max_turns,
            rollout.thinking_budget,
        )

    def groups(self, engine: Engine, step: int, progress: float, log: Log) -> list[Group]:
        """A group for every slot of the batches to come.

        One whose outcomes are all equal gives its place to another task of its environment, in up to
        `rollout.refills` rounds; the last round's stay as they are.

        Args:
            progress: share of the run that is done, 0 to 1.
        """
        rng = random.Random(f"{self.config.seed}/{step}/{self.rank}")
        thinking = [rng.random() < self.config.thinking_share(label) for label in self.slots]
        groups: dict[int, Group] = {}
        waiting = list(range(len(self.slots)))
        used: dict[str, set[str]] = {label: set() for label in self.draws}
        rolled: Counter[str] = Counter()
        idle: Counter[str] = Counter()
        for attempt in range(self.config.rollout.refills + 1):
            tasks = self._draw([self.slots[slot] for slot in waiting], progress, rng, used, log)
            made = self._roll_groups(
                tasks, [thinking[slot] for slot in waiting], engine, f"{step}/{attempt}", log
            )
            groups |= zip(waiting, made, strict=True)
            for group in made:
                self.draws[group.task.environment].observe(group.task, group.outcomes)
                rolled[group.task.environment] += 1
                idle[group.task.environment] += not has_signal(group.outcomes)
            waiting = [slot for slot in waiting if not has_signal(groups[slot].outcomes)]
            if not waiting:
                break
        for label in self.draws:
            log(f"zero_signal/{label}", idle[label] / max(1, rolled[label]))
        log("zero_signal/rolled", sum(idle.values()) / sum(rolled.values()))
        log("zero_signal/trained", len(waiting) / len(self.slots))
        log("groups/rolled", sum(rolled.values()))
        return [groups[slot] for slot in range(len(self.slots))]

    def _draw(
        self,
        labels: Sequence[str],
        progress: float,
        rng: random.Random,
        used: dict[str, set[str]],
        log: Log,
    ) -> list[Task]:
        """A task for each of these slots, none that these batches have had already while there are others."""
        drawn: dict[str, list[Task]] = {}
        for label, count in Counter(labels).items():
            draw = self.draws[label]
            drawn[label] = draw.draw(count, progress, rng, used[label])
            used[label] |= {task.id for task in drawn[label]}
            if draw.curriculum is not None:
                log(f"curriculum/{label}/target", draw.target(progress))
                log(f"curriculum/{label}/pass_rate", fmean(draw.pass_rates[t.id] for t in drawn[label]))
        return [drawn[label].pop(0) for label in labels]

    def _roll_groups(
        self, tasks: Sequence[Task], thinking: Sequence[bool], engine: Engine, seed: str, log: Log
    ) -> list[Group]:
        size = self.config.group_size
        rollouts = self.roll_out(
            [task for task in tasks for _ in range(size)],
            [on for on in thinking for _ in range(size)],
            engine,
            seed,
        )
        scores = self.score(rollouts)
        for name, value in scores.metrics.items():
            log(name, value)
        cuts = [slice(start, start + size) for start in range(0, len(rollouts), size)]
        return [Group(rollouts[cut], scores.outcomes[cut], scores.rewards[cut]) for cut in cuts]

    def roll_out(
        self, tasks: Sequence[Task], thinking: Sequence[bool], engine: Engine, seed: str
    ) -> list[Rollout]:
        number = zlib.crc32(f"{self.config.seed}/{self.rank}/{seed}".encode())
        rollouts = roll_out(tasks, thinking, engine, self.tokenizer, self.environments, self.plan, number)
        self._tell_failures(rollouts)
        return rollouts

    def _tell_failures(self, rollouts: Sequence[Rollout]) -> None:
        """Count the verifiers' own failures; the first of each kind is told at once."""
        for rollout in rollouts:
            verdict = rollout.verdict
            if verdict is None or verdict.reward is not None:
                continue
            kind = f"{rollout.task.environment}: {verdict.status}"
            if not self.failures[kind]:
                print(
                    f"warning: the verifier of {kind} on {rollout.task.id}: {verdict.detail}. Such a completion "
                    "has no reward and no loss; their share is logged as verdict/*.",
                    file=sys.stderr,
                )
            self.failures[kind] += 1

    def pass_rates(self, engine: Engine, step: int, each: int) -> PassRates:
        """The policy's pass rate on every task of this process, from `each` rollouts."""
        rates: PassRates = {}
        for label, tasks in self.tasks.items():
            thinking = self._thinking(label, "profile", len(tasks) * each)

            def outcomes(
                chosen: list[Task], start: int, label: str = label, on: list[bool] = thinking
            ) -> list[float | None]:
                seed = f"profile/{step}/{label}/{start}"
                return verdict_outcomes(self.roll_out(chosen, on[start : start + len(chosen)], engine, seed))

            rates[label] = measure_pass_rates(tasks, each, outcomes)
        return rates

    def held_out(self, engine: Engine, tasks: Mapping[str, Sequence[Task]]) -> dict[str, dict[str, float]]:
        """Outcomes by environment and task id; failures are left out. What else was measured is in `beside`.

        The seed is the same at every step: what differs between two steps is the policy.
        """
        found: dict[str, dict[str, dict[str, float]]] = {OUTCOME: {}}
        for label, all_tasks in tasks.items():
            mine = list(all_tasks[self.rank :: self.world])
            thinking = self._thinking(label, "validation", len(mine))
            rollouts = self.roll_out(mine, thinking, engine, f"validation/{label}")
            for name, values in self.measure(rollouts).items():
                pairs = zip(mine, values, strict=True)
                known = {task.id: value for task, value in pairs if value is not None}
                found.setdefault(name, {})[label] = known
        outcomes = found.pop(OUTCOME)
        self.beside = found
        return outcomes

    def _thinking(self, label: str, purpose: str, count: int) -> list[bool]:
        rng = random.Random(f"{self.config.seed}/{label}/{purpose}/{self.rank}")
        share = self.config.thinking_share(label)
        return [rng.random() < share for _ in range(count)]
