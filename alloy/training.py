"""What every trainer of TRL is given the same way, and what it tells the run folder."""

import os
import sys
import time
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from alloy.artifact import Run, is_main_process, world_size
from alloy.checkpoints import WholeCheckpoints
from alloy.config import OptimConfig, TrainingConfig
from alloy.divisions import launched_by, parts
from alloy.errors import InputError
from alloy.finite import FiniteLoss
from alloy.kernels import LAYERS_ALONE, classes_left_alone
from alloy.policy import computes_bfloat16
from alloy.preemption import (
    Preempted,
    in_training,
    told_to_end,
    told_with_checkpoint,
    told_without_checkpoint,
)
from alloy.stage import say


def common_arguments(config: TrainingConfig, run: Run) -> dict[str, Any]:
    """The arguments that all TRL configs share, in their names."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.folder / "tensorboard")
    on_gpu = torch.cuda.is_available()
    divided = launched_by("DeepSpeed")
    if divided and not on_gpu:
        # Told of a CPU, accelerate leaves DeepSpeed out without a word; told no backend, it counts one process.
        os.environ["ACCELERATE_USE_CPU"] = "false"
    return {
        "output_dir": str(run.checkpoints),
        "seed": config.seed,
        "max_steps": config.train.max_steps,
        "per_device_train_batch_size": config.train.per_device_batch_size,
        "gradient_accumulation_steps": config.train.gradient_accumulation_steps,
        # `auto` was decided by `alloy.device.settle`; where nobody asked, it is off.
        "gradient_checkpointing": config.train.gradient_checkpointing is True,
        "use_liger_kernel": config.train.fused_kernels is True,
        "liger_kernel_config": LAYERS_ALONE,
        "learning_rate": config.optim.learning_rate,
        "lr_scheduler_type": config.optim.scheduler,
        "warmup_steps": config.optim.warmup_ratio,
        "weight_decay": config.optim.weight_decay,
        "adam_beta2": config.optim.beta2,
        "max_grad_norm": config.optim.max_grad_norm,
        "bf16": computes_bfloat16(config.train.precision),
        "use_cpu": not on_gpu and not divided,
        "ddp_backend": "gloo" if divided and not on_gpu else None,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": config.logging.every_steps,
        # `FiniteLoss` stops there instead.
        "logging_nan_inf_filter": False,
        "report_to": ["tensorboard"] if config.logging.tensorboard and is_main_process() else [],
        "disable_tqdm": True,
        "save_strategy": "steps" if config.train.save_steps else "no",
        "save_steps": config.train.save_steps or 0,
        "save_total_limit": config.train.keep_checkpoints,
    }


def one_device(arguments: TrainingArguments) -> None:
    """A process trains on one GPU: that others are there is said, and they are left alone.

    The trainer would cut every batch among them (`DataParallel`), packed documents in two, and TRL refuses that.
    """
    if arguments.n_gpu > 1:
        say(
            f"  one of {arguments.n_gpu} GPUs is used; all of them: "
            "accelerate launch --config_file configs/accelerate/ddp.yaml -m STAGE CONFIG"
        )
        arguments._n_gpu = 1


class SafeTrainer(WholeCheckpoints, FiniteLoss):
    """What every trainer of the project is before it is TRL's: nothing that was saved is lost."""

    def __init__(self, *given: Any, args: TrainingArguments, **named: Any) -> None:
        one_device(args)
        super().__init__(*given, args=args, **named)

    def train(self, *given: Any, **named: Any) -> Any:
        with in_training(), classes_left_alone(self.model):
            return super().train(*given, **named)


class RunCallback(TrainerCallback):
    """Logs to the run folder, shows progress, and ends a run that was told to."""

    def __init__(self, run: Run, offset: int = 0) -> None:
        self.run = run
        self.offset = offset
        self.began = time.time()
        self.last: dict[str, float] = {}
        self.ending = False

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
        self.run.log(self.offset + state.global_step, numbers)
        self.last |= numbers

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        show_progress(state.global_step, state.max_steps, self.began, self.last)
        if told_to_end(args.device):
            if parts() > 1:
                raise Preempted(told_without_checkpoint())
            self.ending = control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.ending:
            raise Preempted(told_with_checkpoint(state.global_step))

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

    Whatever it resumes from is read afterwards.

    Raises:
        InputError: Muon for weights that are sharded, or a trainer that is not divided as its launch asked.
    """
    trainer.remove_callback(PrinterCallback)
    _check_division(trainer)
    if trainer.args.device.type == "cpu":
        # accelerate numbers the CPU of a launch, and nothing can be read onto a CPU with a number.
        vars(trainer.args)["_setup_devices"] = trainer.accelerator.state.device = torch.device("cpu")
    if optim.kind == "muon":
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            raise InputError(
                "optim.kind = muon: it needs whole matrices, and DeepSpeed or FSDP cut them in pieces. "
                "Set optim.kind=adamw, or launch with cpu-ddp or ddp."
            )
        from alloy.optimizer import make_muon

        trainer.optimizer = make_muon(trainer.model, optim)


def _check_division(trainer: Any) -> None:
    """A launch that is not what it says trains something else: accelerate leaves parts of it out without a word."""
    for name, engaged in (("DeepSpeed", trainer.is_deepspeed_enabled), ("FSDP", trainer.is_fsdp_enabled)):
        if launched_by(name) and not engaged:
            raise InputError(
                f"the launch asks for {name}, and accelerate leaves it out on this machine. On a CPU launch with "
                "cpu-ddp, cpu-zero2 or cpu-zero3 of configs/accelerate; FSDP needs GPUs."
            )
    if trainer.args.world_size != world_size():
        raise InputError(
            f"the launch started {world_size()} processes, and this one sees {trainer.args.world_size}: each would "
            "train by itself. Launch with a file of configs/accelerate, cpu-ddp where there is no GPU."
        )
