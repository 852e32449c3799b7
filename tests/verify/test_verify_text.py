import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.verify.answer import Parts, split
from alloy.verify.choice import verify_choice
from alloy.verify.format import verify_format
from alloy.verify.length import verify_length
from alloy.verify.reasoning_gym import stated_answer, verify_reasoning_gym
from alloy.verify.schema import verify_schema


@pytest.mark.parametrize(
    ("completion", "opened", "parts"),
    [
        ("42", False, Parts("", "42")),
        ("<think>a</think>\n\n42", False, Parts("a", "42")),
        ("a</think>b</think>c", True, Parts("a</think>b", "c")),
        ("<think>a", False, Parts("a", None)),
        ("a", True, Parts("a", None)),
        ("<think></think>", False, Parts("", "")),
    ],
)
def test_split(completion: str, opened: bool, parts: Parts) -> None:
    assert split(completion, opened) == parts


@pytest.mark.parametrize(
    ("completion", "thinking_opened", "reward"),
    [
        ("a</think>b", True, 1.0),
        ("a</think>b", None, 1.0),
        ("a</think>b", False, 0.0),
        ("<think>a</think>b", False, 1.0),
        ("<think>a</think>b", None, 1.0),
        ("<think>a</think>b", True, 0.0),
        ("a</think> \n", True, 0.0),
        ("a</think>b</think>c", True, 0.0),
        ("<think>a</think>b<think>c</think>d", None, 0.0),
        ("a</think>b<think>", True, 0.0),
        ("b <think>a</think>c", None, 0.0),
        ("just b", None, 0.0),
        ("", None, 0.0),
    ],
)
def test_format(completion: str, thinking_opened: bool | None, reward: float) -> None:
    verdict = verify_format(completion, thinking_opened=thinking_opened)
    assert (verdict.reward, verdict.status) == (reward, "ok")


def test_format_with_reasoning_off() -> None:
    assert verify_format("an answer", thinking=False).reward == 1.0
    assert verify_format("</think>an answer", thinking=False).reward == 0.0
    assert verify_format(" ", thinking=False).parts == {"tags": 1.0, "answer": 0.0}


def test_length() -> None:
    completion = "<think>one two three</think>four five"
    assert verify_length(completion, maximum=2).reward == 1.0
    assert verify_length(completion, minimum=3).reward == 0.0
    assert verify_length(completion, minimum=3, maximum=3, part="thinking").reward == 1.0
    assert verify_length(completion, maximum=8, unit="characters").detail == "9 characters"
    assert verify_length(completion, maximum=7, unit="tokens", tokens=7).reward == 1.0
    assert verify_length(completion, maximum=6, unit="tokens", tokens=7).reward == 0.0
    assert verify_length(completion, unit="tokens").status == "error"
    assert verify_length("<think>one").status == "unparsable"


@pytest.mark.parametrize(
    "completion",
    [
        "B",
        "B.",
        "(B)",
        "**B**",
        "B) Paris",
        "\\boxed{B}",
        "\\boxed{\\text{(B)}}",
        "$\\boxed{\\textbf{B}}$",
        "The answer is B",
        "The answer is (B).",
        "the answer is b.",
        "The correct answer is: **B**",
        "The correct option is B because Paris is the capital.",
        "Answer: B",
        "**Answer:** (B) Paris",
        "Answer:\nB",
        "<answer>B</answer>",
        "I would choose option B.",
        "A is wrong, C is too small. The answer is B.",
        "A is a city. So it must be\n\n(B)",
        "First I thought the answer is A. But the answer is B.",
        "<think>The answer is A.</think>The answer is B.",
        "The answer is Paris.",
        "Paris",
    ],
)
def test_choice_in_any_wording(completion: str) -> None:
    verdict = verify_choice(completion, "B", ["London", "Paris", "Rome", "Berlin"])
    assert (verdict.reward, verdict.detail) == (1.0, "B")
    assert verify_choice(completion, "Paris", ["London", "Paris", "Rome", "Berlin"]).reward == 1.0
    assert verify_choice(completion, "C", ["London", "Paris", "Rome", "Berlin"]).reward == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I do not know.",
        "The answer is A or B.",
        "The answer is (A) or (B)",
        "A) London\nB) Paris\nC) Rome\nD) Berlin",
        "<think>B</think>",
        "The answer is a city.",
    ],
)
def test_no_single_choice(completion: str) -> None:
    verdict = verify_choice(completion, "B", ["London", "Paris", "Rome", "Berlin"])
    assert (verdict.reward, verdict.status) == (0.0, "unparsable")


def test_a_gold_that_is_no_choice_is_our_error() -> None:
    assert verify_choice("B", "E", ["yes", "no"]).status == "error"


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("completion", "reward", "status"),
    [
        ('{"name": "A", "age": 3}', 1.0, "ok"),
        ('Here you are:\n```json\n{"name": "A"}\n```\nBye.', 1.0, "ok"),
        ('Here: {"name": "A"}. See [1].', 1.0, "ok"),
        ('<think>{"age": 1}</think>{"name": "A"}', 1.0, "ok"),
        ('First {"age": 3}, better {"name": "A"}', 1.0, "ok"),
        ('{"name": "A", "age": "3"}', 0.0, "ok"),
        ('{"name": "A", "city": "B"}', 0.0, "ok"),
        ("[]", 0.0, "ok"),
        ('{"name": "A", "age": NaN}', 0.0, "unparsable"),
        ('{"name": "A"', 0.0, "unparsable"),
        ("no JSON", 0.0, "unparsable"),
        ("[" * 100_000, 0.0, "unparsable"),
        ('{"a":' * 50_000, 0.0, "unparsable"),
    ],
)
def test_schema(completion: str, reward: float, status: str) -> None:
    verdict = verify_schema(completion, PERSON)
    assert (verdict.reward, verdict.status) == (reward, status)


def test_schema_says_what_is_wrong_and_where() -> None:
    assert verify_schema('{"name": 3}', PERSON).detail == "name: 3 is not of type 'string'"


def test_a_broken_schema_is_our_error() -> None:
    assert verify_schema("{}", {"type": "nonsense"}).status == "error"


def test_a_reference_to_another_document_is_not_followed() -> None:
    with pytest.raises(Exception, match=r"[Uu]nresolvable"):
        verify_schema("{}", {"$ref": "http://127.0.0.1:9/schema.json"})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 12 </answer>", "12"),
        ("no <answer>1</answer> yes <answer>2</answer>", "2"),
        ("so \\boxed{12}", "12"),
        ("It is 3.\nThe answer is 12.", "12"),
        ("12", "12"),
        ("1 2\n3 4", "1 2\n3 4"),
    ],
)
def test_stated_answer(text: str, answer: str) -> None:
    assert stated_answer(text) == answer


def test_a_task_without_its_gold_answer_is_judged_by_its_scorer() -> None:
    entry = {"answer": "4*6", "metadata": {"numbers": [4, 6], "target": 24}}
    assert verify_reasoning_gym("<answer>6 * 4</answer>", "countdown", entry).reward == 1.0
    assert verify_reasoning_gym("<answer>6 + 4</answer>", "countdown", entry).reward == 0.05


@pytest.mark.parametrize(
    ("dataset", "answer"),
    [
        ("countdown", "__import__('os')._exit(1)"),
        ("countdown", "9**9**9**9"),
        ("spiral_matrix", "__import__('os')._exit(1)"),
        ("polynomial_multiplication", "().__class__.__base__"),
        ("polynomial_multiplication", "exec('1')"),
    ],
)
def test_what_the_model_wrote_is_never_evaluated(dataset: str, answer: str) -> None:
    verdict = verify_reasoning_gym(f"<answer>{answer}</answer>", dataset, {"answer": "1", "metadata": {}})
    assert (verdict.reward, verdict.status) == (0.0, "unparsable")


def test_reasoning_gym_errors_are_ours() -> None:
    assert verify_reasoning_gym("1", "no_such_task", {"answer": "1"}).status == "error"
    assert verify_reasoning_gym("1", "countdown", {}).status == "ok"
    verdict = verify_reasoning_gym("x", "letter_jumble", {})
    assert (verdict.reward, verdict.status) == (None, "error")
    assert verdict.detail.startswith("the scorer of letter_jumble raised")


def test_gold_answers_of_tasks_score_full_marks() -> None:
    import reasoning_gym

    for name in ("spell_backward", "basic_arithmetic", "n_queens", "simple_integration", "spiral_matrix"):
        for entry in reasoning_gym.create_dataset(name, size=3, seed=1):
            verdict = verify_reasoning_gym(f"<think>x</think><answer>{entry['answer']}</answer>", name, entry)
            assert verdict.reward == 1.0, (name, verdict)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='AB(){}[]\\boxed"answer is:,.*<>/think\n 1', max_size=60))
def test_arbitrary_text_never_raises(completion: str) -> None:
    for verdict in (
        verify_choice(completion, "B"),
        verify_choice(completion, "B", ["x", "y"]),
        verify_format(completion),
        verify_length(completion),
        verify_schema(completion, PERSON),
    ):
        assert verdict.status in ("ok", "unparsable")


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
)
def test_any_json_satisfies_the_empty_schema(value: object) -> None:
    assert verify_schema(json.dumps(value), {}).reward == 1.0
