"""Tool rollouts a second on the transformers engine: many tasks in step against one at a time.

The same tasks of the workplace, worlds and verdicts included, on the same model, the two in turn. Without
--model it is the demo's model before any training, which would never call a tool: what it writes is thrown
away and the demonstration's turn stands in its place, token for token as many.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alloy.rollout.engine import Generation, Sampling
from bench.outcome import parser, ratio_interval, tell

BASE = Path(__file__).parents[1] / "configs" / "demo" / "base.yaml"
OPTIONS = {"rows_per_table": 4, "tools_offered": 2, "words": 5}
TARGET = 5.0


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", help="a model folder; the demo's untrained model when not given")
    arguments.add_argument("--tasks", type=int, default=64)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--max-tokens", type=int, default=64, help="of one turn")
    given = arguments.parse_args()
    from alloy.environments.registry import Environments

    environments = Environments.make({"workplace": OPTIONS})
    tasks = environments["workplace"].tasks("test", given.tasks, 0)
    model, tokenizer = load(given.model)
    known = {task.id: recital(tokenizer, task) for task in tasks} if given.model is None else {}
    system = (model, tokenizer, environments, known, given)
    measure(tasks[:2], system)
    found: dict[str, list[float]] = {"in_step": [], "one_by_one": []}
    for run in range(given.runs):
        for name in list(found)[:: 1 if run % 2 == 0 else -1]:
            groups = [tasks] if name == "in_step" else [[task] for task in tasks]
            began = time.perf_counter()
            rollouts = [rollout for group in groups for rollout in measure(group, system)]
            found[name].append(len(tasks) / (time.perf_counter() - began))
    ratio, low, high = ratio_interval(
        [a / b for a, b in zip(found["in_step"], found["one_by_one"], strict=True)]
    )
    rates = {name: ratio_interval(each) for name, each in found.items()}
    turns = sum(len(rollout.turns) for rollout in rollouts) / len(rollouts)
    result: dict[str, Any] = {
        "ratio": ratio,
        "ratio_interval": [low, high],
        **{f"{name}_rollouts_per_second": rate[0] for name, rate in rates.items()},
        **{f"{name}_rollouts_per_second_interval": list(rate[1:]) for name, rate in rates.items()},
        "tasks": len(tasks),
        "turns": turns,
        "written_tokens": sum(sum(r.completion_mask) for r in rollouts) / len(rollouts),
        "success": sum((r.verdict.reward or 0.0) for r in rollouts if r.verdict) / len(rollouts),
        "within_target": ratio >= TARGET,
    }
    names = {"in_step": f"{len(tasks)} in step", "one_by_one": "one at a time"}
    table = [
        [name, f"{rates[key][0]:,.1f} [{rates[key][1]:,.1f}, {rates[key][2]:,.1f}]"]
        for key, name in names.items()
    ]
    table.append(["ratio", f"{ratio:.1f} [{low:.1f}, {high:.1f}]"])
    title = (
        f"Tool rollouts: {turns:.1f} turns, {result['written_tokens']:.0f} written tokens, "
        f"{100 * result['success']:.0f}% won"
    )
    tell(title, ["", "rollouts a second"], table, result, given.json)


def measure(tasks: Sequence[Any], system: tuple[Any, Any, Any, Any, Any]) -> list[Any]:
    from alloy.rollout.conversation import RolloutPlan, roll_out
    from alloy.rollout.transformers_engine import TransformersEngine

    model, tokenizer, environments, known, given = system
    engine: Any = TransformersEngine(model, tokenizer, batch_size=len(tasks))
    if known:
        engine = Reciting(engine, [known[task.id] for task in tasks])
    plan = RolloutPlan(Sampling(given.max_tokens), max_turns=8)
    return roll_out(tasks, [True] * len(tasks), engine, tokenizer, environments, plan, seed=0)


class Reciting:
    """Pays for every token of a demonstration's turn and then writes that turn."""

    def __init__(self, engine: Any, recitals: Sequence[tuple[list[int], list[list[int]]]]) -> None:
        self.engine, self.grace, self.batch_size = engine, 0, engine.batch_size
        self.conversations = [(prompt, list(turns)) for prompt, turns in recitals]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        budgets: Sequence[int | None] | None = None,
        max_tokens: Sequence[int] | None = None,
        states: Sequence[Any] | None = None,
    ) -> list[Generation]:
        turns = [self._next(list(prompt)) for prompt in prompts]
        limits = [len(turn) for turn in turns]
        written = self.engine.generate(prompts, sampling, seed, max_tokens=limits, states=states)
        return [
            Generation(turn, [0] * len(turn), True, [0.0] * len(turn), drawn.state)
            for turn, drawn in zip(turns, written, strict=True)
        ]

    def _next(self, prompt: list[int]) -> list[int]:
        for asked, turns in self.conversations:
            if turns and prompt[: len(asked)] == asked:
                return turns.pop(0)
        raise SystemExit("a conversation goes on past its demonstration")


def recital(tokenizer: Any, task: Any) -> tuple[list[int], list[list[int]]]:
    """The tokens of a task's prompt, and of each turn of its demonstration with the end of turn."""
    from alloy.template import encode_conversation, encode_prompt

    (encoded,) = encode_conversation(tokenizer, [*task.messages, *task.demonstration], task.tools, True)
    turns: list[list[int]] = []
    before = 0
    for token, mask in zip(encoded.input_ids, encoded.completion_mask, strict=True):
        if mask and not before:
            turns.append([])
        if mask:
            turns[-1].append(token)
        before = mask
    return encode_prompt(tokenizer, task.messages, task.tools, True), turns


def load(folder: str | None) -> tuple[Any, Any]:
    """A model folder, or the model that the demo's first stage makes; on the GPU where there is one."""
    import torch

    from alloy.policy import load_model, load_tokenizer, seed_everything

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if folder is not None:
        return load_model(folder).to(device), load_tokenizer(folder)
    from alloy.base import BaseConfig
    from alloy.build_base import corpus_texts, random_model, train_tokenizer
    from alloy.config import parse, read_yaml

    values, places = read_yaml(BASE)
    config = parse(BaseConfig, values, str(BASE), places)
    seed_everything(config.seed)
    assert config.shape is not None
    tokenizer = train_tokenizer(corpus_texts(config.corpus, config.seed), config.vocabulary, config.phrases)
    return random_model(config.shape, tokenizer).to(device), tokenizer


if __name__ == "__main__":
    main()
