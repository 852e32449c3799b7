"""Rollouts with a scripted engine: real tokenizer, real worlds, and a policy whose words are known."""

import json
from typing import Any

import pytest
from scripted_engine import Script

from alloy.chat import THINK_CLOSE, TURN_CLOSE
from alloy.environments.registry import Environments
from alloy.environments.task import Message, Task
from alloy.rollout.conversation import Rollout, RolloutPlan, roll_out, sample_row
from alloy.rollout.engine import Sampling
from alloy.template import encode_conversation, encode_prompt
from alloy.tool_calls import CALL_CLOSE, CALL_OPEN
from alloy.verify.verdict import Verdict

PLAN = RolloutPlan(Sampling(64), max_turns=4, budget=7)
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}


class Counter:
    """A world that adds."""

    def __init__(self) -> None:
        self.total = 0

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        if name != "add":
            return json.dumps({"error": f"no tool {name!r}"}, ensure_ascii=False)
        self.total += int(arguments.get("n", 0))
        return json.dumps({"total": self.total})


class CounterEnvironment:
    """Won where the total is the gold."""

    name = "counter"

    def tasks(self, split: Any, count: int, seed: int) -> list[Task]:
        message: Message = {"role": "user", "content": "Add up to 5."}
        return [Task(f"counter/{n}", self.name, "t", [message], [TOOL], {"total": 5}) for n in range(count)]

    def open(self, task: Task) -> Counter:
        return Counter()

    def judge(self, task: Task, completion: list[Message], world: Any) -> Verdict:
        return Verdict(float(world.total == task.gold["total"]))


def call(name: str = "add", **arguments: Any) -> str:
    return f"{CALL_OPEN}{json.dumps({'name': name, 'arguments': arguments})}{CALL_CLOSE}"


def think(text: str, answer: str) -> str:
    return f"{text}\n{THINK_CLOSE}\n{answer}"


def roll(
    tokenizer: Any, *scripts: list[str], plan: RolloutPlan = PLAN, thinking: bool = True
) -> tuple[list[Rollout], Script]:
    environment = CounterEnvironment()
    engine = Script(tokenizer, list(scripts))
    tasks = environment.tasks("train", len(scripts), 0)
    environments = Environments({"counter": environment})
    return roll_out(tasks, [thinking] * len(tasks), engine, tokenizer, environments, plan, 0), engine


def test_a_conversation_with_tools_is_the_one_that_sft_sees(tiny_tokenizer: Any) -> None:
    script = [think("first", call(n=2)), think("then", call(n=3) + call(n=0)), think("done", "It is 5.")]
    (rollout,), engine = roll(tiny_tokenizer, script)
    assert [turn["role"] for turn in rollout.messages] == [
        "assistant",
        "tool",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert [t["content"] for t in rollout.messages if t["role"] == "tool"] == [
        '{"total": 2}', '{"total": 5}', '{"total": 5}',
    ]  # fmt: skip
    assert (rollout.finished, rollout.answer) == (True, "It is 5.")
    assert rollout.verdict is not None
    assert rollout.verdict.reward == 1.0
    (expected,) = encode_conversation(
        tiny_tokenizer, [*rollout.task.messages, *rollout.messages], [TOOL], True
    )
    assert rollout.prompt_ids + rollout.token_ids == expected.input_ids
    assert [0] * len(rollout.prompt_ids) + rollout.completion_mask == expected.completion_mask
    # Each round is given all tokens so far, as they are.
    for start, (begin, _) in zip(engine.prompts, rollout.turns, strict=True):
        assert start == rollout.prompt_ids + rollout.token_ids[:begin]


def test_masks_and_logprobs_belong_to_the_policy_s_tokens(tiny_tokenizer: Any) -> None:
    (rollout,), _ = roll(tiny_tokenizer, [think("a", call(n=5)), think("b", "5")])
    assert len(rollout.token_ids) == len(rollout.completion_mask) == len(rollout.logprobs)
    for bit, logprob in zip(rollout.completion_mask, rollout.logprobs, strict=True):
        assert logprob == (-0.5 if bit else 0.0)
    written = [rollout.token_ids[start:end] for start, end in rollout.turns]
    assert [tiny_tokenizer.decode(ids) for ids in written] == [
        f"a\n{THINK_CLOSE}\n{call(n=5)}{TURN_CLOSE}",
        f"b\n{THINK_CLOSE}\n5{TURN_CLOSE}",
    ]
    assert sum(rollout.completion_mask) == sum(map(len, written))


def test_conversations_end_each_in_its_own_round(tiny_tokenizer: Any) -> None:
    rollouts, engine = roll(
        tiny_tokenizer,
        [think("a", call(n=5)), think("b", "5")],
        [think("no", "I give up.")],
        [think("x", call(n=1)), think("y", "1")],
    )
    assert engine.seen == [(3, [7, 7, 7]), (2, [7, 7])]
    assert [r.verdict.reward for r in rollouts if r.verdict] == [1.0, 0.0, 0.0]
    assert all(r.finished for r in rollouts)


def test_without_thinking_there_is_no_budget(tiny_tokenizer: Any) -> None:
    (rollout,), engine = roll(tiny_tokenizer, ["It is 5."], thinking=False)
    assert engine.seen == [(1, [None])]
    assert rollout.messages == [{"role": "assistant", "content": "It is 5."}]
    assert rollout.prompt_ids == encode_prompt(tiny_tokenizer, rollout.task.messages, [TOOL], False)


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (call("sub", n=1), '{"error": "no tool \'sub\'"}'),
        (f"{CALL_OPEN}{{{CALL_CLOSE}", '{"error": "the call cannot be read"}'),
        (
            f'{CALL_OPEN}{{"name": "\\ud800", "arguments": {{}}}}{CALL_CLOSE}',
            '{"error": "the call cannot be read"}',
        ),
    ],
)
def test_a_wrong_call_is_answered_and_the_policy_may_mend_it(
    tiny_tokenizer: Any, written: str, answer: str
) -> None:
    (rollout,), _ = roll(tiny_tokenizer, [think("a", written), think("b", call(n=5)), think("c", "5")])
    assert rollout.messages[1] == {"role": "tool", "content": answer}
    assert rollout.verdict is not None
    assert rollout.verdict.reward == 1.0


def test_the_limit_of_turns_leaves_a_conversation_unfinished(tiny_tokenizer: Any) -> None:
    plan = RolloutPlan(Sampling(64), max_turns=2)
    (rollout,), _ = roll(
        tiny_tokenizer, [think("a", call(n=5)), think("b", call(n=0)), think("c", "5")], plan=plan
    )
    assert not rollout.finished
    assert len(rollout.turns) == 2
    assert rollout.messages[-1]["role"] == "assistant"


def test_a_turn_that_ran_into_its_limit_calls_nothing(tiny_tokenizer: Any) -> None:
    (rollout,), _ = roll(tiny_tokenizer, [think("a", call(n=5)) + "..."])
    assert not rollout.finished
    assert rollout.verdict is not None
    assert rollout.verdict.reward == 0.0


def test_a_sample_row_is_json_and_tells_the_verdict(tiny_tokenizer: Any) -> None:
    (rollout,), _ = roll(tiny_tokenizer, [think("a", "6")])
    row = json.loads(json.dumps(sample_row(rollout, tiny_tokenizer, 3, score=1.5)))
    assert row == {
        "step": 3,
        "environment": "counter",
        "task": "counter/0",
        "thinking": True,
        "prompt": "Add up to 5.",
        "completion": f"a\n{THINK_CLOSE}\n6{TURN_CLOSE}",
        "reward": 0.0,
        "status": "ok",
        "score": 1.5,
    }
