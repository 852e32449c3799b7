"""Known solutions as rollouts, for tasks that the policy never wins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alloy.environments.registry import Environments, solve
from alloy.environments.task import Task
from alloy.rollout.conversation import Rollout
from alloy.template import encode_conversation, encode_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def known_solutions(
    tasks: Sequence[Task], environments: Environments, tokenizer: "PreTrainedTokenizerBase"
) -> list[Rollout | None]:
    """The demonstration of each task in the tokens that the policy would have written.

    None where there is none, where it does not win (a careless demonstration is no solution), and where the
    template makes several sequences of it, so that it is no single completion.
    """
    verdicts = solve(environments, tasks)
    found: list[Rollout | None] = []
    for task, verdict in zip(tasks, verdicts, strict=True):
        if verdict is None or verdict.reward != 1.0:
            found.append(None)
            continue
        prompt = encode_prompt(tokenizer, task.messages, task.tools, True)
        sequences = encode_conversation(
            tokenizer, [*task.messages, *task.demonstration], task.tools, thinking=True
        )
        whole = sequences[0]
        if len(sequences) > 1 or whole.input_ids[: len(prompt)] != prompt:
            found.append(None)
            continue
        ids, mask = whole.input_ids[len(prompt) :], whole.completion_mask[len(prompt) :]
        found.append(Rollout(task, True, prompt, ids, mask, [0.0] * len(ids), finished=True, verdict=verdict))
    return found
