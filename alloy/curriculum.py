"""Which tasks a policy is rolled out on next: each equally often, or by how often it passes them.

The curriculum of Nemotron 3 Nano (arXiv:2512.20848): within an environment tasks are drawn with a
Gaussian over their pass rate whose mean moves from easy to hard. A task that was drawn before is e
times less likely for each time, so that a few near the mean are not all that is trained on.
"""

import math
import random
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from alloy.environments.task import Task
from alloy.rl_config import CurriculumConfig


class TaskDraw:
    """Draws tasks of one environment.

    Args:
        pass_rates: by task id; without them, and without a curriculum, the tasks that were drawn least
            often come first.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        curriculum: CurriculumConfig | None = None,
        pass_rates: Mapping[str, float] | None = None,
    ) -> None:
        self.tasks = list(tasks)
        self.curriculum = curriculum
        self.pass_rates = dict(pass_rates or {})
        self.drawn: dict[str, int] = {}

    def target(self, progress: float) -> float:
        """The Gaussian's mean at a share of the run, 0 to 1."""
        assert self.curriculum is not None
        first, last = self.curriculum.first_pass_rate, self.curriculum.last_pass_rate
        return first + (last - first) * min(max(progress, 0.0), 1.0)

    def kept(self) -> list[Task]:
        """The tasks that may be drawn: not those that are always or never passed, where the config drops them."""
        if self.curriculum is None:
            return self.tasks
        rates = self.pass_rates
        kept = [
            task
            for task in self.tasks
            if not (self.curriculum.drop_solved and rates[task.id] >= 1.0)
            and not (self.curriculum.drop_unsolved and rates[task.id] <= 0.0)
        ]
        # Something has to be trained on, were it of no use.
        return kept or self.tasks

    def draw(
        self, count: int, progress: float, rng: random.Random, without: Collection[str] = ()
    ) -> list[Task]:
        """`count` tasks, all different while there are enough.

        Args:
            progress: share of the run that is done, 0 to 1.
            without: ids not to be drawn while there are others.
        """
        kept = self.kept()
        # Gumbel's trick: the largest of log-weight plus noise are a weighted draw without replacement.
        keys = {task.id: self._log_weight(task, progress) + _gumbel(rng) for task in kept}
        if self.curriculum is None:
            order = sorted(kept, key=lambda t: (t.id in without, self.drawn.get(t.id, 0), -keys[t.id]))
        else:
            order = sorted(kept, key=lambda t: (t.id in without, -keys[t.id]))
        chosen = [order[index % len(order)] for index in range(count)]
        for task in chosen:
            self.drawn[task.id] = self.drawn.get(task.id, 0) + 1
        return chosen

    def _log_weight(self, task: Task, progress: float) -> float:
        if self.curriculum is None:
            return 0.0
        away = (self.pass_rates[task.id] - self.target(progress)) / self.curriculum.spread
        return -0.5 * away * away - self.drawn.get(task.id, 0)

    def observe(self, task: Task, outcomes: Sequence[float | None]) -> None:
        """Take a group's outcomes as the task's pass rate, where the config follows them."""
        known = [outcome for outcome in outcomes if outcome is not None]
        if self.curriculum is not None and self.curriculum.follow and known:
            self.pass_rates[task.id] = fmean(known)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to draw on as it would have."""
        return {"drawn": self.drawn, "pass_rates": self.pass_rates}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.drawn = dict(state["drawn"])
        self.pass_rates = dict(state["pass_rates"])


def _gumbel(rng: random.Random) -> float:
    return -math.log(-math.log(rng.random() or 1e-300))


def slots(counts: Mapping[str, int], updates: int, rank: int = 0, world: int = 1) -> list[str]:
    """The environment of every group that one process rolls out for `updates` batches, batch by batch.

    Each batch has as many as `counts` says; in it they are spread out evenly, so that the part of it
    that a process has is as mixed as the whole.
    """
    placed = sorted(
        ((index + 0.5) / count, label) for label, count in counts.items() for index in range(count)
    )
    share = len(placed) // world
    return [label for _, label in placed[rank * share : (rank + 1) * share]] * updates
