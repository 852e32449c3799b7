"""Rollouts of tasks: the policy writes, the world answers, up to a limit of turns.

Tokens that the policy wrote are kept as they are: what the world says is tokenised on its own and
appended, so that nothing is ever tokenised twice.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alloy.chat import parse_completion
from alloy.environments.registry import Environments
from alloy.environments.task import Message, Task, World
from alloy.rollout.engine import Engine, Generation, Sampling
from alloy.template import chat_template, encode_prompt, tool_turn_ids
from alloy.tool_calls import Notation
from alloy.verify.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(slots=True)
class Rollout:
    """What a policy did with a task.

    Attributes:
        prompt_ids: up to where the policy begins to write.
        token_ids: all that followed: the policy's tokens and, between its turns, the world's.
        completion_mask: 1 where the policy wrote the token; 0 for the world's and for forced ones.
        logprobs: of the tokens, 0.0 where the policy did not write.
        finished: whether every turn ended by itself within its limit.
    """

    task: Task
    thinking: bool
    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    completion_mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of each turn of the policy in `token_ids`."""
    finished: bool = False
    verdict: Verdict | None = None

    @property
    def answer(self) -> str:
        last = next((turn for turn in reversed(self.messages) if turn["role"] == "assistant"), {})
        return str(last.get("content") or "")


@dataclass(frozen=True)
class RolloutPlan:
    """How tasks are rolled out.

    Attributes:
        max_turns: of the policy in one conversation with tools.
        budget: tokens of thinking a turn; None is unlimited.
    """

    sampling: Sampling
    max_turns: int = 6
    budget: int | None = None


def roll_out(
    tasks: Sequence[Task],
    thinking: Sequence[bool],
    engine: Engine,
    tokenizer: "PreTrainedTokenizerBase",
    environments: Environments,
    plan: RolloutPlan,
    seed: int,
    *,
    judge: bool = True,
) -> list[Rollout]:
    """One rollout a task, as many in step as the engine takes at once.

    Args:
        thinking: on or off, for each task.
        judge: whether the environments judge what came of it.
    """
    rollouts = [
        Rollout(task, on, encode_prompt(tokenizer, task.messages, task.tools, on))
        for task, on in zip(tasks, thinking, strict=True)
    ]
    worlds: list[World | None] = [environments[task.environment].open(task) for task in tasks]
    order = list(range(len(rollouts)))
    size = engine.batch_size or max(len(order), 1)
    if len(order) > size:  # longest first: conversations of like lengths pad little
        order.sort(key=lambda i: -len(rollouts[i].prompt_ids))
    for start in range(0, len(order), size):
        group = [(rollouts[i], worlds[i]) for i in order[start : start + size]]
        _converse(group, engine, tokenizer, plan, random.Random(f"{seed}/{start}"))
    if judge:
        verdicts = environments.judge(
            [(r.task, r.messages, w) for r, w in zip(rollouts, worlds, strict=True)]
        )
        for rollout, verdict in zip(rollouts, verdicts, strict=True):
            rollout.verdict = verdict
    return rollouts


def _converse(
    group: Sequence[tuple[Rollout, World | None]],
    engine: Engine,
    tokenizer: "PreTrainedTokenizerBase",
    plan: RolloutPlan,
    rng: random.Random,
) -> None:
    """Each round generates for every conversation of the group that goes on."""
    # Behind a prompt without tools there may be a world all the same, to see whether one is called.
    called = any(world is not None for _, world in group)
    notation: Notation = chat_template(tokenizer).notation if called else "hermes"
    active = [(rollout, world, None) for rollout, world in group]
    for turn in range(plan.max_turns):
        if not active:
            break
        last = turn + 1 == plan.max_turns
        generations = engine.generate(
            [rollout.prompt_ids + rollout.token_ids for rollout, _, _ in active],
            plan.sampling,
            rng.getrandbits(31),
            budgets=[plan.budget if rollout.thinking else None for rollout, _, _ in active],
            states=[state for _, _, state in active] if called and not last else None,
        )
        going_on = []
        for (rollout, world, _), generation in zip(active, generations, strict=True):
            message = _append_turn(rollout, generation, tokenizer, notation)
            answers = _answer(message, world) if generation.finished else []
            rollout.finished = generation.finished and not (answers and last)
            if answers and not last:
                _append_answers(rollout, answers, tokenizer)
                going_on.append((rollout, world, generation.state))
        active = going_on


def _append_turn(
    rollout: Rollout, generation: Generation, tokenizer: "PreTrainedTokenizerBase", notation: Notation
) -> Message:
    start = len(rollout.token_ids)
    rollout.token_ids += generation.token_ids
    rollout.completion_mask += [1 - forced for forced in generation.forced]
    rollout.logprobs += generation.logprobs or [0.0] * len(generation.token_ids)
    rollout.turns.append((start, len(rollout.token_ids)))
    text = tokenizer.decode(generation.token_ids, skip_special_tokens=False)
    message = parse_completion(
        text.removesuffix(tokenizer.eos_token), rollout.thinking, notation, rollout.task.tools
    )
    rollout.messages.append(message)
    return message


def _answer(message: Message, world: World | None) -> list[str]:
    """What the tools say to the calls of a turn; none where nothing was called or nobody listens."""
    if world is None:
        return []
    answers = [world.call(call["name"], call["arguments"]) for call in message.get("tool_calls", [])]
    return answers + ['{"error": "the call cannot be read"}' for _ in message.get("invalid_calls", [])]


def _append_answers(rollout: Rollout, answers: list[str], tokenizer: "PreTrainedTokenizerBase") -> None:
    rollout.messages += [{"role": "tool", "content": answer} for answer in answers]
    ids = tool_turn_ids(tokenizer, answers, rollout.thinking)
    rollout.token_ids += ids
    rollout.completion_mask += [0] * len(ids)
    rollout.logprobs += [0.0] * len(ids)


def sample_row(
    rollout: Rollout, tokenizer: "PreTrainedTokenizerBase", step: int, **more: Any
) -> dict[str, Any]:
    """A line of samples.jsonl."""
    verdict = rollout.verdict
    return {
        "step": step,
        "environment": rollout.task.environment,
        "task": rollout.task.id,
        "thinking": rollout.thinking,
        "prompt": "\n".join(str(turn.get("content") or "") for turn in rollout.task.messages),
        "completion": tokenizer.decode(rollout.token_ids, skip_special_tokens=False),
        "reward": verdict.reward if verdict else None,
        "status": verdict.status if verdict else "not judged",
        **more,
    }
