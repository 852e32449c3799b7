"""The judge's reward by hand, and the tasks that it is trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from alloy.environments.chat import attributes
from alloy.environments.judge import JudgeEnvironment
from alloy.environments.registry import Environments, check_gold, fingerprint_environment, make_environment
from alloy.environments.task import Task
from alloy.errors import InputError
from alloy.judges.comparison import read_judgement, write_judgement


def judged(gold: dict[str, Any], said: str, **options: Any) -> Any:
    task = Task("judge/x", "judge", "x", [], gold=gold)
    return JudgeEnvironment(**options).judge(task, [{"role": "assistant", "content": said}], None)


FULL = {"first_better": True, "ranking": 2, "helpfulness": (4, 2)}


def test_the_reward_is_one_less_the_error_of_helpfulness_and_ranking() -> None:
    assert judged(FULL, write_judgement((4, 2), 2)).reward == 1.0
    # |5 - 4| + |1 - 2| + |1 - 2| = 3 of 4 + 4 + 5.
    verdict = judged(FULL, write_judgement((5, 1), 1))
    assert verdict.reward == pytest.approx(1 - 3 / 13)
    assert verdict.parts == {"agrees": 1.0, "ranking_error": 1 / 5, "helpfulness_error": 2 / 8}
    # The other way round: |2 - 4| + |4 - 2| + |5 - 2| = 7.
    verdict = judged(FULL, write_judgement((2, 4), 5))
    assert verdict.reward == pytest.approx(1 - 7 / 13)
    assert verdict.parts["agrees"] == 0.0
    # The ranking counts double: 2 + 2 + 2 * 3 = 10 of 4 + 4 + 10.
    assert judged(FULL, write_judgement((2, 4), 5), ranking_weight=2.0).reward == pytest.approx(1 - 10 / 18)


def test_without_helpfulness_the_ranking_stands_alone() -> None:
    gold = {"first_better": False, "ranking": 6, "helpfulness": None}
    assert judged(gold, write_judgement((5, 1), 6)).reward == 1.0
    assert judged(gold, write_judgement((1, 1), 4)).reward == pytest.approx(1 - 2 / 5)
    assert judged(gold, write_judgement((1, 1), 1)).reward == 0.0


@pytest.mark.parametrize(
    ("first_better", "ranking", "reward"),
    [(True, 1, 1.0), (True, 3, 1.0), (True, 4, 2 / 3), (True, 6, 0.0), (False, 4, 1.0), (False, 1, 0.0)],
)
def test_where_a_side_alone_is_known_any_ranking_on_it_is_right(
    first_better: bool, ranking: int, reward: float
) -> None:
    gold = {"first_better": first_better, "ranking": None, "helpfulness": None}
    verdict = judged(gold, write_judgement((3, 3), ranking))
    assert verdict.reward == pytest.approx(reward)
    assert verdict.parts["agrees"] == float((ranking <= 3) == first_better)


@pytest.mark.parametrize("said", ["", "The first.", '{"ranking": 2}', write_judgement((4, 2), 7)])
def test_another_form_is_worth_nothing(said: str) -> None:
    verdict = judged(FULL, said)
    assert (verdict.reward, verdict.status) == (0.0, "unparsable")


def test_chat_pairs_are_rated_by_their_true_quality_and_their_order_is_drawn() -> None:
    tasks = JudgeEnvironment(noise=0.01).tasks("train", 200, 0)
    assert 70 < sum(task.gold["first_better"] for task in tasks) < 130
    for task in tasks:
        first, second = task.gold["helpfulness"]
        ranking = task.gold["ranking"]
        assert (ranking <= 3) == task.gold["first_better"]
        # Without noise the preferred answer is never rated lower.
        assert first == second or (first > second) == task.gold["first_better"]
        if abs(first - second) >= 3:
            assert ranking in (1, 6)
    answers = [line for line in tasks[0].messages[-1]["content"].splitlines() if line.startswith("answer ")]
    assert len(answers) == 2
    topic = next(word for word in ("tea", "music", "running", "cooking", "reading", "plants", "painting", "cycling", "chess", "hiking") if word in tasks[0].messages[-1]["content"].split("\n\n")[0])  # fmt: skip
    quality = [
        round(sum(attributes(json.loads(line.partition(": ")[2]), topic).values())) for line in answers
    ]
    assert [max(1, q) for q in quality] == list(tasks[0].gold["helpfulness"])


def test_demonstrations_win_and_longer_lists_start_with_shorter_ones() -> None:
    environment = JudgeEnvironment()
    tasks = environment.tasks("validation", 30, 1)
    assert check_gold(Environments({"judge": environment}), tasks) == 30
    assert environment.tasks("validation", 5, 1) == tasks[:5]
    assert {task.template for task in tasks}.isdisjoint(t.template for t in environment.tasks("train", 60, 1))


def rows(folder: Path, *given: dict[str, Any]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def test_helpsteer_rows_have_a_level_ties_are_left_out_and_prompts_stay_together(tmp_path: Path) -> None:
    row = {"response1": "one", "response2": "two"}
    given = [
        {**row, "context": f"q{n % 10}", "response1": f"one {n}", "overall_preference": (-3, 2, 1)[n % 3]}
        for n in range(30)
    ]
    path = rows(tmp_path, *given, {**row, "context": "tie", "overall_preference": 0})
    environment = make_environment(
        "judge", {"path": str(path), "shares": {"train": 0.5, "validation": 0.0, "test": 0.5}}
    )
    count = {split: len(found) for split, found in environment.rows.items()}  # type: ignore[attr-defined]
    assert sum(count.values()) == 30
    tasks = [t for split in ("train", "test") for t in environment.tasks(split, count[split], 0)]  # type: ignore[arg-type,index]
    for task in tasks:
        n = int(task.messages[-1]["content"].split('"one ')[1].split('"')[0])
        one_first = task.messages[-1]["content"].index('"one ') < task.messages[-1]["content"].index('"two"')
        level, one_better = ((3, True), (2, False), (1, False))[n % 3]
        assert task.gold["first_better"] == (one_first == one_better)
        assert task.gold["ranking"] == (4 - level if task.gold["first_better"] else 3 + level)
        assert task.gold["helpfulness"] is None
    asked = [{t.messages[-1]["content"].split("\n")[0] for t in environment.tasks(s, count[s], 0)} for s in ("train", "test")]  # type: ignore[arg-type,index] # fmt: skip
    assert asked[0].isdisjoint(asked[1])
    check_gold(Environments({"judge": environment}), tasks)


def test_ultrafeedback_rows_have_helpfulness_and_others_a_side(tmp_path: Path) -> None:
    def turns(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]

    scored = {"chosen": turns("a"), "rejected": turns("b"), "score_chosen": 10.0, "score_rejected": 5.5}
    plain = {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 7}
    path = rows(tmp_path, scored, plain)
    environment = JudgeEnvironment(paths={"train": path, "validation": path, "test": path})
    by_prompt = {"q" in t.messages[-1]["content"].split("\n")[0]: t for t in environment.tasks("test", 2, 0)}
    # 10 and 5.5 of 10 are 5 and 3 of 5: better, by two points.
    gold = by_prompt[True].gold
    assert sorted(gold["helpfulness"]) == [3, 5]
    assert gold["ranking"] == (2 if gold["first_better"] else 5)
    gold = by_prompt[False].gold
    assert (gold["ranking"], gold["helpfulness"]) == (None, None)
    said = read_judgement(by_prompt[False].demonstration[0]["content"])
    assert said.ranking == (2 if gold["first_better"] else 5)


def test_the_files_count_in_the_fingerprint_and_bad_options_are_told(tmp_path: Path) -> None:
    path = rows(tmp_path, {"prompt": "p", "chosen": "a", "rejected": "b"})
    before = fingerprint_environment("judge", {"path": str(path)})
    assert before != fingerprint_environment("judge")
    rows(tmp_path, {"prompt": "p", "chosen": "a", "rejected": "c"})
    assert fingerprint_environment("judge", {"path": str(path)}) != before
    with pytest.raises(
        InputError, match="ranking_weight is above 0, and noise 0.01 or more. Mend its options"
    ):
        make_environment("judge", {"ranking_weight": 0})
    with pytest.raises(InputError, match="pairs.jsonl:1: no rejected"):
        make_environment("judge", {"path": str(rows(tmp_path, {"prompt": "p", "chosen": "a"}))})
