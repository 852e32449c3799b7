"""One SFT stage from top to bottom: parent, data, trainer, train, artifact."""

from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from alloy.adapter import lora_to_peft
from alloy.artifact import Artifact, Parent, Run, world_size
from alloy.attention import keep_documents_apart
from alloy.checkpoints import last_checkpoint
from alloy.data.collate import PaddedCollator
from alloy.data.prepare import prepare
from alloy.device import settle
from alloy.divisions import parts
from alloy.errors import InputError
from alloy.length_order import LengthOrder
from alloy.policy import (
    computes_bfloat16,
    device_name,
    load_for_training,
    load_tokenizer,
    save_trained,
)
from alloy.sequence_parallel import attend_divided, check_divisible, divide_sequences, refuse_to_go_on
from alloy.stage import say
from alloy.training import RunCallback, SafeTrainer, common_arguments, equip
from sft.config import SftConfig
from sft.plan import work


def train(config: SftConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    check_divisible(parent.path, config.train.save_steps)
    config = settle(config, work)
    tokenizer = load_tokenizer(parent.path)
    # The data is read whole before the weights are: what is wrong with it is told first.
    prepared = prepare(config.data, tokenizer, config.train.max_sequence_tokens, config.seed)
    counts = prepared.counts
    say(
        f"  {counts['examples']:,.0f} examples, {counts['tokens']:,.0f} tokens in {counts['sequences']:,.0f} sequences "
        f"({counts['fill']:.1%} full); {counts['thinking_off']:,.0f} rows with thinking off"
    )
    left_out = {name: counts[name] for name in ("rejected", "duplicates", "contaminated", "too_long")}
    if any(left_out.values()):
        say("  left out: " + ", ".join(f"{count:,.0f} {name}" for name, count in left_out.items() if count))
    run.begin()
    checkpoint = refuse_to_go_on(last_checkpoint(run))
    prepared.write_rejected(run.folder / "rejected.jsonl")
    precision = "bfloat16" if _pure_bfloat16(config) else "float32"
    arguments = to_trl(config, run)
    model = load_for_training(parent.path, arguments, precision)
    most = config.train.per_device_batch_size * config.train.max_sequence_tokens
    collate = collator(config, model, tokenizer, parent.path)
    collate = divide_sequences(model, collate, most, tokenizer.pad_token_id)
    trainer = (LengthGroupedTrainer if isinstance(collate, PaddedCollator) else SafeSFTTrainer)(
        model=model,
        args=arguments,
        train_dataset=prepared.dataset,
        processing_class=tokenizer,
        peft_config=lora_to_peft(config.lora, model),
        data_collator=collate,
        callbacks=[RunCallback(run)],
    )
    equip(trainer, config.optim)
    attend_divided(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    save_trained(trainer, tokenizer, run.folder / "model")
    seen = counts["tokens"] / counts["sequences"] * _sequences(config, world_size() // parts())
    metrics = {"loss": _last_loss(trainer), **{f"data/{key}": value for key, value in counts.items()}}
    return run.finish("policy", metrics, tokens=round(seen), device=device_name())


class SafeSFTTrainer(SafeTrainer, SFTTrainer):
    """TRL's trainer of this stage, safe."""


class LengthGroupedTrainer(SafeSFTTrainer):
    """Rows of like length share a batch, so that they need little padding."""

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthOrder:
        # Without the transform, which would read every sequence for its length.
        lengths = list((train_dataset or self.train_dataset).with_format(None)["tokens"])
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthOrder(batch, lengths, self.args.seed)


def collator(config: SftConfig, model: Any, tokenizer: Any, parent: Path) -> Any:
    """What lays sequences into a batch: padded row by row where the model cannot keep documents apart.

    Raises:
        InputError: packing is asked for, and the model would leak from one document into the next.
    """
    bfloat16 = computes_bfloat16(config.train.precision)
    found = keep_documents_apart(model, tokenizer.pad_token_id, bfloat16)
    if found is not None:
        return found
    if config.data.packing == "best-fit":
        raise InputError(
            f"{parent}: documents of one sequence would see each other (the model carries a state over their "
            "border, and neither its kernels nor a row for each document stop it there). Set data.packing=none, which batches "
            "examples of like length, or data.packing=concatenate to let them."
        )
    return PaddedCollator(tokenizer.pad_token_id)


def to_trl(config: SftConfig, run: Run) -> TrlConfig:
    """The one place that knows TRL's names for this stage."""
    return TrlConfig(
        **common_arguments(config, run),
        # The dataset comes tokenised, masked and packed: TRL must neither cut nor pack it again.
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        # The collator needs `seq_lengths`, which no model takes.
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        # Only what an accelerator computed can be put elsewhere.
        activation_offloading=config.train.activation_offloading and torch.cuda.is_available(),
    )


def _pure_bfloat16(config: SftConfig) -> bool:
    # An adapter's base may rest in bfloat16; weights that are trained keep float32 masters.
    return computes_bfloat16(config.train.precision) and config.lora is not None


def _sequences(config: SftConfig, processes: int) -> int:
    each = config.train.per_device_batch_size * config.train.gradient_accumulation_steps
    return config.train.max_steps * each * processes


def _last_loss(trainer: Any) -> float:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(losses[-1]) if losses else float(trainer.state.log_history[-1].get("train_loss", 0.0))
