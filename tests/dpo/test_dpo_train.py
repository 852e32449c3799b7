"""Iterated DPO for real on a tiny policy: artifacts of iterations, going on where it was, when it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import Script

import dpo
import dpo.iteration
import dpo.train
from alloy.artifact import Run, read_artifact
from alloy.config import parse
from alloy.environments.registry import Environments, make_environment
from alloy.environments.task import Message, Task
from alloy.errors import InputError
from alloy.rollout.conversation import RolloutPlan, roll_out
from alloy.rollout.engine import Sampling
from alloy.template import encode_conversation
from alloy.verify.verdict import Verdict
from dpo.config import DpoConfig
from dpo.iteration import Validation, thinks
from dpo.solutions import known_solutions

CLOCKS = ("seconds", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class LettersEnvironment:
    """Won where the answer has the task's letter: nearly by chance, and learnable."""

    name = "letters"

    def __init__(self, letters: str = "et") -> None:
        self.letters = letters

    def tasks(self, split: str, count: int, seed: int) -> list[Task]:
        drawn = [self.letters[n % len(self.letters)] for n in range(count)]
        return [
            Task(f"letters/{split}/{n}", self.name, letter, [{"role": "user", "content": f"Say {letter}."}])
            for n, letter in enumerate(drawn)
        ]

    def open(self, task: Task) -> None:
        return None

    def judge(self, task: Task, completion: list[Message], world: Any) -> Verdict:
        return Verdict(
            float(task.template in str(completion[-1])), parts={"length": float(len(str(completion[-1])))}
        )


LETTERS = "test_dpo_train:LettersEnvironment"


@pytest.fixture(scope="module")
def parent(micro_runs: Path) -> Path:
    return micro_runs / "sft-3"


def config(parent: Path, output: Path, **changes: Any) -> DpoConfig:
    values: dict[str, Any] = {
        "output": str(output),
        "parent": str(parent),
        "environments": {
            "letters": {"environment": LETTERS, "tasks": 8, "validation_tasks": 6},
            "rare": {"environment": LETTERS, "tasks": 4, "validation_tasks": 4, "options": {"letters": "km"}},
        },
        # Cut off, an answer would be a failure whatever it says.
        "rollout": {"max_completion_tokens": 48},
        "rollouts_per_task": 6,
        "iterations": 2,
        "patience": 2,
        "optim": {"learning_rate": 1.0e-4, "scheduler": "constant", "warmup_ratio": 0.0},
        "train": {"max_steps": 3, "per_device_batch_size": 2, "save_steps": 1},
        "logging": {"every_steps": 1, "tensorboard": False},
    }
    return parse(DpoConfig, values | changes, "test")


def rows(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    # TRL counts its tokens anew when it goes on. The last line of a training sums up its speed; a resumed one's covers a part of it.
    return [
        {k: v for k, v in row.items() if k not in (*CLOCKS, "num_tokens")}
        for row in found
        if "train_loss" not in row
    ]


def weights(folder: Path) -> str:
    return read_artifact(folder).fingerprints["weights"]


@pytest.fixture(scope="module")
def whole(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dpo") / "r" / "dpo"
    dpo.run(config(parent, folder))
    return folder


def test_each_iteration_is_an_artifact_with_pairs_rates_and_lineage(whole: Path, parent: Path) -> None:
    artifact = read_artifact(whole)
    selection = json.loads((whole / "validation.json").read_text())
    assert [step["step"] for step in selection["steps"]] == [0, 3, 6]
    start, best = weights(parent), -1.0
    for iteration in (0, 1, 2):
        if iteration:
            part = read_artifact(whole / f"iteration-{iteration}")
            assert (part.kind, part.stage, part.recipe) == ("policy", f"dpo/iteration-{iteration}", "r")
            # It starts from the best so far, which is the parent at first.
            assert part.parents["parent"].fingerprint == start
            pairs = rows(whole / f"iteration-{iteration}" / "pairs.jsonl")
            assert len(pairs) == part.metrics["pairs/pairs"] > 0
            assert {pair["environment"] for pair in pairs} <= {"letters", "rare"}
            counts = {name: part.metrics[f"pairs/{name}"] for name in ("mixed", "never_won", "always_won")}
            assert sum(counts.values()) == part.metrics["pairs/tasks"] == 12
            assert artifact.metrics[f"sampled/success/{iteration}"] == part.metrics["sampled/success"]
        mean = selection["steps"][iteration]["mean"]
        success = [
            artifact.metrics[f"validation/{label}/success/{iteration}"] for label in ("letters", "rare")
        ]
        assert sum(success) / 2 == pytest.approx(mean)
        if mean > best and not selection["steps"][iteration]["fell"]:
            best, kept = mean, iteration
            start = weights(whole / f"iteration-{iteration}") if iteration else start
    assert artifact.notes["kept"] == kept == selection["kept"] / 3
    assert artifact.fingerprints["weights"] == start
    assert artifact.metrics["validation/letters/length/0"] > 0
    told = {row["step"] for row in rows(whole / "metrics.jsonl")}
    assert told == {0, 3, 6}


def test_iterations_have_tasks_of_their_own(whole: Path) -> None:
    drawn = [rows(whole / f"iteration-{i}" / "pairs.jsonl") for i in (1, 2)]
    numbers = [
        {int(row["task"].rpartition("/")[2]) for row in pairs if row["environment"] == "letters"}
        for pairs in drawn
    ]
    assert max(numbers[0]) < 8 <= min(numbers[1])


class Interrupted(BaseException):
    """As a kill: nothing in between may catch it."""


PLACES = {
    "sampling": ("make_pairs", 1),
    "pairs were made": ("WrittenTokensDPOTrainer", 1),
    "the second iteration's pairs were made": ("WrittenTokensDPOTrainer", 2),
    "a step was trained": ("on_step_end", 2),
    "the weights were saved": ("device_name", 1),
    "validated": ("_validation", 3),
}


@pytest.mark.parametrize("place", PLACES)
def test_interrupted_anywhere_it_ends_as_if_it_had_never_stopped(
    parent: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    name, count = PLACES[place]
    owner: Any = dpo.iteration.RunCallback if name == "on_step_end" else dpo.iteration
    original = getattr(owner, name)
    calls = []

    def stop(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == count:
            raise Interrupted
        return original(*args, **kwargs)

    folder = tmp_path / "r" / "dpo"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(Interrupted):
            dpo.run(config(parent, folder))
    sampled = [path.stat().st_mtime_ns for path in sorted(folder.glob("*/sampled.json"))]
    dpo.run(config(parent, folder))
    again = [path.stat().st_mtime_ns for path in sorted(folder.glob("*/sampled.json"))]
    assert again[: len(sampled)] == sampled, "what was sampled is not sampled again"
    for name in ("metrics.jsonl", "validation.json"):
        assert_same(folder / name, whole / name)
    for part in ("iteration-0", "iteration-1", "iteration-2"):
        assert_same(folder / part / "samples.jsonl", whole / part / "samples.jsonl")
        if part != "iteration-0":
            assert_same(folder / part / "metrics.jsonl", whole / part / "metrics.jsonl")
            assert weights(folder / part) == weights(whole / part)
    assert weights(folder) == weights(whole)


def assert_same(one: Path, other: Path) -> None:
    if one.suffix == ".jsonl":
        assert rows(one) == rows(other), one
    else:
        assert one.read_text() == other.read_text(), one


def scores(monkeypatch: pytest.MonkeyPatch, *table: tuple[float, float]) -> None:
    """Validation whose outcome is known: how many of 40 tasks are won, iteration by iteration."""
    steps = iter(table)

    def validate(self: Any, part: Run, policy: Any) -> Validation:
        part.folder.mkdir(parents=True, exist_ok=True)
        letters, rare = next(steps)
        success = {
            label: {str(n): float(n < value * 40) for n in range(40)}
            for label, value in (("letters", letters), ("rare", rare))
        }
        return Validation(success, {"validation/letters/success": letters, "validation/rare/success": rare})

    monkeypatch.setattr(dpo.iteration.Loop, "validate", validate)


@pytest.mark.parametrize(
    ("table", "patience", "kept", "iterations"),
    [
        ([(0.2, 0.6), (0.5, 0.6), (0.7, 0.6)], 1, 2, 2),
        ([(0.2, 0.6), (0.5, 0.6), (0.4, 0.6)], 1, 1, 2),
        ([(0.5, 0.6), (0.4, 0.6), (0.9, 0.6)], 1, 0, 1),  # it ends before the second
        ([(0.5, 0.6), (0.4, 0.6), (0.9, 0.6)], 2, 2, 2),
        ([(0.2, 0.6), (1.0, 0.1), (0.3, 0.6)], 2, 2, 2),  # what lets an environment fall is not kept
    ],
)
def test_the_best_is_kept_and_the_loop_ends_where_it_no_longer_rises(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: list[tuple[float, float]],
    patience: int,
    kept: int,
    iterations: int,
) -> None:
    scores(monkeypatch, *table)
    folder = tmp_path / "r" / "dpo"
    artifact = dpo.run(
        config(parent, folder, patience=patience, train={"max_steps": 1, "per_device_batch_size": 2})
    )
    assert (artifact.notes["kept"], artifact.notes["iterations"]) == (kept, iterations)
    source = folder / f"iteration-{kept}" if kept else parent
    assert artifact.fingerprints["weights"] == weights(source)
    gain = table[1][0] - table[0][0]
    assert artifact.metrics["gain/letters/1/value"] == pytest.approx(gain)
    assert artifact.metrics["gain/letters/1/low"] <= gain <= artifact.metrics["gain/letters/1/high"]


def test_without_a_pair_the_parent_is_handed_on_and_told(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environments = {
        "letters": {
            "environment": LETTERS,
            "tasks": 4,
            "validation_tasks": 4,
            "options": {"letters": "\u00a7"},  # nothing has this letter
        }
    }
    artifact = dpo.run(config(parent, tmp_path / "r" / "dpo", environments=environments))
    assert "no task had both a success and a failure" in capsys.readouterr().out
    assert artifact.notes["kept"] == 0
    assert artifact.fingerprints["weights"] == weights(parent)


def test_a_share_of_the_tasks_is_asked_with_thinking_off(parent: Path, tmp_path: Path) -> None:
    """A task is asked in one way, so that its pairs have one prompt; validation asks in the same."""
    tasks = LettersEnvironment().tasks("train", 400, 0)
    drawn = [thinks(task, 0.25, 7) for task in tasks]
    assert drawn == [thinks(task, 0.25, 7) for task in tasks]
    assert 70 < sum(drawn) < 130  # 100, give or take 3.5 standard deviations of 8.7
    assert all(thinks(task, 1.0, 7) for task in tasks)
    folder = tmp_path / "r" / "dpo"
    rollout = {"max_completion_tokens": 8, "thinking_share": 0.0}
    dpo.run(config(parent, folder, rollout=rollout, iterations=1))
    samples = [
        json.loads(line) for line in (folder / "iteration-1" / "samples.jsonl").read_text().splitlines()
    ]
    assert samples
    assert not any(sample["thinking"] for sample in samples)


def test_known_solutions_are_not_paired_where_thinking_may_be_off(parent: Path, tmp_path: Path) -> None:
    changes = {
        "rollout": {"max_completion_tokens": 8, "thinking_share": 0.5},
        "pairing": {"demonstrations": True},
    }
    with pytest.raises(InputError, match="known solutions are written with thinking"):
        config(parent, tmp_path, **changes)


def test_a_careless_demonstration_ends_the_run_before_anything_is_touched(
    parent: Path, tmp_path: Path
) -> None:
    environments = {"workplace": {"tasks": 40, "validation_tasks": 4, "options": {"lapses": 0.9}}}
    with pytest.raises(InputError, match="known solutions are not judged 1.0"):
        dpo.run(config(parent, tmp_path / "r" / "dpo", environments=environments))
    assert not (tmp_path / "r" / "dpo").exists()


def test_a_known_solution_is_what_a_rollout_of_it_would_be(tiny_tokenizer: Any) -> None:
    """A scripted policy that writes the demonstration leaves the same tokens and the same mask."""
    environments = Environments({"workplace": make_environment("workplace", {"kinds": ["search", "steps"]})})
    tasks = environments["workplace"].tasks("train", 6, 0)
    solutions = known_solutions(tasks, environments, tiny_tokenizer)
    for task, solution in zip(tasks, solutions, strict=True):
        assert solution is not None
        script = []
        for turn in task.demonstration:
            if turn["role"] == "assistant":
                (encoded, *_) = encode_conversation(
                    tiny_tokenizer, [{"role": "user", "content": "x"}, turn], task.tools, True
                )
                ids = [i for i, bit in zip(encoded.input_ids, encoded.completion_mask, strict=True) if bit]
                script.append(tiny_tokenizer.decode(ids).removesuffix(tiny_tokenizer.eos_token))
        engine = Script(tiny_tokenizer, [script])
        (rolled,) = roll_out(
            [task], [True], engine, tiny_tokenizer, environments, RolloutPlan(Sampling(99), 9), 0
        )
        assert rolled.verdict is not None
        assert rolled.verdict.reward == 1.0
        assert rolled.prompt_ids == solution.prompt_ids
        assert rolled.token_ids == solution.token_ids
        assert rolled.completion_mask == solution.completion_mask


def test_a_careless_demonstration_is_no_solution(tiny_tokenizer: Any) -> None:
    environments = Environments(
        {"workplace": make_environment("workplace", {"kinds": ["write"], "lapses": 1.0})}
    )
    tasks = environments["workplace"].tasks("train", 4, 0)
    assert known_solutions(tasks, environments, tiny_tokenizer) == [None] * 4


def test_an_adapter_needs_no_second_model_and_is_merged(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    original = dpo.iteration.WrittenTokensDPOTrainer.__init__

    def keep(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        seen["reference"] = self.ref_model
        seen["columns"] = set(self.train_dataset.column_names)
        seen["adapter"] = type(self.model).__name__

    monkeypatch.setattr(dpo.iteration.WrittenTokensDPOTrainer, "__init__", keep)
    folder = tmp_path / "r" / "dpo"
    given = config(
        parent,
        folder,
        iterations=1,
        lora={"rank": 4},
        optim={"learning_rate": 1e-2, "scheduler": "constant", "warmup_ratio": 0.0},
    )
    dpo.run(given)
    assert seen["reference"] is None
    assert seen["adapter"].startswith("Peft")
    # Computed once, before the first step.
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= seen["columns"]
    losses = [row["loss"] for row in rows(folder / "iteration-1" / "metrics.jsonl") if "loss" in row]
    assert len(losses) == 3
    assert losses[0] != losses[-1]
    files = {path.name for path in (folder / "iteration-1" / "model").iterdir()}
    assert "model.safetensors" in files
    assert not any(name.startswith("adapter") for name in files)
    assert weights(folder / "iteration-1") != weights(parent)
