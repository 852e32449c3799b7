"""One SFT stage from top to bottom: parent, data, trainer, train, artifact."""

from typing import Any

import torch
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

from alloy.artifact import Artifact, Parent, Run
from alloy.data.collate import PackedCollator
from alloy.data.prepare import prepare
from alloy.policy import (
    computes_bfloat16,
    device_name,
    load_model,
    load_tokenizer,
    lora_to_peft,
    save_trained,
)
from alloy.stage import say
from alloy.training import RunCallback, common_arguments, equip, last_checkpoint
from sft.config import SftConfig


def train(config: SftConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    tokenizer = load_tokenizer(parent.path)
    # The data is read whole before the weights are: what is wrong with it is told first.
    prepared = prepare(config.data, tokenizer, config.train.max_sequence_tokens, config.seed)
    counts = prepared.counts
    say(
        f"  {counts['examples']:,.0f} examples, {counts['tokens']:,.0f} tokens in {counts['sequences']:,.0f} sequences "
        f"({counts['fill']:.1%} full); {counts['thinking_off']:,.0f} rows with thinking off"
    )
    run.begin()
    model = load_model(parent.path, "bfloat16" if _pure_bfloat16(config) else "float32")
    trainer = SFTTrainer(
        model=model,
        args=to_trl(config, run),
        train_dataset=prepared.dataset,
        processing_class=tokenizer,
        peft_config=lora_to_peft(config.lora),
        data_collator=None if torch.cuda.is_available() else PackedCollator(tokenizer.pad_token_id),
        callbacks=[RunCallback(run)],
    )
    equip(trainer, config.optim)
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    save_trained(trainer, tokenizer, run.folder / "model")
    seen = counts["tokens"] / counts["sequences"] * _sequences(config, trainer.accelerator.num_processes)
    metrics = {"loss": _last_loss(trainer), **{f"data/{key}": value for key, value in counts.items()}}
    return run.finish("policy", metrics, tokens=round(seen), device=device_name())


def to_trl(config: SftConfig, run: Run) -> TrlConfig:
    """The one place that knows TRL's names for this stage."""
    return TrlConfig(
        **common_arguments(config, run),
        # The dataset comes tokenised, masked and packed: TRL must neither cut nor pack it again.
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        # On a GPU the documents are laid end to end for the variable-length attention kernels.
        padding_free=torch.cuda.is_available(),
        dataset_kwargs={"skip_prepare_dataset": True},
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
