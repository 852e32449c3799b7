"""What every trainer of TRL is given the same way, and what it tells the run folder."""

import os
import shutil
import sys
import time
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from alloy.artifact import Run, is_main_process
from alloy.config import OptimConfig, TrainingConfig
from alloy.errors import InputError, StageError
from alloy.policy import computes_bfloat16


def common_arguments(config: TrainingConfig, run: Run) -> dict[str, Any]:
    """The arguments that all TRL configs share, in their names."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.folder / "tensorboard")
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(run.checkpoints),
        "seed": config.seed,
        "max_steps": config.train.max_steps,
        "per_device_train_batch_size": config.train.per_device_batch_size,
        "gradient_accumulation_steps": config.train.gradient_accumulation_steps,
        "gradient_checkpointing": config.train.gradient_checkpointing,
        "learning_rate": config.optim.learning_rate,
        "lr_scheduler_type": config.optim.scheduler,
        "warmup_steps": config.optim.warmup_ratio,
        "weight_decay": config.optim.weight_decay,
        "adam_beta2": config.optim.beta2,
        "max_grad_norm": config.optim.max_grad_norm,
        "bf16": computes_bfloat16(config.train.precision),
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": config.logging.every_steps,
        "report_to": ["tensorboard"] if config.logging.tensorboard and is_main_process() else [],
        "disable_tqdm": True,
        "save_strategy": "steps" if config.train.save_steps else "no",
        "save_steps": config.train.save_steps or 0,
        "save_total_limit": config.train.keep_checkpoints,
    }


class RunCallback(TrainerCallback):
    """Logs to the run folder, shows progress, and stops on a loss that is no number."""

    def __init__(self, run: Run, offset: int = 0) -> None:
        self.run = run
        self.offset = offset
        self.began = time.time()
        self.last: dict[str, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        numbers = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
        if not is_main_process() or not numbers:
            return
        loss = numbers.get("loss")
        if loss is not None and loss != loss:
            raise StageError(
                f"the loss is not a number at step {state.global_step}: lower optim.learning_rate or "
                "optim.max_grad_norm, then run again."
            )
        self.run.log(self.offset + state.global_step, numbers)
        self.last |= numbers

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        show_progress(state.global_step, state.max_steps, self.began, self.last)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if is_main_process() and sys.stderr.isatty():
            print(file=sys.stderr)


_SHOWN = ("loss", "reward", "rewards/margins", "accuracy", "kl")


def show_progress(step: int, total: int, began: float, numbers: dict[str, float]) -> None:
    """One line that is rewritten on a terminal; every tenth part of the way a line elsewhere."""
    if not is_main_process() or not total:
        return
    terminal = sys.stderr.isatty()
    if not terminal and step % max(1, total // 4) and step != total:
        return
    spent = time.time() - began
    left = spent / max(step, 1) * (total - step)
    told = "  ".join(f"{key.split('/')[-1]} {numbers[key]:.3f}" for key in _SHOWN if key in numbers)
    line = f"  step {step}/{total}  {told}  {spent:.0f} s, {left:.0f} s left"
    print(
        f"\r{line:100.100}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True
    )


def equip(trainer: Any, optim: OptimConfig) -> None:
    """Give a trainer the config's optimizer, and take its own printing: progress is shown by `RunCallback`.

    Raises:
        InputError: Muon for weights that are sharded.
    """
    trainer.remove_callback(PrinterCallback)
    if optim.kind == "muon":
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            raise InputError(
                "optim.kind = muon: it needs whole matrices, and DeepSpeed or FSDP cut them in pieces. "
                "Set optim.kind=adamw, or launch with cpu-ddp or ddp."
            )
        from alloy.optimizer import make_muon

        trainer.optimizer = make_muon(trainer.model, optim)


def last_checkpoint(run: Run) -> str | None:
    """The newest complete checkpoint of an interrupted run; broken ones are passed over with a warning."""
    found = sorted(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for checkpoint in reversed(found):
        # The trainer writes its state after weights and optimizer: with it, the checkpoint is whole.
        if (checkpoint / "trainer_state.json").is_file() and (checkpoint / "scheduler.pt").is_file():
            run.rewind(int(checkpoint.name.rpartition("-")[2]))
            return str(checkpoint)
        print(f"warning: {checkpoint} is not complete and is passed over", file=sys.stderr)
        shutil.rmtree(checkpoint, ignore_errors=True)
    run.rewind(-1)
    return None
