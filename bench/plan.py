"""The memory that `alloy plan` says a process takes, beside what it takes: SFT of random models on a CPU.

Unsharded, and under ZeRO-3 in two processes. What is measured is the peak of resident memory from where the
model is loaded to where the stage is finished, less what was resident before; under ZeRO-3 the larger process's.
"""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.outcome import parser, tell

SIZES = {
    # layers, hidden size, heads, key heads, size of the MLP
    "135M": (30, 576, 9, 3, 1536),
    "190M": (24, 768, 12, 4, 2048),
    "280M": (28, 896, 14, 2, 2432),
    "360M": (32, 960, 15, 5, 2560),
    "600M": (30, 1280, 20, 5, 3584),
}
"""Llama-shaped; those of 135M and 360M are SmolLM2's."""
DEFAULTS = {"none": ["135M", "360M", "600M"], "zero3": ["135M", "190M", "280M"]}
"""Two processes under ZeRO-3 need together three times as much as one without: gradients are averaged whole."""
VOCABULARY = 49152
ZERO3 = Path("configs/accelerate/cpu-zero3.yaml")


@dataclass(frozen=True)
class Case:
    """One run: a size, how it is divided, and settings that replace the config's."""

    size: str
    sharding: str
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        changed = [setting.rpartition(".")[2] for setting in self.settings]
        return ", ".join([self.size, "ZeRO-3" if self.sharding == "zero3" else "unsharded", *changed])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--sizes", nargs="+", choices=SIZES, help="135M, 360M and 600M; 280M at most sharded"
    )
    arguments.add_argument("--sharding", nargs="+", choices=["none", "zero3"], default=["none", "zero3"])
    arguments.add_argument("--rows", type=int, default=2, help="sequences at once in a process")
    arguments.add_argument("--tokens", type=int, default=256, help="of a sequence")
    arguments.add_argument(
        "--variants", action="store_true", help="the smallest also in bfloat16, checkpointed, accumulated"
    )
    given = arguments.parse_args()
    cases = [
        Case(size, sharding) for sharding in given.sharding for size in given.sizes or DEFAULTS[sharding]
    ]
    if given.variants:
        for setting in ("precision=bfloat16", "gradient_checkpointing=true", "gradient_accumulation_steps=2"):
            cases.append(Case(cases[0].size, "none", (f"train.{setting}",)))
    with tempfile.TemporaryDirectory() as folder:
        measured = {case.name: measure(case, Path(folder), given) for case in cases}
    found = {name: told for name, told in measured.items() if told is not None}
    if not found:
        sys.exit("No case fits into the memory that is left. Name smaller --sizes.")
    rows = [
        [
            name,
            f"{told['estimate_gib']:.2f}",
            f"{told['measured_gib']:.2f}",
            f"{told['ratio']:.3f}",
            told["while"],
        ]
        for name, told in found.items()
    ]
    worst = max(abs(told["ratio"] - 1) for told in found.values())
    tell(
        f"Memory of one process, {given.rows} sequences of {given.tokens} tokens",
        ["case", "planned, GiB", "measured, GiB", "ratio", "peak while"],
        rows,
        {"largest_error": worst, "cases": found},
        given.json,
    )


def measure(case: Case, folder: Path, given: Any) -> dict[str, Any] | None:
    """Planned and measured bytes of one case; None where this machine has not so many left."""
    from alloy.pipeline import load_stage_config
    from alloy.plan.launch import Launch, read_accelerate
    from alloy.plan.memory import memory_of
    from alloy.plan.source import read_shape
    from sft.plan import work

    model = folder / case.size
    if not (model / "config.json").is_file():
        # In a process of its own: what it leaves in memory would be missing beside the runs.
        making = multiprocessing.get_context("spawn").Process(target=make_model, args=(case.size, model))
        making.start()
        making.join()
    path = write_config(folder, model, given)
    launch = Launch(**read_accelerate(ZERO3)) if case.sharding == "zero3" else Launch(cpu=True)
    config = load_stage_config("sft", path, case.settings)
    peak = memory_of(work(config, launch), read_shape(str(model)), launch).peak  # type: ignore[arg-type]
    needed, left = 1.1 * launch.devices * peak.bytes, available_bytes()
    if needed > left:
        print(
            f"{case.name}: left out, {needed / 2**30:.1f} GiB are needed and {left / 2**30:.1f} are left",
            file=sys.stderr,
        )
        return None
    measured = run(case, path, folder)
    return {
        "ratio": peak.bytes / measured,
        "estimate_gib": peak.bytes / 2**30,
        "measured_gib": measured / 2**30,
        "while": peak.name,
        "kinds": {kind: size / 2**30 for kind, size in peak.kinds.items()},
    }


def available_bytes() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("MemAvailable:")).split()[1]) * 1024


def run(case: Case, config: Path, folder: Path) -> int:
    """Bytes of the largest process of a run."""
    out = folder / "measured.json"
    out.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "ALLOY_CACHE": str(folder / "cache"),
    }
    launcher = (
        ["-m", "accelerate.commands.launch", "--config_file", str(ZERO3)] if case.sharding == "zero3" else []
    )
    command = [
        sys.executable, *launcher, "-m", "bench.plan_process", str(out), "sft", str(config),
        f"output={folder / 'run'}", *case.settings,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{case.name}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return max(int(json.loads(line)["bytes"]) for line in out.read_text().splitlines())


def make_model(size: str, folder: Path) -> None:
    """A model of random weights, with a tokenizer of few tokens and a vocabulary that is mostly unused."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from alloy.build_base import train_tokenizer
    from alloy.policy import save_policy

    tokenizer = train_tokenizer([f"{n} and {n * n}" for n in range(500)], 400)
    torch.manual_seed(0)
    layers, hidden, heads, key_heads, mlp = SIZES[size]
    config = LlamaConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=key_heads,
        intermediate_size=mlp, vocab_size=VOCABULARY, max_position_embeddings=8192, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_policy(LlamaForCausalLM(config), tokenizer, folder)


def write_config(folder: Path, model: Path, given: Any) -> Path:
    """Two updates on sequences that are full: digits are one token each."""
    rng = random.Random(0)
    around = _tokens_around(model)
    rows = [
        {"prompt": "Go on.", "completion": "".join(rng.choices("0123456789", k=given.tokens - around))}
        for _ in range(8 * given.rows)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    path = folder / "sft.yaml"
    path.write_text(
        f"""\
model: {model}
data: {{sources: [{{path: {data}}}], workers: 1, checks: {{repeats: null}}}}
optim: {{learning_rate: 1.0e-5}}
train: {{max_steps: 2, per_device_batch_size: {given.rows}, max_sequence_tokens: {given.tokens}}}
logging: {{every_steps: 1, tensorboard: false}}
"""
    )
    return path


def _tokens_around(model: Path) -> int:
    """Tokens of an example without its digits."""
    from alloy.policy import load_tokenizer
    from alloy.template import encode_conversation

    turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "7"}]
    return len(encode_conversation(load_tokenizer(model), turns, thinking=False)[-1].input_ids) - 1


if __name__ == "__main__":
    main()
