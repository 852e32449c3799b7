"""The reward model from top to bottom: pairs, parent, trainer, train, what it is worth held out, artifact."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig
from trl import RewardConfig as TrlConfig
from trl import RewardTrainer

from alloy.adapter import lora_to_peft
from alloy.artifact import Artifact, Parent, Run
from alloy.checkpoints import last_checkpoint
from alloy.data.preference_shapes import Preference
from alloy.device import settle
from alloy.errors import InputError
from alloy.evaluate.statistics import Interval
from alloy.judges.reward_model import RewardModel, encode_answer, most_tokens
from alloy.length_order import LengthOrder
from alloy.policy import (
    device_name,
    load_for_training,
    load_tokenizer,
    save_trained,
    seed_everything,
)
from alloy.processes import gathered, share
from alloy.scorer import AutoScorer
from alloy.sharding import put_together
from alloy.stage import say
from alloy.training import RunCallback, SafeTrainer, common_arguments, equip
from rlhf.config import RewardModelConfig
from rlhf.held_out import describe, measure
from rlhf.preferences import read_preferences
from rlhf.reward_model_plan import work


def train(config: RewardModelConfig, run: Run, parents: dict[str, Parent]) -> Artifact:
    parent = parents["parent"]
    config = settle(config, work)
    preferences = read_preferences(config.data, config.seed)
    tokenizer = load_tokenizer(parent.path)
    most = config.train.max_sequence_tokens
    _check_positions(parent, tokenizer, most)
    measured, _ = _fitting(preferences.held_out, tokenizer, config, "held-out pairs")
    training, rows = _fitting(preferences.training, tokenizer, config, "pairs")
    run.begin()
    seed_everything(config.seed)
    arguments = to_trl(config, run)
    model = load_classifier(parent, arguments)
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = LengthGroupedTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_to_peft(config.lora, model, "SEQ_CLS"),
        callbacks=[RunCallback(run)],
    )
    equip(trainer, config.optim)
    trainer.train(resume_from_checkpoint=last_checkpoint(run))
    save_trained(trainer, tokenizer, run.folder / "model")
    told = describe(gathered(measure(RewardModel(run.folder / "model"), share(measured))))
    counts = preferences.counts | {
        "pairs": len(training),
        "held_out": len(measured),
        "too_long": len(preferences.training) - len(training),
        "held_out_too_long": len(preferences.held_out) - len(measured),
    }
    _say_held_out(told)
    tokens = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)
    return run.finish(
        "reward-model",
        _metrics(told) | {f"data/{name}": float(count) for name, count in counts.items()},
        tokens=tokens,
        device=device_name(),
        notes={"held_out": told},
    )


class LengthGroupedTrainer(SafeTrainer, RewardTrainer):
    """Pairs of like length share a batch, so that they need little padding."""

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthOrder:
        lengths = list((train_dataset or self.train_dataset)["length"])
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthOrder(batch, lengths, self.args.seed)


def load_classifier(parent: Parent, arguments: TrlConfig) -> Any:
    """A model with one score for a head, from a causal or an encoder checkpoint.

    A new head starts at zero: the first scores say nothing instead of something random. One that the
    checkpoint already has is kept.
    """
    model, loaded = load_for_training(
        parent.path,
        arguments,
        auto=AutoScorer,
        num_labels=1,
        output_loading_info=True,
    )
    heads = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    name, head = [(name, module) for name, module in heads if module.out_features == 1][-1]
    if f"{name}.weight" in set(loaded["missing_keys"]):
        with put_together(list(head.parameters()), change=True):
            for parameter in head.parameters():
                torch.nn.init.zeros_(parameter)
    return model


def _check_positions(parent: Parent, tokenizer: Any, most: int) -> None:
    """Raises:
    InputError: sequences may be longer than the model has positions for.
    """
    places = most_tokens(AutoConfig.from_pretrained(str(parent.path), trust_remote_code=False), tokenizer)
    if most > places:
        raise InputError(
            f"train.max_sequence_tokens = {most}: {parent.path} reads {places} at most. Lower it to {places}."
        )


def _fitting(
    pairs: Sequence[Preference], tokenizer: Any, config: RewardModelConfig, what: str
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """The pairs of which both sides fit into a sequence, with their tokens; TRL would leave out the others
    without a word.

    Raises:
        InputError: some do not and `data.too_long` is `stop`, or none does.
    """
    most = config.train.max_sequence_tokens
    rows = [_row(pair, tokenizer, config.data.margin_weight) for pair in pairs]
    lengths = [row["length"] for row in rows]
    too_long = sum(length > most for length in lengths)
    if too_long and (config.data.too_long == "stop" or too_long == len(rows)):
        remedy = "Raise it" if too_long == len(rows) else "Raise it, or set data.too_long=reject"
        raise InputError(
            f"{too_long} of {len(rows)} {what} are longer than train.max_sequence_tokens = {most}; the longest "
            f"has {max(lengths)}. {remedy}."
        )
    if too_long:
        say(
            f"  {too_long} of {len(rows)} {what} are longer than train.max_sequence_tokens = {most} and left out"
        )
    kept = [index for index, length in enumerate(lengths) if length <= most]
    return [pairs[i] for i in kept], [rows[i] for i in kept]


def _row(pair: Preference, tokenizer: Any, margin_weight: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "chosen_ids": encode_answer(tokenizer, pair.prompt, pair.chosen),
        "rejected_ids": encode_answer(tokenizer, pair.prompt, pair.rejected),
    }
    row["length"] = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
    weighed = pair.margin is not None and margin_weight > 0
    return row | ({"margin": pair.margin * margin_weight} if weighed and pair.margin is not None else {})


def _metrics(told: dict[str, Any]) -> dict[str, float]:
    accuracy = told["accuracy"]
    metrics = {
        "accuracy": accuracy["value"],
        "accuracy/low": accuracy["low"],
        "accuracy/high": accuracy["high"],
        "n": accuracy["n"],
        "calibration_error": told["calibration_error"],
    }
    for who, cell in told["prefers_longer"].items():
        metrics[f"prefers_longer/{who}"] = cell["value"]
    return metrics


def _say_held_out(told: dict[str, Any]) -> None:
    accuracy = Interval(**told["accuracy"])
    longer = "".join(f", {who} {Interval(**cell)}" for who, cell in told["prefers_longer"].items())
    say(f"  held-out accuracy {accuracy} (n={accuracy.n} pairs)")
    say(f"  calibration error {told['calibration_error']:.3f}; the longer answer preferred, %{longer}")


def to_trl(config: RewardModelConfig, run: Run) -> TrlConfig:
    """The one place that knows TRL's names for this stage."""
    return TrlConfig(
        **common_arguments(config, run),
        max_length=config.train.max_sequence_tokens,
        remove_unused_columns=False,
    )
