"""DPO: pairs a second, with what it takes to have the reference's log-probabilities."""

import random
from pathlib import Path
from typing import Any

from bench.gpu_child import clock, now, plain, tuned
from bench.gpu_sft import settings
from bench.gpu_sizes import Sizes

BETA = 0.1


def measure(system: str, sizes: Sizes, model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """One run: `rate` in pairs a second.

    Log-probabilities that are computed ahead are computed for every pair that is trained on: their time is
    added in the share of the pairs that were timed.
    """
    from alloy.device import settle
    from alloy.policy import load_tokenizer
    from dpo.plan import work

    tokenizer = load_tokenizer(model)
    rows = pairs(sizes, seed)
    settled = settle(config(sizes, model, folder, seed), work)
    timed = clock(sizes.warm)
    make = ours if system == "ours" else trl
    trainer = make(system, settled, tokenizer, rows, model, folder, sizes, seed, timed)
    trainer.train()
    share = (sizes.steps - sizes.warm) / sizes.steps
    seconds = timed.seconds + share * trainer.reference_seconds
    count = (sizes.steps - sizes.warm) * sizes.pairs
    return {
        "rate": count / seconds,
        "seconds": seconds,
        "reference_seconds": share * trainer.reference_seconds,
        "settings": settings(trainer),
    }


def pairs(sizes: Sizes, seed: int) -> list[dict[str, str]]:
    """Texts of digits, each of which is one token; as many as are trained on."""
    rng = random.Random(seed)

    def text(tokens: int) -> str:
        return "".join(rng.choices("0123456789", k=tokens))

    return [
        {"prompt": text(sizes.prompt), "chosen": text(sizes.answer), "rejected": text(sizes.answer)}
        for _ in range(sizes.steps * sizes.pairs)
    ]


def config(sizes: Sizes, model: Path, folder: Path, seed: int) -> Any:
    from alloy.config import parse
    from dpo.config import DpoConfig

    values = {
        "model": str(model), "output": str(folder / "run"), "seed": seed, "optim": {"learning_rate": 1e-5},
        "environments": {"workplace": {"tasks": 1, "validation_tasks": 1}},  # the pairs are given instead
        "rollout": {"max_completion_tokens": sizes.answer}, "beta": BETA, "sft_weight": 0.0,
        "train": {"max_steps": sizes.steps, "per_device_batch_size": sizes.pairs},
        "logging": {"every_steps": sizes.steps, "tensorboard": False},
    }  # fmt: skip
    return parse(DpoConfig, values, "bench.gpu")


def _timing_its_reference(cls: type[Any]) -> type[Any]:
    class Timed(cls):
        reference_seconds = 0.0

        def _precompute_ref_logps(self, *given: Any, **named: Any) -> Any:
            began = now()
            found = super()._precompute_ref_logps(*given, **named)
            self.reference_seconds += now() - began
            return found

    return Timed


def ours(
    _: str, settled: Any, tokenizer: Any, rows: Any, model: Path, folder: Path, sizes: Sizes, seed: int,
    timed: Any,
) -> Any:  # fmt: skip
    """The stage's own trainer on the same tokens."""
    from datasets import Dataset

    from alloy.artifact import open_run
    from alloy.policy import load_for_training
    from alloy.training import equip
    from dpo.trainer import PairCollator, WrittenTokensDPOTrainer, to_trl

    run, _parents = open_run(settled)
    arguments = to_trl(settled, run, seed)

    def encode(row: dict[str, str]) -> dict[str, list[int]]:
        found = {f"{part}_ids": tokenizer(text)["input_ids"] for part, text in row.items()}
        for side in ("chosen", "rejected"):
            found[f"{side}_ids"].append(tokenizer.eos_token_id)
            found[f"{side}_mask"] = [1] * len(found[f"{side}_ids"])
        return found

    trainer = _timing_its_reference(WrittenTokensDPOTrainer)(
        model=load_for_training(model, arguments),
        args=arguments,
        train_dataset=Dataset.from_list([encode(row) for row in rows]),
        processing_class=tokenizer,
        data_collator=PairCollator(tokenizer.pad_token_id),
        callbacks=[timed],
    )
    equip(trainer, settled.optim)
    return trainer


def trl(
    system: str, settled: Any, tokenizer: Any, rows: Any, model: Path, folder: Path, sizes: Sizes, seed: int,
    timed: Any,
) -> Any:  # fmt: skip
    """TRL's trainer; `trl tuned` with Alloy's settings, log-probabilities ahead among them."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    more = tuned(settled) | {"precompute_ref_log_probs": True} if system == "trl tuned" else {}
    return _timing_its_reference(DPOTrainer)(
        model=str(model),
        args=DPOConfig(
            **plain(folder / "trl", sizes, seed),
            **more,
            per_device_train_batch_size=sizes.pairs,
            max_length=sizes.prompt + sizes.answer + 1,
            beta=BETA,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[timed],
    )
