"""A sweep over tiny models, its judge replaced by scores that are known beforehand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import load
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from alloy.errors import InputError, StageError
from alloy.report.merging import trade_off
from alloy.report.record import Stage
from merge.checkpoint import Checkpoint, open_checkpoint
from merge.groups import told
from merge.linear import LinearMixture
from merge.live import LiveModel
from merge.mixture import MAX_SHARD_BYTES, Setting
from merge.sweep import Sweep, sweep

SHAPE: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "dtype": "bfloat16",
}
SCORES = {0.1: (0.9, 0.2), 0.5: (0.7, 0.6), 0.9: (0.2, 0.8)}  # Products 0.18, 0.42, 0.16.


def save(folder: Path, seed: int, **shape: Any) -> Path:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **shape})).bfloat16()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def parents(tmp_path: Path) -> list[Checkpoint]:
    roles = ("reasoning", "chat")
    return [open_checkpoint(save(tmp_path / role, i), role) for i, role in enumerate(roles)]


class Judge:
    """Scores known beforehand; remembers what it was given."""

    def __init__(self, scores: dict[float, tuple[float, float]]) -> None:
        self.scores = scores
        self.seen: dict[str, dict[str, torch.Tensor]] = {}

    def __call__(self, model: Any, tokenizer: Any, setting: Setting) -> dict[str, list[float]]:
        assert setting is not None
        self.seen[told(setting)] = {name: weight.clone() for name, weight in model.state_dict().items()}
        math, chat = self.of(setting)
        return {"math": [math] * 4, "chat": [chat] * 4}

    def of(self, setting: Any) -> tuple[float, float]:
        return self.scores[setting]


class GroupJudge(Judge):
    """math falls with the alpha of attention, chat rises with that of the rest."""

    def of(self, setting: Any) -> tuple[float, float]:
        alphas = setting if isinstance(setting, dict) else {"attention": setting, "other": setting}
        return 1 - alphas["attention"], alphas["other"]


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    # These models have none, and the judge asks for none.
    monkeypatch.setattr("merge.points.load_tokenizer", lambda folder: None)


def run(parents: list[Checkpoint], judge: Judge, root: Path, measure: str = "m", **options: Any) -> Sweep:
    out, points = root / "out", root / "points"
    return sweep(
        LinearMixture(*parents), list(judge.scores), judge, measure=measure, out=out, points=points, **options
    )


def assert_evaluated(seen: dict[str, torch.Tensor], folder: Path) -> None:
    written = load(folder)
    assert written.keys() == seen.keys()
    assert all(torch.equal(seen[name], weight.float()) for name, weight in written.items())


@pytest.mark.parametrize("max_shard_bytes", [MAX_SHARD_BYTES, 300])
def test_the_evaluated_weights_and_their_hashes_are_those_that_a_merge_writes(
    parents: list[Checkpoint], tmp_path: Path, max_shard_bytes: int
) -> None:
    judge = Judge(SCORES)
    found = run(parents, judge, tmp_path, max_shard_bytes=max_shard_bytes)
    assert found.choice.setting == 0.5
    assert len({tuple(point.shards.values()) for point in found.points}) == 3
    for point in found.points:
        out = tmp_path / f"at-{point.told}"
        report = LinearMixture(*parents).write(point.setting, out, max_shard_bytes=max_shard_bytes)
        assert_evaluated(judge.seen[point.told], out)
        assert report.shards == point.shards
        assert (len(report.shards) > 1) == (max_shard_bytes == 300)
    told_of = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert told_of["shards"] == found.choice.shards
    assert [point["shards"] for point in told_of["points"]] == [point.shards for point in found.points]


def test_points_are_reused_by_a_finer_grid_and_by_the_same_measure_only(
    parents: list[Checkpoint], tmp_path: Path
) -> None:
    first = run(parents, Judge(SCORES), tmp_path)
    finer = Judge({**SCORES, 0.3: (0.8, 0.6)})
    result = run(parents, finer, tmp_path)
    assert list(finer.seen) == ["0.3"]
    assert (result.reused, result.evaluated, result.choice.setting) == (3, 1, 0.3)
    assert [point.setting for point in result.points] == [0.1, 0.3, 0.5, 0.9]
    assert [p for p in result.points if p.setting != 0.3] == first.points
    other = Judge(SCORES)
    run(parents, other, tmp_path, measure="other items")
    assert list(other.seen) == ["0.1", "0.5", "0.9"]
    swapped = Judge(SCORES)
    run(
        [
            open_checkpoint(parent.path, role)
            for parent, role in zip(parents[::-1], ("reasoning", "chat"), strict=True)
        ],
        swapped,
        tmp_path,
    )
    assert list(swapped.seen) == ["0.1", "0.5", "0.9"]


def test_an_interrupted_sweep_keeps_its_points(parents: list[Checkpoint], tmp_path: Path) -> None:
    broken = Judge({0.1: (0.5, 0.5), 0.5: (2.0, 0.5)})
    with pytest.raises(StageError, match=r"math at 0\.5 has the score 2\.0"):
        run(parents, broken, tmp_path)
    mended = Judge({0.1: (0.5, 0.5), 0.5: (1.0, 0.5)})
    run(parents, mended, tmp_path)
    assert list(mended.seen) == ["0.5"]


def test_the_table_and_the_figure(parents: list[Checkpoint], tmp_path: Path) -> None:
    result = run(parents, Judge(SCORES), tmp_path)
    assert result.table.splitlines() == [
        "| alpha | math | chat | product |",
        "| --- | --- | --- | --- |",
        "| 0.1 | 90.0 [90.0, 90.0] | 20.0 [20.0, 20.0] | 18.0 ± 0.0 |",
        "| **0.5** | **70.0 [70.0, 70.0]** | **60.0 [60.0, 60.0]** | **42.0 ± 0.0** |",
        "| 0.9 | 20.0 [20.0, 20.0] | 80.0 [80.0, 80.0] | 16.0 ± 0.0 |",
        "",
        "Percent, with 95% bootstrap intervals over the items (4 of math, 4 of chat); the product with its "
        "standard error. Chosen: alpha 0.5, by the rule `product`.",
    ]
    out = tmp_path / "out"
    assert (out / "table.md").read_text() == result.table
    told_of = json.loads((out / "sweep.json").read_text())
    assert told_of["chosen"] == 0.5
    assert [point["objective"] for point in told_of["points"]] == pytest.approx([0.18, 0.42, 0.16])
    assert [point["alpha"] for point in told_of["points"]] == [0.1, 0.5, 0.9]
    assert told_of["points"][0]["scores"]["math"] == {"value": 0.9, "low": 0.9, "high": 0.9, "n": 4}
    assert (out / "alpha-tradeoff.png").read_bytes().startswith(b"\x89PNG")
    drawn = (out / "alpha-tradeoff.svg").read_bytes()
    assert b"chosen: 0.5" in drawn
    run(parents, Judge(SCORES), tmp_path)
    assert (out / "alpha-tradeoff.svg").read_bytes() == drawn


def test_a_weighted_sum_is_told(parents: list[Checkpoint], tmp_path: Path) -> None:
    # Shares 3/4 and 1/4: 0.725, 0.675, 0.35.
    result = run(parents, Judge(SCORES), tmp_path, rule="weighted-sum", weights={"math": 0.75, "chat": 0.25})
    lines = result.table.splitlines()
    assert lines[0] == "| alpha | math | chat | weighted sum |"
    assert lines[2].endswith("| **72.5 ± 0.0** |")
    assert lines[-1].endswith(
        "the weighted sum (math 0.75, chat 0.25) with its standard error. "
        "Chosen: alpha 0.1, by the rule `weighted-sum`."
    )
    told_of = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert (told_of["objective"], told_of["weights"]) == ("weighted sum", {"math": 0.75, "chat": 0.25})
    assert [point["objective"] for point in told_of["points"]] == pytest.approx([0.725, 0.675, 0.35])
    assert b"weighted sum" in (tmp_path / "out" / "alpha-tradeoff.svg").read_bytes()


def test_a_pareto_choice_is_told(parents: list[Checkpoint], tmp_path: Path) -> None:
    # 0.7 is dominated by 0.5. Greatest losses: 0.6, 0.2, 0.7.
    judge = Judge({**SCORES, 0.7: (0.6, 0.6)})
    result = run(parents, judge, tmp_path, rule="pareto")
    assert [line.split(" | ")[-1] for line in result.table.splitlines()[:6]] == [
        "dominated |",
        "--- |",
        " |",
        " |",
        "yes |",
        " |",
    ]
    assert result.choice.setting == 0.5
    told_of = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["dominated"] for point in told_of["points"]] == [False, False, True, False]
    drawn = (tmp_path / "out" / "alpha-tradeoff.svg").read_bytes()
    assert b"not dominated" in drawn


GROUPS = ["attention", "other"]


def test_groups_are_searched_one_after_another(parents: list[Checkpoint], tmp_path: Path) -> None:
    judge = GroupJudge(dict.fromkeys((0.1, 0.5, 0.9), (0.0, 0.0)))
    result = run(parents, judge, tmp_path, groups=GROUPS)
    # From (1 - a) * a, best at 0.5: attention to 0.1 (0.9 * 0.5), then the rest to 0.9 (0.9 * 0.9).
    assert result.choice.setting == {"attention": 0.1, "other": 0.9}
    assert list(judge.seen) == [
        "0.1",
        "0.5",
        "0.9",
        "attention=0.1,other=0.5",
        "attention=0.9,other=0.5",
        "attention=0.1,other=0.9",
        # The second round: all others are known by now, 0.9 and 0.9 as 0.9.
        "attention=0.5,other=0.9",
    ]
    moves = [(step.group, step.before, step.after) for step in result.path]
    assert moves == [
        ("attention", 0.5, 0.1),
        ("other", 0.5, 0.9),
        ("attention", 0.1, 0.1),
        ("other", 0.9, 0.9),
    ]
    assert result.table.splitlines()[6:13] == [
        "From alpha 0.5 for all groups, one group after another tried at 3 alphas:",
        "",
        "| step | group | attention | other | math | chat | product |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | attention 0.5 to 0.1 | 0.1 | 0.5 | 90.0 [90.0, 90.0] | 50.0 [50.0, 50.0] | 45.0 ± 0.0 |",
        "| 2 | other 0.5 to 0.9 | 0.1 | 0.9 | 90.0 [90.0, 90.0] | 90.0 [90.0, 90.0] | 81.0 ± 0.0 |",
        "| 3 | attention stays | 0.1 | 0.9 | 90.0 [90.0, 90.0] | 90.0 [90.0, 90.0] | 81.0 ± 0.0 |",
    ]
    assert "Chosen: alpha attention=0.1,other=0.9, by the rule `product`." in result.table
    out = tmp_path / "by-hand"
    report = LinearMixture(*parents).write(result.choice.setting, out)
    assert_evaluated(judge.seen["attention=0.1,other=0.9"], out)
    assert report.shards == result.choice.shards
    told_of = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert told_of["chosen"] == {"attention": 0.1, "other": 0.9}
    assert told_of["path"][1]["alphas"] == {"attention": 0.1, "other": 0.9}
    assert [p["objective"] for p in told_of["path"][1]["tried"]] == pytest.approx([0.09, 0.45, 0.81])
    assert b"by groups" in (tmp_path / "out" / "alpha-tradeoff.svg").read_bytes()
    page = trade_off(Stage("merge", out, sweep=told_of))
    assert "Chosen: alpha <b>attention 0.1, other 0.9</b>, by the rule: product." in page
    # The same again: the same path from the points that are there.
    again = GroupJudge(judge.scores)
    repeated = run(parents, again, tmp_path, groups=GROUPS)
    assert (list(again.seen), repeated.reused, repeated.evaluated) == ([], 7, 0)
    assert (repeated.path, repeated.table) == (result.path, result.table)


def test_groups_that_cannot_be_searched_are_refused_before_anything_is_evaluated(
    parents: list[Checkpoint], tmp_path: Path
) -> None:
    for groups, message in {
        ("attention",): "groups: lm_head.weight is in no group: add other.",
        ("layers.1-2", "other"): "groups: layers.1-2 names no tensor of these checkpoints: leave it out.",
    }.items():
        with pytest.raises(InputError) as caught:
            run(parents, Judge(SCORES), tmp_path, groups=groups)
        assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_one_tied_parent_is_evaluated_with_a_head_of_its_own(tmp_path: Path) -> None:
    tied = open_checkpoint(save(tmp_path / "tied", 0, tie_word_embeddings=True), "reasoning")
    untied = open_checkpoint(save(tmp_path / "untied", 1), "chat")
    assert "lm_head.weight" not in tied.entries
    judge = Judge({0.25: (0.5, 0.5)})
    found = run([tied, untied], judge, tmp_path)
    report = LinearMixture(tied, untied).write(0.25, tmp_path / "merged")
    assert_evaluated(judge.seen["0.25"], tmp_path / "merged")
    assert found.choice.shards == report.shards
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).state_dict()
    assert all(torch.equal(judge.seen["0.25"][name], weight) for name, weight in loaded.items())


def test_checkpoints_that_are_regrouped_when_loaded_are_evaluated_as_loaded(tmp_path: Path) -> None:
    for seed, role in enumerate(("reasoning", "chat")):
        torch.manual_seed(seed)
        config = MixtralConfig(**SHAPE, num_local_experts=2)
        MixtralForCausalLM(config).bfloat16().save_pretrained(tmp_path / role)
    mixture = LinearMixture(*(open_checkpoint(tmp_path / role, role) for role in ("reasoning", "chat")))
    live = LiveModel(mixture.plan, MAX_SHARD_BYTES)
    model, hashes = live.set(mixture.blend_at(0.3))
    seen = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert mixture.write(0.3, tmp_path / "merged").shards == hashes
    loaded = MixtralForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).state_dict()
    assert seen.keys() == loaded.keys()
    assert all(torch.equal(seen[name], weight) for name, weight in loaded.items())
