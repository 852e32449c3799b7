"""Group-relative policy optimisation on TRL, shared by grpo/ and rlhf/: there is one RL loop.

TRL's GRPOTrainer keeps what it does well: the clipped loss, importance correction, the KL, logging,
distribution. What Alloy is for is its own: which tasks stand in a batch (`alloy.curriculum`), rollouts
(`alloy.rl_sampling`: worlds, thinking on and off, budgets, refilled groups), verdicts and rewards
(`alloy.rewards`, `alloy.advantages`), which step is kept (`alloy.selection`), and going on exactly
where a run was interrupted.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from alloy.adapter import lora_to_peft
from alloy.advantages import group_advantages
from alloy.artifact import Parent, Run, is_main_process, publish_folder, sync_folder, write_atomically
from alloy.curriculum import TaskDraw
from alloy.environments.registry import Environments
from alloy.environments.task import Task
from alloy.errors import StageError
from alloy.pass_rates import describe, keep_profile, profile_key, read_profile
from alloy.policy import load_for_training, save_trained
from alloy.rewards import Score
from alloy.rl_arguments import placeholders, to_trl
from alloy.rl_batches import Batch, flatten, micro_batches, unflatten
from alloy.rl_config import PolicyOptimisationConfig
from alloy.rl_sampling import Measure, Sampler
from alloy.rollout.conversation import Rollout, sample_row
from alloy.rollout.engine import Engine
from alloy.rollout.transformers_engine import TransformersEngine
from alloy.sampler_gap import SamplerGap, gap_metrics
from alloy.selection import Selection
from alloy.sharding import set_trained, trained_tensors
from alloy.stage import say
from alloy.training import RunCallback, SafeTrainer, equip

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PolicyTrainer(SafeTrainer, GRPOTrainer):
    """TRL's trainer, whose completions come from `roll_out` and whose rewards from `score`.

    Args:
        parent: the weights that the policy starts from.
        tasks: for training, by environment; every process draws from its own part of them.
        held_out: for validation, by environment; empty without one.
        measure: what held-out rollouts are worth; what their verdicts say when not given.
    """

    def __init__(
        self,
        *,
        parent: Parent,
        tokenizer: "PreTrainedTokenizerBase",
        config: PolicyOptimisationConfig,
        run: Run,
        tasks: dict[str, list[Task]],
        held_out: dict[str, list[Task]],
        environments: Environments,
        score: Score,
        measure: Measure | None = None,
    ) -> None:
        self.alloy_config = config
        self.run = run
        self.parent = parent
        arguments = to_trl(config, run)
        self.selection = Selection(run.folder)
        if config.rollout.engine == "vllm-server":
            self._client()
        model = load_for_training(parent.path, arguments)
        super().__init__(
            model=model,
            args=arguments,
            # One function an environment: TRL then logs each reward under its name.
            reward_funcs=[_reward_function(label, self) for label in environments],
            train_dataset=placeholders(config),
            processing_class=tokenizer,
            peft_config=lora_to_peft(config.lora, model),
            rollout_func=lambda prompts, trainer: self.rollouts_of(len(prompts)),
            callbacks=[RunCallback(run), _Moments(self)],
        )
        equip(self, config.optim)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.sampler = Sampler(config, tokenizer, environments, tasks, score, rank, world, measure)
        self.held_out = held_out
        self._buffered_inputs: list[Batch] | None = None
        self.gap = SamplerGap()
        self.server_engine: Engine | None = None
        if config.rollout.engine == "vllm-server":
            self.server_engine = self._connect()
        elif config.rollout.engine == "vllm" and not self.use_vllm:
            self._colocate_on_cpu()

    def _connect(self) -> Engine:
        """Every process asks the server for its own tokens; the weights come from the main one alone."""
        from alloy.rollout.vllm_server import VllmServerEngine

        rollout = self.alloy_config.rollout
        return VllmServerEngine(
            self._client(), self.processing_class, rollout.batch_size, rollout.grace_tokens
        )

    def _client(self) -> Any:
        """Asked for before TRL does, which has no words for a server that is not there."""
        from alloy.rollout.vllm_server import connect

        rollout = self.alloy_config.rollout
        return connect(rollout.server_url, rollout.server_timeout_seconds)

    def _colocate_on_cpu(self) -> None:
        from alloy.rollout.vllm_colocated import ColocatedVllm

        rollout = self.alloy_config.rollout
        self.vllm_generation = ColocatedVllm(self.model, self.accelerator, self.processing_class, rollout)
        self._last_loaded_step = -1
        self.use_vllm = True

    def close(self) -> None:
        """Free an engine that was started on the CPU."""
        if close := getattr(getattr(self, "vllm_generation", None), "close", None):
            close()

    def engine(self) -> AbstractContextManager[Engine]:
        """What the policy as it is now is rolled out with. Every process opens it."""
        return _EngineContext(self)

    # Rollouts

    def rollouts_of(self, count: int) -> dict[str, Any]:
        """TRL's rollout function: `count` completions, the groups of this process one after the other."""
        step = self.state.global_step
        with self.engine() as engine:
            groups = self.sampler.groups(
                engine, step, step / max(1, self.args.max_steps - 1), self._log_metric
            )
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        assert len(rollouts) == count
        self._rewards = [reward for group in groups for reward in group.rewards]
        self._log_rollouts(rollouts, self._rewards)
        return {
            "prompt_ids": [r.prompt_ids for r in rollouts],
            "completion_ids": [r.token_ids for r in rollouts],
            "logprobs": [r.logprobs for r in rollouts],
            "env_mask": [self._mask(r, w) for r, w in zip(rollouts, self._rewards, strict=True)],
            "environment": [r.task.environment for r in rollouts],
            "alloy_reward": self._rewards,
        }

    def _mask(self, rollout: Rollout, reward: float | None) -> list[int]:
        """1 where a token carries loss: none of a completion without a reward, or cut off where the config says so."""
        if reward is None or (self.alloy_config.loss.mask_unfinished and not rollout.finished):
            return [0] * len(rollout.token_ids)
        return rollout.completion_mask

    def _log_rollouts(self, rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> None:
        step = self.state.global_step
        statuses = Counter(r.verdict.status for r in rollouts if r.verdict is not None)
        for status in ("unparsable", "timeout", "error"):
            self._log_metric(f"verdict/{status}", statuses[status] / len(rollouts))
        for name, on in (("thinking_on", True), ("thinking_off", False)):
            mine = [r for r in rollouts if r.thinking is on]
            if mine:
                self._log_metric(f"tokens/{name}", sum(sum(r.completion_mask) for r in mine) / len(mine))
        if step % self.alloy_config.logging.every_steps == 0:
            every = max(1, len(rollouts) // 4)
            shown = list(zip(rollouts, rewards, strict=True))[::every][:4]
            # A sample belongs to the update that it serves, as a metric does: a resumed run drops both alike.
            self.run.sample(
                sample_row(r, self.processing_class, step + 1, score=reward) for r, reward in shown
            )

    # Profile and validation

    def begin(self) -> None:
        """What is measured of the parent before the first step."""
        if self.alloy_config.validation is not None and not self.selection.measured(0):
            self.validate()
        if self.alloy_config.curriculum is not None and not self.profiled():
            fingerprint = self.parent.lineage.fingerprint
            self._profile(profile_key(self.alloy_config, fingerprint, self.accelerator.num_processes))

    def profiled(self) -> bool:
        return any(draw.pass_rates for draw in self.sampler.draws.values())

    def after_step(self) -> bool:
        """What is measured after a step; whether training stops here."""
        step, last = self.state.global_step, self.args.max_steps
        validation, curriculum = self.alloy_config.validation, self.alloy_config.curriculum
        if validation is not None and (step % validation.every_steps == 0 or step == last):
            self.validate()
        again = curriculum.again_every_steps if curriculum is not None else None
        if again and step % again == 0 and step < last:
            self._profile(None)
        patience = validation.patience if validation is not None else None
        if patience is None or self.selection.waited() < patience or step == last:
            return False
        say(
            f"  stops at step {step} of {last}: no step after {self.selection.kept()} was better on the held-out "
            f"tasks in {self.selection.waited()} measurements, validation.patience = {patience}"
        )
        return True

    def _profile(self, key: str | None) -> None:
        """Measure every task's pass rate, or read what was measured of the same policy before."""
        curriculum, step = self.alloy_config.curriculum, self.state.global_step
        assert curriculum is not None
        began = time.time()
        # The main process decides for all: the cache is of its machine.
        found = [read_profile(key) if key and is_main_process() else None]
        rates = broadcast_object_list(found)[0]
        if rates is None:
            with self.engine() as engine:
                rates = _gathered(self.sampler.pass_rates(engine, step, curriculum.rollouts))
            if key and is_main_process():
                keep_profile(key, rates)
        self.sampler.draws = {
            label: TaskDraw(found, curriculum, {task.id: rates[label][task.id] for task in found})
            for label, found in self.sampler.tasks.items()
        }
        if not is_main_process():
            return
        seconds = time.time() - began
        write_atomically(
            self.run.folder / (f"profile-{step}.json" if step else "profile.json"),
            json.dumps({"step": step, "rollouts": curriculum.rollouts, "seconds": seconds, "rates": rates}),
        )
        for label, found in rates.items():
            told = describe(found)
            say(
                f"  {label}: pass rate {told['mean']:.2f} over {told['tasks']} tasks; {told['never']} never, "
                f"{told['always']} always passed"
            )

    def validate(self) -> None:
        """Measure the policy as it is on the held-out tasks, and keep its weights if it is the best so far."""
        step = self.state.global_step
        with self.engine() as engine:
            scores = _gathered(self.sampler.held_out(engine, self.held_out))
        # Which measures there are depends on the config alone: every process has the same.
        beside = {name: _gathered(found) for name, found in self.sampler.beside.items()}
        failed = [label for label, found in scores.items() if not found]
        if failed:
            raise StageError(
                f"the verifier of {failed[0]} failed on every held-out task. Mend it, then run again."
            )
        best = self.selection.take(step, scores, beside)
        entry = self.selection.entry(step)
        told = "  ".join(f"{label} {cell['value']:.3f}" for label, cell in entry["environments"].items())
        fell = f"; fell: {', '.join(entry['fell'])}" if entry["fell"] else ""
        say(f"  held out, step {step}: {told}  mean {entry['mean']:.3f}{fell}{' (best)' if best else ''}")
        for label, cell in entry["environments"].items():
            self._metrics["train"][f"validation/{label}"].append(cell["value"])
        for name, cells in entry["beside"].items():
            for label, cell in cells.items():
                self._metrics["train"][f"validation/{label}/{name}"].append(cell["value"])
        if best:
            self._write_candidate(self.selection.folder(step))
        if not self.alloy_config.train.save_steps:
            self.selection.clean(step)

    def _write_candidate(self, folder: Path) -> None:
        """Weights that may be kept: those that are trained."""
        tensors = trained_tensors(self.accelerator.unwrap_model(self.model))
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / "trained.safetensors")
            # A checkpoint that follows may rest on it.
            sync_folder(folder)
        self.accelerator.wait_for_everyone()

    @property
    def kept(self) -> int:
        """The step that is kept: the best measured one, 0 for the parent, or the last where none is measured."""
        return self.selection.kept() if self.alloy_config.validation is not None else self.state.global_step

    def take_kept(self) -> None:
        """Put the weights of the step that is kept into the model, the parent's aside."""
        if self.kept not in (0, self.state.global_step):
            tensors = load_file(self.selection.folder(self.kept) / "trained.safetensors")
            set_trained(self.accelerator.unwrap_model(self.model), tensors)
            # An engine has those of the last step.
            self._last_loaded_step = -1

    def save_kept(self, final: Path) -> None:
        """Write the step that is kept as a plain model folder.

        Where no step was better and nothing fell, it is the parent's, which a warning says.
        """
        if self.kept:
            self.take_kept()
            save_trained(self, self.processing_class, final)
        else:
            say(
                "  warning: no step was better than the parent on the held-out tasks without a fall in one of "
                f"the environments: the parent's weights are handed on. See {self.selection.path}"
            )
            if is_main_process():
                partial = final.with_name(final.name + ".partial")
                shutil.copytree(self.parent.path, partial, dirs_exist_ok=True)
                publish_folder(partial, final)
        self.accelerator.wait_for_everyone()
        if is_main_process():
            shutil.rmtree(self.selection.weights, ignore_errors=True)

    # The trainer's own steps

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        per_batch = self.args.steps_per_generation
        if self._buffered_inputs is None or self._step % (per_batch * self.num_iterations) == 0:
            batch = self._generate_and_score_completions(generation_batch)
            updates = self.alloy_config.rollout.updates
            loss = self.alloy_config.loss
            self._buffered_inputs = micro_batches(
                batch,
                updates,
                per_batch // updates,
                # bnpo divides each micro-batch by its own tokens, so it needs them mixed.
                by_length=loss.kind != "bnpo",
                # The other kinds count rows.
                drop_idle=loss.kind in ("dapo", "cispo") and loss.kl_coef == 0,
                agree=lambda rows: max(gather_object([rows])),
            )
        return self._buffered_inputs[self._step % per_batch]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        loss = self.alloy_config.loss
        every = gather_object(self._rewards) if loss.scale_rewards == "batch" else self._rewards
        advantages = group_advantages(every, self.num_generations, loss.baseline, loss.scale_rewards)
        if loss.scale_rewards == "batch":
            mine = len(self._rewards)
            start = self.accelerator.process_index * mine
            advantages = advantages[start : start + mine]
        # What carries no loss has no advantage either: it is neither counted nor passed through the model.
        carries = (batch["completion_mask"] * batch["tool_mask"]).any(1)
        batch["advantages"] = advantages.to(carries.device) * carries
        self._metrics["train"]["completions/with_advantage"].append(
            self.accelerator.gather((batch["advantages"] != 0).float()).mean().item()
        )
        return batch

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._logprobs = found[0].detach()
        return found

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        # Before the first update of a batch the policy is the one that sampled it; later TRL's record is.
        trainer = inputs.get("old_per_token_logps", self._logprobs)
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        if (
            self._step % (self.args.steps_per_generation * self.num_iterations)
            < self.args.steps_per_generation
        ):
            self.gap.add(trainer - inputs["sampling_per_token_logps"], mask)
        if self.accelerator.sync_gradients:
            self._log_gap()
        return loss

    def _log_gap(self) -> None:
        device = self.accelerator.device
        sums = self.accelerator.reduce(self.gap.sums.to(device), reduction="sum")
        largest = self.accelerator.gather(torch.tensor(self.gap.largest, device=device)).max()
        found = gap_metrics(sums, float(largest))
        self.gap = SamplerGap()
        for name, value in found.items():
            self._metrics["train"][f"sampler_gap/{name}"].append(value)
        limit = self.alloy_config.rollout.gap_warning
        if found and found["mean"] > limit and is_main_process():
            print(
                f"warning: step {self.state.global_step + 1}: the sampler's log-probabilities are "
                f"{found['mean']:.3f} nats from the trainer's in the mean (at most {found['max']:.2f}; effective "
                f"sample share {found['effective']:.2f}); rollout.gap_warning = {limit}. Set "
                "train.precision=float32, or rollout.engine=transformers, to see which side is wrong.",
                file=sys.stderr,
            )

    # Checkpoints

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        self.selection.rewind(-1)
        if resume_from_checkpoint is not None:
            self._restore(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def write_beside(self, folder: Path) -> None:
        tensors, state = self._state_files(folder)
        # What was trained on is made anew.
        pending = self._step % (self.args.steps_per_generation * self.num_iterations) != 0
        save_file(flatten(self._buffered_inputs or []) if pending else {}, tensors)
        write_atomically(
            state,
            json.dumps(
                {
                    "micro_steps": self._step,
                    "draws": {label: draw.state() for label, draw in self.sampler.draws.items()},
                    "profiled": self.profiled(),
                }
            ),
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.selection.clean(self.state.global_step)

    def _state_files(self, folder: Path) -> tuple[Path, Path]:
        rank = self.accelerator.process_index
        return folder / f"rollouts-{rank}.safetensors", folder / f"rollouts-{rank}.json"

    def _restore(self, checkpoint: Path) -> None:
        """Take up the rollouts that were not trained on yet, and the draws, where they were."""
        tensors, path = self._state_files(checkpoint)
        if not path.is_file():
            raise StageError(
                f"{path} is not there: the checkpoint was written by another number of processes. Run with "
                "that number, or with --force."
            )
        state = json.loads(path.read_text())
        self._step = state["micro_steps"]
        device = str(self.accelerator.device)
        self._buffered_inputs = unflatten(load_file(tensors, device=device)) or None
        curriculum = self.alloy_config.curriculum if state["profiled"] else None
        for label, drawn in state["draws"].items():
            self.sampler.draws[label] = TaskDraw(self.sampler.tasks[label], curriculum)
            self.sampler.draws[label].restore(drawn)
        self.selection = Selection(self.run.folder)
        self.selection.rewind(int(checkpoint.name.rpartition("-")[2]))


class _Moments(TrainerCallback):
    """Tells the trainer when training begins and when a step is done."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.after_step():
            control.should_training_stop = True


class _EngineContext:
    """The engine for one generation: the live model, gathered where it is sharded, or vLLM in step with it."""

    def __init__(self, trainer: PolicyTrainer) -> None:
        self.trainer = trainer
        self.context: Any = None

    def __enter__(self) -> Engine:
        trainer = self.trainer
        rollout = trainer.alloy_config.rollout
        if trainer.use_vllm:
            if trainer.state.global_step != trainer._last_loaded_step:
                self._give_weights()
                trainer._last_loaded_step = trainer.state.global_step
            if trainer.server_engine is not None:
                return trainer.server_engine
            from alloy.rollout.vllm_engine import VllmEngine

            return VllmEngine(trainer.vllm_generation.llm, trainer.processing_class, rollout.grace_tokens)
        self.context = unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)
        model = self.context.__enter__()
        return TransformersEngine(model, trainer.processing_class, rollout.batch_size, rollout.grace_tokens)

    def _give_weights(self) -> None:
        trainer = self.trainer
        if trainer.server_engine is None:
            trainer.vllm_generation.sync_weights()
            return
        from alloy.rollout.vllm_server import answering

        with answering(trainer.alloy_config.rollout.server_url):
            trainer.vllm_generation.sync_weights()

    def __exit__(self, *error: Any) -> None:
        if self.context is not None:
            self.context.__exit__(*error)


def _gathered(mine: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What every process found, in all of them."""
    return {label: dict(gather_object(list(found.items()))) for label, found in mine.items()}


def _reward_function(label: str, trainer: PolicyTrainer) -> Any:
    def reward(*, environment: list[str], alloy_reward: list[float | None], **_: Any) -> list[float | None]:
        return [
            value if mine == label else None for mine, value in zip(environment, alloy_reward, strict=True)
        ]

    reward.__name__ = label
    return reward


def first_metrics(history: Sequence[dict[str, Any]], key: str, count: int = 3) -> tuple[float, float]:
    """The mean of a logged number over its first and its last entries."""
    given = [entry[key] for entry in history if entry.get(key) is not None]
    values = [float(value) for value in given if value == value]
    if not values:
        return 0.0, 0.0
    return sum(values[:count]) / len(values[:count]), sum(values[-count:]) / len(values[-count:])
