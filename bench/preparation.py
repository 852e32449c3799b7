"""From a JSONL file of conversations to packed training sequences: tokens a second, beside TRL's own way.

Both read the same file on the same number of processes and render the same template, whose
`{% generation %}` marks what carries loss. Ours also checks every row and looks for duplicates.
"""

import json
import random
import tempfile
import time
from pathlib import Path

from bench.outcome import parser, ratio_interval, tell
from bench.packing import draw
from bench.sft_throughput import demo_model

SEQUENCE = 4096


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=20_000)
    arguments.add_argument("--data", help="JSONL of `messages`; made-up conversations when not given")
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = demo_model(folder / "model")
        path = Path(given.data) if given.data else conversations(folder / "rows.jsonl", given.rows)
        found: dict[str, list[float]] = {"ours": [], "trl": []}
        for number in range(given.runs):
            order = ("ours", "trl") if number % 2 == 0 else ("trl", "ours")
            for system in order:
                way = ours if system == "ours" else trl
                tokens, seconds = way(path, model, folder / f"{system} {number}", given.processes)
                found[system].append(tokens / seconds)
                rows.append(
                    [f"{system}, run {number}", f"{tokens:,}", f"{seconds:.1f}", f"{tokens / seconds:,.0f}"]
                )
        ratios = [a / b for a, b in zip(found["ours"], found["trl"], strict=True)]
    ratio, low, high = ratio_interval(ratios)
    result = {
        "ratio": ratio,
        "ratio_interval": [low, high],
        "ours_tokens_per_second": sum(found["ours"]) / given.runs,
        "trl_tokens_per_second": sum(found["trl"]) / given.runs,
    }
    tell("preparing data", ["system", "tokens", "seconds", "tokens a second"], rows, result, given.json)


def conversations(path: Path, count: int) -> Path:
    """Conversations of one to three user turns, log-normal in length, no two equal."""
    words = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "ru") for b in ("ba", "do", "fe", "gi", "su", "ta")]
    rng = random.Random(0)
    lengths = draw(count, median=80, above=800, seed=0).tolist()
    with path.open("w", encoding="utf-8") as stream:
        for length in lengths:
            turns = []
            for _ in range(rng.randint(1, 3)):
                turns.append({"role": "user", "content": " ".join(rng.choices(words, k=12))})
                turns.append(
                    {"role": "assistant", "content": " ".join(rng.choices(words, k=max(1, length // 2)))}
                )
            stream.write(json.dumps({"messages": turns}) + "\n")
    return path


def ours(path: Path, model: Path, folder: Path, processes: int) -> tuple[int, float]:
    from alloy.data.config import DataConfig, SourceConfig
    from alloy.data.prepare import prepare
    from alloy.policy import load_tokenizer

    tokenizer = load_tokenizer(model)
    config = DataConfig(sources=[SourceConfig(path=path)], workers=processes, too_long="alone")
    began = time.perf_counter()
    prepared = prepare(config, tokenizer, SEQUENCE, 0, folder)
    return int(prepared.counts["tokens"]), time.perf_counter() - began


def trl(path: Path, model: Path, folder: Path, processes: int) -> tuple[int, float]:
    import datasets
    from trl import SFTConfig, SFTTrainer

    from alloy.policy import load_model, load_tokenizer

    datasets.disable_caching()
    tokenizer, policy = load_tokenizer(model), load_model(model)
    config = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to=[], max_length=SEQUENCE, packing=True,
        assistant_only_loss=True, dataset_num_proc=processes, max_steps=1,
    )  # fmt: skip
    began = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    trainer = SFTTrainer(model=policy, args=config, train_dataset=rows, processing_class=tokenizer)
    seconds = time.perf_counter() - began
    return sum(sum(lengths) for lengths in trainer.train_dataset["seq_lengths"]), seconds


if __name__ == "__main__":
    main()
