"""The thinking budget: what it costs a decoding step, and what it leaves of accuracy beside vLLM's own hard stop.

Cost: 64 completions at once, all of them thinking, their budgets spread so that at every step some are due.
The processor's own time is taken within the run and told as a share of the step's time, on either engine.
It is told also for vLLM's own budget, which is part of its sampler.

Accuracy: the same tasks, greedy, in one vLLM process; ours and vLLM's `thinking_token_budget` in turn, at the
same budgets. Well-formed is what `alloy.verify.format` says: thinking closed once, an answer behind it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.outcome import parser, ratio_interval, tell
from bench.rollouts import smollm2

TAUGHT = "runs/smollm2/sft-3/model"
"""SmolLM2, taught to think."""
LIMIT = 0.03
"""Of a decoding step."""
DATASETS = ["chain_sum", "leg_counting", "simple_equations", "gcd"]
"""Of reasoning_gym, as the smollm2 recipe has them."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--model", help=f"a model folder; {TAUGHT}, or SmolLM2 as it is and its cost alone"
    )
    arguments.add_argument("--batch-size", type=int, default=64, help="completions decoded at once")
    arguments.add_argument("--tokens", type=int, default=96, help="of a completion whose cost is measured")
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--budgets", type=int, nargs="+", default=[16, 64, 256])
    arguments.add_argument("--grace", type=int, default=16)
    arguments.add_argument("--items", type=int, default=200, help="tasks whose answers are judged")
    arguments.add_argument("--answer-tokens", type=int, default=160, help="room behind the thinking")
    arguments.add_argument("--without-answers", action="store_true", help="measure the cost alone")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not given.model and Path(TAUGHT).is_dir():
            given.model = TAUGHT
        if not given.model:
            given.model, given.without_answers = smollm2(Path(folder) / "model"), True
        costs, answers = measure(given)
    tell(
        f"The thinking budget, {given.batch_size} completions at once",
        ["", *COLUMNS],
        cost_rows(costs) + answer_rows(answers),
        outcome(costs, answers),
        given.json,
    )


def measure(given: argparse.Namespace) -> tuple[dict[str, list[tuple[float, float]]], list[dict[str, Any]]]:
    costs = costs_of_transformers(given)
    with opened(given) as bench:
        costs |= bench.costs()
        return costs, [] if given.without_answers else bench.answers()


COLUMNS = ("a step, ms", "of it the budget, ms", "share", "well-formed", "correct", "thinking, tokens")


class Clock:
    """Time spent inside functions that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def spread_budgets(given: argparse.Namespace) -> list[int]:
    """So that some of the rows are due at every step."""
    return [row * given.tokens // given.batch_size for row in range(given.batch_size)]


def draw_prompts(tokenizer: Any, count: int) -> tuple[list[Any], list[list[int]]]:
    """Tasks, and their prompts with thinking opened."""
    from alloy.environments.registry import make_environment
    from alloy.template import encode_prompt

    tasks = make_environment("reasoning_gym", {"datasets": DATASETS}).tasks("test", count, 0)
    return tasks, [encode_prompt(tokenizer, task.messages, task.tools, True) for task in tasks]


def costs_of_transformers(given: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Of `model.generate` and of our engine, for each run the seconds of a step, and of the budget in it."""
    import torch

    from alloy.policy import load_model, load_tokenizer
    from alloy.rollout.budget_transformers import ThinkingBudgetLogitsProcessor
    from alloy.rollout.engine import Sampling
    from alloy.rollout.transformers_engine import TransformersEngine
    from alloy.rollout.vllm_process import engine_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = "bfloat16" if device == "cuda" else engine_dtype()
    tokenizer, model = load_tokenizer(given.model), load_model(given.model, dtype).to(device).eval()
    _, prompts = draw_prompts(tokenizer, given.batch_size)
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(device)
    engine = TransformersEngine(model, tokenizer, given.batch_size, given.grace)
    engine.end_of_turn = -1  # every completion is as long as it may be
    own = engine._force
    found: dict[str, list[tuple[float, float]]] = {"model.generate": [], "transformers engine": []}
    for run in range(given.runs + 1):
        for name in list(found)[:: 1 if run % 2 else -1]:
            clock = Clock()
            began = time.perf_counter()
            if name == "model.generate":
                budget = ThinkingBudgetLogitsProcessor(tokenizer, spread_budgets(given), given.grace)
                model.generate(
                    **batch, max_new_tokens=given.tokens, min_new_tokens=given.tokens, do_sample=False,
                    pad_token_id=tokenizer.pad_token_id, logits_processor=[clock.around(budget)],
                )  # fmt: skip
            else:
                engine._force = clock.around(own)  # type: ignore[method-assign]
                engine.generate(prompts, Sampling(given.tokens, 0.0), 0, budgets=spread_budgets(given))
            if run:  # the first warms up
                seconds = time.perf_counter() - began
                found[name].append((seconds / given.tokens, clock.seconds / given.tokens))
    return found


@contextmanager
def opened(given: argparse.Namespace) -> Iterator["VllmBench"]:
    """vLLM in this process, with our processor and with its own budget."""
    from alloy.chat import THINK_CLOSE, THINK_OPEN
    from alloy.policy import load_tokenizer
    from alloy.rollout.vllm_process import running_llm

    tokenizer = load_tokenizer(given.model)
    tasks, prompts = draw_prompts(tokenizer, max(given.items, given.batch_size))
    longest = max(map(len, prompts)) + max(
        given.tokens, max(given.budgets) + given.grace + given.answer_tokens
    )
    own = {"reasoning_start_str": THINK_OPEN, "reasoning_end_str": THINK_CLOSE}
    with running_llm(
        Path(given.model), max_model_tokens=longest, max_sequences=given.batch_size, memory_share=0.5,
        more={"skip_tokenizer_init": False, "reasoning_config": own},
    ) as llm:  # fmt: skip
        bench = VllmBench(given, llm, tokenizer, tasks, prompts)
        yield bench
        bench.llm = None


class VllmBench:
    """One running engine that keeps both kinds of budget."""

    def __init__(
        self, given: argparse.Namespace, llm: Any, tokenizer: Any, tasks: list[Any], prompts: list[Any]
    ) -> None:
        self.given, self.llm, self.tokenizer, self.tasks, self.prompts = given, llm, tokenizer, tasks, prompts

    def costs(self) -> dict[str, list[tuple[float, float]]]:
        from vllm.v1.sample.thinking_budget_state import ThinkingBudgetStateHolder

        from alloy.rollout.budget_vllm import ThinkingBudgetLogitsProcessor

        parts: dict[str, tuple[Any, Sequence[str]]] = {
            "vLLM, ours": (ThinkingBudgetLogitsProcessor, ("update_state", "apply")),
            "vLLM, its own": (ThinkingBudgetStateHolder, ("sync_batch", "update_state", "apply_to_logits")),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
        for run in range(self.given.runs + 1):
            for name in list(parts)[:: 1 if run % 2 else -1]:
                cls, methods = parts[name]
                measured = self._cost(cls, methods, own=name == "vLLM, its own")
                if run:  # the first warms up
                    found[name].append(measured)
        return found

    def _cost(self, cls: Any, methods: Sequence[str], own: bool) -> tuple[float, float]:
        clock = Clock()
        kept = {name: getattr(cls, name) for name in methods}
        for name, method in kept.items():
            setattr(cls, name, clock.around(method))
        try:
            began = time.perf_counter()
            prompts = self.prompts[: self.given.batch_size]
            self._write(
                prompts, spread_budgets(self.given), self.given.tokens, own, min_tokens=self.given.tokens
            )
            seconds = time.perf_counter() - began
        finally:
            for name, method in kept.items():
                setattr(cls, name, method)
        return seconds / self.given.tokens, clock.seconds / self.given.tokens

    def answers(self) -> list[dict[str, Any]]:
        """For each budget and either kind: shares of well-formed and correct completions, tokens of thinking."""
        found = []
        for number, budget in enumerate([*self.given.budgets, None]):
            for own in (False, True) if number % 2 else (True, False):
                if budget is None and own:
                    continue
                limit = (max(self.given.budgets) if budget is None else budget) + self.given.grace
                prompts = self.prompts[: self.given.items]
                written = self._write(prompts, [budget] * len(prompts), limit + self.given.answer_tokens, own)
                found.append({"budget": budget, "own": own, **self._judge(written)})
        return found

    def _write(
        self, prompts: list[Any], budgets: Sequence[int | None], limit: int, own: bool, min_tokens: int = 0
    ) -> list[list[int]]:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        from alloy.rollout.vllm_process import no_compiling

        settings = []
        for budget in budgets:
            said = {"thinking_budget": -1 if budget is None else budget, "thinking_grace": self.given.grace}
            settings.append(
                SamplingParams(
                    max_tokens=limit,
                    min_tokens=min_tokens,
                    temperature=0.0,
                    thinking_token_budget=budget if own else None,
                    extra_args=None if own else said,
                )
            )
        with no_compiling():
            outputs = self.llm.generate(
                [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts], settings, use_tqdm=False
            )
        return [list(output.outputs[0].token_ids) for output in outputs]

    def _judge(self, written: list[list[int]]) -> dict[str, float]:
        from alloy.chat import parse_completion
        from alloy.environments.registry import Environments
        from alloy.rollout.budget import BudgetTokens, count_thinking
        from alloy.verify.format import verify_format

        tokens = BudgetTokens.of(self.tokenizer)
        texts = [
            self.tokenizer.decode([t for t in ids if t != self.tokenizer.eos_token_id]) for ids in written
        ]
        tasks = self.tasks[: len(texts)]
        environments = Environments.make({"reasoning_gym": {"datasets": DATASETS}})
        done = [(task, [parse_completion(text, True)], None) for task, text in zip(tasks, texts, strict=True)]
        verdicts = environments.judge(done)
        return {
            "well_formed": fmean(verify_format(text, thinking_opened=True).reward or 0.0 for text in texts),
            "correct": fmean(float(verdict is not None and verdict.reward == 1.0) for verdict in verdicts),
            "thinking_tokens": fmean(count_thinking(tokens, ids) for ids in written),
        }


def cost_rows(costs: dict[str, list[tuple[float, float]]]) -> list[list[str]]:
    rows = []
    for name, runs in costs.items():
        step, own = fmean(step for step, _ in runs), fmean(own for _, own in runs)
        share, low, high = ratio_interval([own / step for step, own in runs])
        rows.append(
            [
                name,
                f"{step * 1e3:.2f}",
                f"{own * 1e3:.3f}",
                f"{share:.2%} [{low:.2%}, {high:.2%}]",
                "",
                "",
                "",
            ]
        )
    return rows


def answer_rows(answers: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            f"budget {'none' if one['budget'] is None else one['budget']}, {'vLLM’s own' if one['own'] else 'ours'}",
            *("", "", ""),
            *(f"{one['well_formed']:.1%}", f"{one['correct']:.1%}", f"{one['thinking_tokens']:.1f}"),
        ]
        for one in answers
    ]


def outcome(costs: dict[str, list[tuple[float, float]]], answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON object: the largest share first."""
    shares = {name: ratio_interval([own / step for step, own in runs]) for name, runs in costs.items()}
    ours = {name: share for name, share in shares.items() if name != "vLLM, its own"}
    worst = max(share[0] for share in ours.values())
    found: dict[str, Any] = {"largest_share_of_a_step": worst, "within_limit": worst <= LIMIT, "limit": LIMIT}
    for name, (share, low, high) in shares.items():
        key = name.replace(", ", "_").replace(" ", "_").lower()
        found[f"{key}_share"], found[f"{key}_share_interval"] = share, [low, high]
        found[f"{key}_step_ms"] = fmean(step for step, _ in costs[name]) * 1e3
    return found | {"answers": answers}


if __name__ == "__main__":
    main()
