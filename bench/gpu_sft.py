"""SFT on packed sequences: real tokens a second, and the share of the device's operations that they are."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu_child import clock, plain, tuned
from bench.gpu_sizes import Sizes
from bench.packing import draw
from bench.sft_throughput import examples, our_dataset, trl_dataset


def measure(system: str, sizes: Sizes, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """One run: `rate` in real tokens a second, `operations` a second, `settings` of ours."""
    from alloy.device import settle
    from alloy.plan.source import read_shape
    from alloy.policy import load_tokenizer
    from sft.plan import work

    tokenizer = load_tokenizer(model)
    median = sizes.sequence // 20
    lengths = draw(_enough(sizes), median, above=sizes.sequence, seed=seed)
    # Nothing is longer than a sequence: TRL would cut it, and ours would not.
    rows = examples(tokenizer, np.minimum(lengths, sizes.sequence), seed)
    settled = settle(config(sizes, model, folder, seed), work)
    make = ours if system == "ours" else trl
    trainer, timed = make(system, settled, tokenizer, rows, model, folder, sizes, seed)
    batches: list[list[int]] = []
    collate = trainer.data_collator

    def counting(batch: Any) -> Any:
        batches.append([length for row in batch for length in row["seq_lengths"]])
        return collate(batch)

    trainer.data_collator = counting
    trainer.train()
    # A batch may be collated before its step: those of the steps that were timed are taken by their number.
    documents = [length for batch in batches[sizes.warm : sizes.steps] for length in batch]
    shape = read_shape(str(model))
    operations = sum(3 * n * (shape.operations(n) + shape.head_operations) for n in documents)
    return {
        "rate": sum(documents) / timed.seconds,
        "operations": operations / timed.seconds,
        "seconds": timed.seconds,
        "tokens": sum(documents),
        "settings": settings(trainer),
    }


def settings(trainer: Any) -> dict[str, Any]:
    """What matters on a GPU, as it was in the end."""
    arguments = trainer.args
    return {
        "attention": trainer.model.config._attn_implementation,
        "bfloat16": arguments.bf16,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "fused_kernels": arguments.use_liger_kernel,
        "optimizer": str(getattr(arguments.optim, "value", arguments.optim)),
    }


def _enough(sizes: Sizes) -> int:
    """Examples for more sequences than are trained on: one example fills a sixth of a sequence, more or less."""
    return max(32, 12 * sizes.steps * sizes.sequences)


def config(sizes: Sizes, model: Path, folder: Path, seed: int) -> Any:
    from alloy.config import parse
    from sft.config import SftConfig

    values = {
        "model": str(model), "output": str(folder / "run"), "seed": seed, "optim": {"learning_rate": 1e-5},
        "data": {"sources": [{"environment": "math", "rows": 1}]},  # the examples are given instead
        "train": {"max_steps": sizes.steps, "per_device_batch_size": sizes.sequences,
                  "max_sequence_tokens": sizes.sequence},
        "logging": {"every_steps": sizes.steps, "tensorboard": False},
    }  # fmt: skip
    return parse(SftConfig, values, "bench.gpu")


def ours(
    _: str, settled: Any, tokenizer: Any, rows: Any, model: Path, folder: Path, sizes: Sizes, seed: int
) -> Any:
    """The stage's own trainer, arguments, collator and attention."""
    from alloy.artifact import open_run
    from alloy.policy import load_for_training
    from alloy.training import equip
    from sft.train import SafeSFTTrainer, collator, to_trl

    run, _parents = open_run(settled)
    arguments = to_trl(settled, run)
    loaded = load_for_training(model, arguments)
    timed = clock(sizes.warm)
    trainer = SafeSFTTrainer(
        model=loaded,
        args=arguments,
        train_dataset=our_dataset(folder, rows, sizes.sequence),
        processing_class=tokenizer,
        data_collator=collator(settled, loaded, tokenizer, model),
        callbacks=[timed],
    )
    equip(trainer, settled.optim)
    return trainer, timed


def trl(
    system: str, settled: Any, tokenizer: Any, rows: Any, model: Path, folder: Path, sizes: Sizes, seed: int
) -> Any:
    """TRL's trainer and packing; `trl tuned` with the settings that Alloy decided on."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import is_flash_attn_2_available
    from trl import SFTConfig, SFTTrainer

    # TRL's documentation asks for it where sequences are packed.
    attention = "flash_attention_2" if is_flash_attn_2_available() else "sdpa"
    timed = clock(sizes.warm)
    arguments = SFTConfig(
        **plain(folder / "trl", sizes, seed),
        **(tuned(settled) if system == "trl tuned" else {}),
        per_device_train_batch_size=sizes.sequences,
        max_length=sizes.sequence,
        packing=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32", attn_implementation=attention),
        args=arguments,
        train_dataset=trl_dataset(rows),
        processing_class=tokenizer,
        callbacks=[timed],
    )
    return trainer, timed
