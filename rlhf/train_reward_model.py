"""The reward model from top to bottom: pairs, parent, trainer, train, held-out accuracy, artifact."""

from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig as TrlConfig
from trl import RewardTrainer

from alloy.artifact import Artifact, Parent, Run
from alloy.errors import InputError
from alloy.evaluate.statistics import mean_interval
from alloy.policy import device_name, load_model, load_tokenizer, lora_to_peft, save_trained, seed_everything
from alloy.stage import say
from alloy.training import RunCallback, common_arguments, equip, last_checkpoint
from rlhf.config import RewardModelConfig
from rlhf.preferences import Preference, read_preferences
from rlhf.scoring import RewardModel, encode_answer


def train(config: RewardModelConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    training, held_out = read_preferences(config.data, config.seed)
    tokenizer = load_tokenizer(parent.path)
    rows = _fitting([_row(pair, tokenizer) for pair in training], config.train.max_sequence_tokens)
    run.begin()
    seed_everything(config.seed)
    model = load_model(parent.path, auto=AutoModelForSequenceClassification, num_labels=1)
    # The new head starts at zero: the first scores say nothing instead of something random.
    torch.nn.init.zeros_(model.score.weight)
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = RewardTrainer(
        model=model,
        args=to_trl(config, run),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_to_peft(config.lora, "SEQ_CLS"),
        callbacks=[RunCallback(run)],
    )
    equip(trainer, config.optim)
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    save_trained(trainer, tokenizer, run.folder / "model")
    accuracy = held_out_accuracy(RewardModel(run.folder / "model"), held_out)
    say(f"  held-out accuracy {accuracy.percent()} (n={accuracy.n} pairs)")
    tokens = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    return run.finish(
        "reward-model",
        {
            "accuracy": accuracy.value,
            "accuracy/low": accuracy.low,
            "accuracy/high": accuracy.high,
            "n": accuracy.n,
        },
        tokens=tokens,
        device=device_name(),
    )


def held_out_accuracy(reward_model: RewardModel, pairs: list[Preference]) -> Any:
    """Share of pairs whose chosen answer scores higher, with its interval; a tie is half."""
    prompts = [pair.prompt for pair in pairs]
    chosen = reward_model.score(prompts, [pair.chosen for pair in pairs])
    rejected = reward_model.score(prompts, [pair.rejected for pair in pairs])
    return mean_interval([0.5 if c == r else float(c > r) for c, r in zip(chosen, rejected, strict=True)])


def _fitting(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The pairs of which both sides fit into a sequence; TRL would leave out the others without a word.

    Raises:
        InputError: none does.
    """
    fitting = [row for row in rows if max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= most]
    if not fitting:
        raise InputError(
            f"none of the {len(rows)} pairs fits into train.max_sequence_tokens = {most}. Raise it."
        )
    if len(fitting) < len(rows):
        left_out = len(rows) - len(fitting)
        say(
            f"  {left_out} of {len(rows)} pairs are longer than train.max_sequence_tokens = {most} and left out"
        )
    return fitting


def _row(pair: Preference, tokenizer: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "chosen_ids": encode_answer(tokenizer, pair.prompt, pair.chosen),
        "rejected_ids": encode_answer(tokenizer, pair.prompt, pair.rejected),
    }
    return row | ({"margin": pair.margin} if pair.margin is not None else {})


def to_trl(config: RewardModelConfig, run: Run) -> TrlConfig:
    """The one place that knows TRL's names for this stage."""
    return TrlConfig(**common_arguments(config, run), max_length=config.train.max_sequence_tokens)
