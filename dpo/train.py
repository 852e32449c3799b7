"""Iterated DPO from top to bottom: sample, judge, pair, train, validate, again; the best is kept."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from alloy.artifact import Artifact, Parent, Run, is_main_process, write_atomically
from alloy.environments.registry import Environments, check_gold
from alloy.environments.task import Task
from alloy.evaluate.statistics import mean_interval
from alloy.policy import device_name, load_model, load_tokenizer, lora_to_peft, save_trained
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Sampling
from alloy.rollout.factory import open_engine
from alloy.stage import say
from alloy.training import RunCallback, equip
from dpo.config import DpoConfig
from dpo.pairs import Pair, make_pairs
from dpo.trainer import PairCollator, WrittenTokensDPOTrainer, to_trl


def train(config: DpoConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    name = config.environment.name
    environments = Environments.make({name: config.environment.options})
    environment = environments[name]
    # Every iteration has tasks of its own; validation is of templates that no training task has.
    drawn = environment.tasks("train", config.tasks * config.iterations, config.seed)
    validation = environment.tasks("validation", config.validation_tasks, config.seed)
    check_gold(environments, [*drawn[:64], *validation])
    run.begin()
    loop = _Loop(config, run, environments)

    policy = parents["parent"].path
    finished = [_finished(run.folder / f"iteration-{i}") for i in range(config.iterations + 1)]
    first_open = finished.index(None) if None in finished else len(finished)
    # What an interrupted iteration has logged is logged again.
    run.rewind((first_open - 1) * config.train.max_steps)
    start = finished[0] or loop.measure_start(policy, validation, run.folder / "iteration-0")
    best, best_success = policy, float(start["metrics"]["validation/success"])
    metrics = {"validation/success/0": best_success}
    tokens = 0
    for iteration in range(1, config.iterations + 1):
        folder = run.folder / f"iteration-{iteration}"
        done = finished[iteration] if iteration < first_open else None
        if done is None:
            tasks = drawn[(iteration - 1) * config.tasks : iteration * config.tasks]
            done = loop.iterate(iteration, policy, tasks, validation, folder)
        if done is None:
            break
        metrics |= {f"{key}/{iteration}": value for key, value in done["metrics"].items()}
        tokens += int(done["tokens"])
        policy = folder / "model"
        if done["metrics"]["validation/success"] > best_success:
            best, best_success = policy, done["metrics"]["validation/success"]
    if is_main_process():
        shutil.copytree(best, run.folder / "model", dirs_exist_ok=True)
    kept = 0 if best == parents["parent"].path else int(best.parent.name.rpartition("-")[2])
    say(f"  kept iteration {kept} of {config.iterations}: validation success {best_success:.1%}")
    return run.finish(
        "policy",
        {**metrics, "kept_iteration": kept},
        tokens=tokens,
        device=device_name(),
        notes={"kept": kept},
    )


def _finished(folder: Path) -> dict[str, Any] | None:
    path = folder / "iteration.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return None


class _Loop:
    """What every iteration works with."""

    def __init__(self, config: DpoConfig, run: Run, environments: Environments) -> None:
        self.config = config
        self.run = run
        self.environments = environments

    def sample(
        self,
        policy: Path,
        tasks: Sequence[Task],
        k: int,
        seed: int,
        step: int,
        temperature: float | None = None,
    ) -> list[list[Rollout]]:
        """`k` rollouts of each task, judged by the end state of its world; some are kept under `step`."""
        rollout = self.config.rollout
        tokenizer = load_tokenizer(policy)
        repeated = [task for task in tasks for _ in range(k)]
        sampling = Sampling(
            rollout.max_completion_tokens,
            rollout.temperature if temperature is None else temperature,
            rollout.top_p,
        )
        with open_engine(policy, tokenizer, rollout, rollout.grace_tokens) as engine:
            found = roll_out(
                repeated,
                [True] * len(repeated),
                engine,
                tokenizer,
                self.environments,
                RolloutPlan(sampling, rollout.max_turns, rollout.thinking_budget),
                seed,
            )
        self.run.sample(sample_row(r, tokenizer, step) for r in found[:: max(1, len(found) // 16)][:16])
        return [found[i : i + k] for i in range(0, len(found), k)]

    def validate(self, policy: Path, tasks: Sequence[Task], iteration: int) -> float:
        """Success on held-out tasks, sampled as the rollouts are."""
        step = iteration * self.config.train.max_steps
        groups = self.sample(policy, tasks, 1, self.config.seed, step)
        won = [float(_won(group[0])) for group in groups]
        interval = mean_interval(won)
        say(f"  iteration {iteration}: validation success {interval.percent()} (n={interval.n})")
        self.run.log(step, {"validation/success": interval.value})
        return interval.value

    def measure_start(self, policy: Path, tasks: Sequence[Task], folder: Path) -> dict[str, Any]:
        """The parent's own success, against which the iterations are held."""
        done = {"metrics": {"validation/success": self.validate(policy, tasks, 0)}}
        if is_main_process():
            folder.mkdir(exist_ok=True)
            write_atomically(folder / "iteration.json", json.dumps(done, indent=1))
        return done

    def iterate(
        self, iteration: int, policy: Path, tasks: Sequence[Task], validation: Sequence[Task], folder: Path
    ) -> dict[str, Any] | None:
        """One round: sample, pair, train, validate. None where there was nothing to pair."""
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)  # what a kill has left of this iteration
        seed = self.config.seed * 100 + iteration
        step = (iteration - 1) * self.config.train.max_steps + 1
        groups = self.sample(policy, tasks, self.config.rollouts_per_task, seed, step)
        pairs, counts = make_pairs(groups, self.config.pairing, seed)
        success = sum(_won(r) for group in groups for r in group) / sum(len(group) for group in groups)
        say(
            f"  iteration {iteration}: success {success:.1%} of {counts.tasks} tasks x {self.config.rollouts_per_task}; "
            f"{counts.mixed} mixed, {counts.never_won} never won, {counts.always_won} always; {counts.pairs} pairs"
        )
        if not pairs:
            say(
                f"  iteration {iteration}: no task had both a success and a failure, so there is nothing to learn "
                "from and the loop ends. Raise `tasks`, `rollouts_per_task` or `rollout.temperature`, or train SFT longer."
            )
            return None
        trained = self._update(iteration, policy, pairs, folder, seed)
        metrics = {
            "sampled/success": success,
            **counts.as_metrics(),
            "validation/success": self.validate(folder / "model", validation, iteration),
        }
        done = {"metrics": metrics, "tokens": trained, "policy": str(policy), "pairs": len(pairs)}
        if is_main_process():
            _write_pairs(folder / "pairs.jsonl", pairs)
            write_atomically(folder / "iteration.json", json.dumps(done, indent=1))
        return done

    def _update(self, iteration: int, policy: Path, pairs: Sequence[Pair], folder: Path, seed: int) -> int:
        """DPO from `policy` on its own pairs, saved into the iteration's folder. Returns: tokens seen."""
        tokenizer = load_tokenizer(policy)
        trainer = WrittenTokensDPOTrainer(
            model=load_model(policy),
            args=to_trl(self.config, self.run, str(folder / "checkpoints"), seed),
            train_dataset=Dataset.from_list([pair.row() for pair in pairs]),
            processing_class=tokenizer,
            data_collator=PairCollator(tokenizer.pad_token_id),
            peft_config=lora_to_peft(self.config.lora),
            callbacks=[RunCallback(self.run, offset=(iteration - 1) * self.config.train.max_steps)],
        )
        equip(trainer, self.config.optim)
        trainer.train()
        save_trained(trainer, tokenizer, folder / "model")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return sum(
            len(p.chosen.token_ids) + len(p.rejected.token_ids) + 2 * len(p.chosen.prompt_ids) for p in pairs
        )


def _won(rollout: Rollout) -> bool:
    return rollout.finished and rollout.verdict is not None and rollout.verdict.reward == 1.0


def _write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    rows = (json.dumps({"task": pair.chosen.task.id, **pair.row()}) for pair in pairs)
    write_atomically(path, "".join(f"{row}\n" for row in rows))
