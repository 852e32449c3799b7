"""Real tokens trained a second on a long-tailed mixture of lengths, beside TRL's packed and unpacked runs.

The same examples, model, sequence length and machine; the systems take turns. TRL's packing cuts what
is longer than a sequence, and its unpacked run, too: the answers that lose their end are counted.
"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.outcome import parser, ratio_interval, tell
from bench.packing import draw

SYSTEMS = ("ours", "trl bfd", "trl unpacked")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--model", help="a model folder; the demo's shape with random weights when not given"
    )
    arguments.add_argument("--examples", type=int, default=600)
    arguments.add_argument("--steps", type=int, default=-1, help="every example once when not given")
    arguments.add_argument("--sequence", type=int, default=2048)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--packed-rows", type=int, default=4, help="sequences of a batch, packed")
    arguments.add_argument("--unpacked-rows", type=int, default=8, help="examples of a batch, unpacked")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), given)
    rows = [
        [f"{name}, seed {seed}", f"{found['rate']:,.0f}", str(found["lost"])]
        for seed, by_system in enumerate(measured)
        for name, found in by_system.items()
    ]
    result: dict[str, Any] = {}
    for peer in SYSTEMS[1:]:
        name = peer.replace(" ", "_")
        ratios = [found["ours"]["rate"] / found[peer]["rate"] for found in measured]
        result[f"ratio_to_{name}"], low, high = ratio_interval(ratios)
        result[f"ratio_to_{name}_interval"] = [low, high]
    for system in SYSTEMS:
        name = system.replace(" ", "_")
        result[f"{name}_tokens_per_second"] = float(np.mean([found[system]["rate"] for found in measured]))
        result[f"{name}_answers_lost"] = sum(found[system]["lost"] for found in measured)
    tell(
        "SFT throughput",
        ["system", "real tokens a second", "answers that lost their end"],
        rows,
        result,
        given.json,
    )


def measure(folder: Path, given: Any) -> list[dict[str, dict[str, Any]]]:
    from alloy.policy import load_tokenizer

    model = Path(given.model) if given.model else demo_model(folder / "model")
    tokenizer = load_tokenizer(model)
    found = []
    for seed in range(given.seeds):
        rows = examples(tokenizer, draw(given.examples, median=200, above=2000, seed=seed), seed)
        order = SYSTEMS[seed % 3 :] + SYSTEMS[: seed % 3]
        by_system = {
            name: run(name, model, tokenizer, rows, folder / f"{name} {seed}", given) for name in order
        }
        found.append({name: by_system[name] for name in SYSTEMS})
    return found


def examples(tokenizer: Any, lengths: Any, seed: int) -> list[dict[str, list[int]]]:
    """Tokenised examples: a prompt of an eighth, and an answer that ends in the end of turn."""
    rng = random.Random(seed)
    rows = []
    for length in np.maximum(lengths, 8).tolist():
        ids = [rng.randrange(20, 200) for _ in range(length - 1)] + [tokenizer.eos_token_id]
        mask = [0] * (length // 8) + [1] * (length - length // 8)
        rows.append({"input_ids": ids, "completion_mask": mask})
    return rows


def run(name: str, folder: Path, tokenizer: Any, rows: Any, output: Path, given: Any) -> dict[str, Any]:
    """Train some steps; real tokens a second without the first step, and answers without their end."""
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from alloy.attention import NAME
    from alloy.data.collate import FlatCollator
    from alloy.policy import load_model

    class Clock(TrainerCallback):
        began = ended = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended = time.perf_counter()
            if state.global_step == 1:
                self.began = self.ended

    counted: list[int] = []
    clock = Clock()
    ours, packed = name == "ours", name != "trl unpacked"
    shared: dict[str, Any] = {
        "output_dir": str(output), "max_steps": given.steps, "num_train_epochs": 1, "use_cpu": True, "bf16": False, "seed": 0,
        "per_device_train_batch_size": given.packed_rows if packed else given.unpacked_rows, "save_strategy": "no", "report_to": [],
        "disable_tqdm": True, "learning_rate": 1e-4, "gradient_checkpointing": False, "logging_steps": 1000,
    }  # fmt: skip
    if ours:
        dataset = our_dataset(output, rows, given.sequence)
        config = SFTConfig(
            **shared,
            max_length=None,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        lost = 0
    else:
        dataset = trl_dataset(rows)
        config = SFTConfig(**shared, max_length=given.sequence, packing=packed)
        lost = sum(len(row["input_ids"]) > given.sequence for row in rows)
    trainer = SFTTrainer(
        model=load_model(folder, attn_implementation=NAME if ours else "sdpa"),
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=FlatCollator() if ours else None,
        callbacks=[clock],
    )
    collate = trainer.data_collator

    def counting(batch: Any) -> Any:
        counted.append(sum(len(row["input_ids"]) for row in batch))
        return collate(batch)

    trainer.data_collator = counting
    trainer.train()
    # A batch may be collated before its step: those of the steps that were timed are taken by their number.
    trained = sum(counted[1 : trainer.state.global_step])
    return {"rate": trained / (clock.ended - clock.began), "lost": lost}


def our_dataset(folder: Path, rows: Any, capacity: int) -> Any:
    """The rows through Alloy's store and packing; what is longer than a sequence stands alone."""
    from datasets import Dataset

    from alloy.data.packing import best_fit
    from alloy.data.prepare import lay_out
    from alloy.data.sequences import Examples, Sequences
    from alloy.data.store import Portion, write_store

    lengths = np.array([len(row["input_ids"]) for row in rows])
    arrays = {
        "tokens": np.concatenate([row["input_ids"] for row in rows]),
        "mask": np.concatenate([row["completion_mask"] for row in rows]),
        "lengths": lengths,
        "losses": np.array([sum(row["completion_mask"]) for row in rows]),
        "rows": np.arange(len(rows)),
        "hashes": np.arange(len(rows)),
    }
    store = write_store(folder / "store", lambda append: append(Portion(arrays)))
    examples = Examples([store])
    bins = lay_out(examples.lengths, best_fit, capacity)
    chosen = np.arange(len(rows))
    order = np.random.default_rng(0).permutation(len(bins))
    return Dataset.from_dict({"sequence": order}).with_transform(
        Sequences(examples, chosen, bins, isolated=True)
    )


def trl_dataset(rows: Any) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def demo_model(folder: Path) -> Path:
    """The demo's shape with random weights and a small tokenizer."""
    from alloy.base import ModelShape
    from alloy.build_base import random_model, train_tokenizer
    from alloy.policy import save_policy, seed_everything

    seed_everything(0)
    shape = ModelShape(hidden_size=128, layers=4, heads=2, mlp_size=448, max_positions=1 << 17)
    tokenizer = train_tokenizer([f"{n} and {n * n}" for n in range(500)], 400)
    save_policy(random_model(shape, tokenizer), tokenizer, folder)
    return folder


if __name__ == "__main__":
    main()
