"""One iteration of DPO: rollouts of the policy, pairs, the update; and how a policy is validated.

What is done is kept on disk step by step (pairs, checkpoints, weights, validation), so that an interrupted
iteration goes on where it was.
"""

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from datasets import Dataset

from alloy.adapter import lora_to_peft
from alloy.artifact import Artifact, Parent, Run, is_main_process, write_atomically
from alloy.checkpoints import last_checkpoint
from alloy.environments.registry import Environments
from alloy.environments.task import Task
from alloy.evaluate.statistics import mean_interval
from alloy.policy import device_name, load_for_training, load_tokenizer, save_trained
from alloy.processes import gathered, joined, share
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Sampling
from alloy.rollout.factory import open_engine
from alloy.stage import say
from alloy.training import RunCallback, equip
from dpo.config import DpoConfig
from dpo.pairs import make_pairs
from dpo.solutions import known_solutions
from dpo.trainer import PairCollator, WrittenTokensDPOTrainer, to_trl

SAMPLES = 16
"""Rollouts that are kept to be read, of each time that a policy is rolled out."""


def thinks(task: Task, share: float, seed: int) -> bool:
    """Whether a task is rolled out with thinking on: drawn for the task, so that its pairs have one prompt."""
    return random.Random(f"{seed}|{task.environment}|{task.id}|thinking").random() < share


@dataclass(frozen=True, slots=True)
class Validation:
    """What a policy did on held-out tasks.

    Attributes:
        success: by environment, by task: 1.0 or 0.0.
        metrics: success, and what else the verdicts tell (side effects, invalid calls), by environment.
    """

    success: dict[str, dict[str, float]]
    metrics: dict[str, float]


class Loop:
    """What every iteration works with.

    Attributes:
        drawn: for training, by environment; every iteration has a part of its own.
        held_out: for validation, by environment.
    """

    def __init__(self, config: DpoConfig, environments: Environments) -> None:
        self.config = config
        self.environments = environments
        given = config.environments
        self.drawn = {
            label: environments.tasks(
                label, "train", given[label].tasks * config.iterations, config.seed, given[label].system
            )
            for label in environments
        }
        self.held_out = {
            label: environments.tasks(
                label, "validation", given[label].validation_tasks, config.seed, given[label].system
            )
            for label in environments
        }

    def tasks_of(self, iteration: int) -> list[Task]:
        """The tasks of an iteration, counted from 1."""
        found = []
        for label, drawn in self.drawn.items():
            count = self.config.environments[label].tasks
            found += drawn[(iteration - 1) * count : iteration * count]
        return found

    def validate(self, part: Run, policy: Parent) -> Validation:
        """Success on the held-out tasks, sampled as the rollouts are; read back where it was measured before."""
        path = part.folder / "validated.json"
        if path.is_file():
            return Validation(**json.loads(path.read_text()))
        tasks = [task for held_out in self.held_out.values() for task in held_out]
        groups, samples = self.sample(policy.path, tasks, 1, self.config.seed)
        found = _validation([group[0] for group in groups])
        for label, success in found.success.items():
            interval = mean_interval(list(success.values()))
            say(f"  {part.folder.name}: {label} {interval.percent()} of {interval.n} validation tasks won")
        if is_main_process():
            part.folder.mkdir(parents=True, exist_ok=True)
            part.sample({**row, "step": self.config.train.max_steps} for row in samples)
            write_atomically(path, json.dumps(asdict(found)))
        joined().wait_for_everyone()
        return found

    def iterate(self, part: Run, iteration: int, policy: Parent) -> Artifact | None:
        """One round: sample, pair, train. None where there was nothing to pair."""
        part.begin()
        seed = self.config.seed * 100 + iteration
        trained = (part.folder / "model").is_dir()
        checkpoint = None if trained else last_checkpoint(part)
        rows, metrics, samples = self._pairs(part, iteration, policy.path, seed)
        if checkpoint is None and not trained:
            part.sample(samples)
            part.log(0, metrics)
        if not rows:
            say(
                f"  {part.folder.name}: no task had both a success and a failure, so there is nothing to learn from and "
                "the loop ends. Raise `tasks`, `rollouts_per_task` or `rollout.temperature`, or train SFT longer."
            )
            return None
        if not trained:
            self._update(part, policy.path, rows, seed, checkpoint)
        tokens = sum(
            2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows
        )
        artifact = part.finish("policy", metrics, tokens=tokens, device=device_name())
        # The others read it from the folder next.
        joined().wait_for_everyone()
        return artifact

    def _pairs(
        self, part: Run, iteration: int, policy: Path, seed: int
    ) -> tuple[list[dict[str, Any]], dict[str, float], list[dict[str, Any]]]:
        """The pairs of an iteration as rows, what is to be told of them, and rollouts to read."""
        pairs_path, told_path = part.folder / "pairs.jsonl", part.folder / "sampled.json"
        if not told_path.is_file():
            tasks = self.tasks_of(iteration)
            groups, samples = self.sample(policy, tasks, self.config.rollouts_per_task, seed)
            solutions = None
            if self.config.pairing.demonstrations:
                solutions = known_solutions(tasks, self.environments, load_tokenizer(policy))
            pairs, counts = make_pairs(groups, self.config.pairing, seed, solutions)
            rollouts = [rollout for group in groups for rollout in group]
            metrics = {"sampled/success": fmean(map(_won, rollouts)), **counts.as_metrics()}
            say(
                f"  {part.folder.name}: {metrics['sampled/success']:.1%} of {len(rollouts)} rollouts won; of "
                f"{counts.tasks} tasks {counts.mixed} mixed ({counts.mixed / counts.tasks:.1%}), {counts.never_won} never "
                f"won, {counts.always_won} always; {counts.pairs} pairs, {counts.off_policy} of them off-policy"
            )
            if is_main_process():
                lines = (json.dumps(pair.row()) for pair in pairs)
                write_atomically(pairs_path, "".join(f"{line}\n" for line in lines))
                # Last: with it, the sampling is done.
                write_atomically(told_path, json.dumps({"metrics": metrics, "samples": samples}))
            joined().wait_for_everyone()
        told = json.loads(told_path.read_text())
        rows = [json.loads(line) for line in pairs_path.read_text().splitlines()]
        return rows, told["metrics"], told["samples"]

    def sample(
        self, policy: Path, tasks: Sequence[Task], count: int, seed: int
    ) -> tuple[list[list[Rollout]], list[dict[str, Any]]]:
        """`count` rollouts of each task, and some of them to read. Every process does its part of the tasks."""
        config = self.config.rollout
        tokenizer = load_tokenizer(policy)
        repeated = [task for task in share(tasks) for _ in range(count)]
        thinking = [thinks(task, config.thinking_share, seed) for task in repeated]
        sampling = Sampling(config.max_completion_tokens, config.temperature, config.top_p)
        plan = RolloutPlan(sampling, config.max_turns, config.thinking_budget)
        with open_engine(policy, tokenizer, config, config.grace_tokens) as engine:
            found = roll_out(repeated, thinking, engine, tokenizer, self.environments, plan, seed)
        groups = gathered([found[i : i + count] for i in range(0, len(found), count)])
        everything = [rollout for group in groups for rollout in group]
        shown = everything[:: max(1, len(everything) // SAMPLES)][:SAMPLES]
        return groups, [sample_row(rollout, tokenizer, 0) for rollout in shown]

    def _update(
        self, part: Run, policy: Path, rows: list[dict[str, Any]], seed: int, checkpoint: str | None
    ) -> None:
        """DPO from `policy` on its own pairs, saved into the iteration's folder."""
        tokenizer = load_tokenizer(policy)
        arguments = to_trl(self.config, part, seed)
        model = load_for_training(policy, arguments)
        trainer = WrittenTokensDPOTrainer(
            model=model,
            args=arguments,
            train_dataset=_shared_dataset(rows, part.folder / "pairs"),
            processing_class=tokenizer,
            data_collator=PairCollator(tokenizer.pad_token_id),
            peft_config=lora_to_peft(self.config.lora, model),
            callbacks=[RunCallback(part)],
        )
        equip(trainer, self.config.optim)
        trainer.train(resume_from_checkpoint=checkpoint)
        save_trained(trainer, tokenizer, part.folder / "model")
        shutil.rmtree(part.checkpoints, ignore_errors=True)
        shutil.rmtree(part.folder / "pairs", ignore_errors=True)


def _shared_dataset(rows: list[dict[str, Any]], folder: Path) -> Dataset:
    """The tokens of the pairs, in files that all processes read.

    TRL's main process writes the reference's log-probabilities beside the dataset's own files, and the other
    processes read them there: of a dataset in memory each process would look into a folder of its own.
    """
    columns = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask")
    if is_main_process():
        Dataset.from_list([{key: row[key] for key in columns} for row in rows]).save_to_disk(str(folder))
    joined().wait_for_everyone()
    return Dataset.load_from_disk(str(folder))


def _validation(rollouts: Iterable[Rollout]) -> Validation:
    success: dict[str, dict[str, float]] = defaultdict(dict)
    parts: dict[str, list[float]] = defaultdict(list)
    for rollout in rollouts:
        label = rollout.task.environment
        if rollout.verdict is None or rollout.verdict.reward is None:
            continue
        success[label][rollout.task.id] = _won(rollout)
        for name, value in (rollout.verdict.parts or {}).items():
            parts[f"validation/{label}/{name}"].append(value)
    metrics = {f"validation/{label}/success": fmean(scores.values()) for label, scores in success.items()}
    return Validation(dict(success), metrics | {name: fmean(values) for name, values in parts.items()})


def _won(rollout: Rollout) -> float:
    return float(rollout.finished and rollout.verdict is not None and rollout.verdict.reward == 1.0)
