"""Which step was kept, where an environment fell, and why."""

import re
from pathlib import Path
from typing import Any

import pytest

from alloy.report.record import Stage, read_record
from alloy.report.validation import validation
from alloy.selection import Selection


def cell(value: float, gain: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50, "items": {}}
    if gain is not None:
        found["gain"] = {"value": gain, "low": gain - 0.05, "high": gain + 0.05}
    return found


def entry(step: int, math: float, tools: float, *fell: str) -> dict[str, Any]:
    changes = (None, None) if step == 0 else (math - 0.3, tools - 0.5)
    cells = {"math": cell(math, changes[0]), "tools": cell(tools, changes[1])}
    return {"step": step, "mean": (math + tools) / 2, "fell": list(fell), "environments": cells}


PARENT = entry(0, 0.3, 0.5)
STEPS = [PARENT, entry(10, 0.4, 0.6), entry(20, 0.8, 0.4, "tools"), entry(30, 0.4, 0.5)]


def stage(kept: Any, steps: Any = STEPS, finished: bool = True) -> Stage:
    artifact = {"kind": "policy"} if finished else {}
    return Stage("grpo", Path("grpo"), artifact, validation={"kept": kept, "steps": steps})


def figures(drawn: str) -> dict[str, str]:
    """Every chart by its title."""
    return {
        found[1]: found[0] for found in re.findall(r'(<figure.*?aria-label="([^"]+)".*?</figure>)', drawn)
    }


def test_the_kept_step_is_told_with_its_reason() -> None:
    assert (
        "<p>grpo kept <b>step 10</b>: its mean over the environments, 50.0%, is the highest of the steps at "
        "which none of them fell; the parent's is 40.0%. Higher, but not to be kept: step 20 (60.0%; tools "
        "fell).</p>"
    ) in validation(stage(10))


def test_the_steps_that_were_refused_are_told_from_the_best_on() -> None:
    steps = [
        entry(40, 0.7, 0.4, "tools"),
        entry(30, 0.9, 0.4, "tools"),
        *STEPS[:2],
        entry(20, 0.1, 0.1, "math"),
    ]
    drawn = validation(stage(10, steps))
    assert "not to be kept: step 30 (65.0%; tools fell) and step 40 (55.0%; tools fell).</p>" in drawn
    # Whatever their order in the file, steps are drawn in theirs.
    line = re.search(r'class="line" points="([^"]+)"', drawn)
    assert line is not None
    across = [float(pair.split(",")[0]) for pair in line[1].split()]
    assert across == sorted(across)
    assert len(across) == 5


def test_the_parent_s_weights_handed_on_are_told_as_such() -> None:
    nowhere_better = validation(stage(0, [PARENT, entry(10, 0.3, 0.5), entry(20, 0.2, 0.4, "tools")]))
    assert (
        "<p><b>The parent's weights were handed on</b>: of the steps of grpo at which no environment fell, none "
        "has a higher mean over the environments than the parent's 40.0%.</p>"
    ) in nowhere_better
    only_with_a_fall = validation(stage(0, [PARENT, entry(20, 0.8, 0.4, "tools", "chat")]))
    assert "Higher, but not to be kept: step 20 (60.0%; tools and chat fell).</p>" in only_with_a_fall


def test_a_run_that_goes_on_has_only_a_best_step() -> None:
    drawn = validation(stage(10, finished=False))
    assert "grpo has as its best so far <b>step 10</b>" in drawn
    assert ">best 10</text>" in drawn
    assert "handed on" not in drawn
    assert "<b>So far the parent is the best</b>" in validation(stage(0, STEPS[:1] + STEPS[2:3], False))
    assert "grpo has measured no step but the parent so far." in validation(stage(0, [PARENT], False))


@pytest.mark.parametrize("kept", [None, "x", 7, True])
def test_a_kept_step_that_was_not_measured_is_not_guessed(kept: Any) -> None:
    drawn = validation(stage(kept))
    assert "The validation.json of grpo does not tell which of the measured steps was kept." in drawn
    assert 'class="mark"' not in drawn
    assert set(figures(drawn)) == {"math: held out", "tools: held out", "Mean of the environments: held out"}


def test_the_kept_step_is_marked_in_every_chart() -> None:
    found = figures(validation(stage(10)))
    for drawn in found.values():
        assert ">kept 10</text>" in drawn
        left, _, right, _ = (float(v) for v in re.search(r'data-plot="([^"]+)"', drawn)[1].split())  # type: ignore[index]
        mark = re.search(r'class="mark" d="M([\d.]+) ', drawn)
        assert mark is not None
        assert float(mark[1]) == pytest.approx(left + (right - left) * 10 / 30, abs=0.06)
    for drawn in figures(validation(stage(0))).values():
        assert 'text-anchor="start">parent kept</text>' in drawn


def marks(drawn: str) -> int:
    """How many steps are marked as fallen."""
    fell = re.search(r'<g class="down">(.*?)</g>', drawn)
    return fell[1].count("<rect") if fell else 0


def test_a_fall_is_marked_where_it_happened() -> None:
    steps = [*STEPS, entry(40, 0.1, 0.4, "math", "tools")]
    found = figures(validation(stage(10, steps)))
    assert marks(found["math: held out"]) == 1
    assert marks(found["tools: held out"]) == 2
    assert marks(found["Mean of the environments: held out"]) == 2
    assert '<span>fell</span><b data-last="at 40">' in found["math: held out"]
    assert '<span>fell</span><b data-last="at 20 and 40">' in found["tools: held out"]


def test_outcomes_have_their_intervals() -> None:
    found = figures(validation(stage(10)))
    assert found["math: held out"].count('class="whisker"') == 4
    assert '<span>outcome</span><b data-last="40.0 [30.0, 50.0]">' in found["math: held out"]
    assert '<span>mean</span><b data-last="50.0">' in found["Mean of the environments: held out"]


def test_one_environment_is_its_own_mean() -> None:
    steps: list[dict[str, Any]] = [
        {"step": s, "mean": 0.5, "fell": [], "environments": {"math": cell(0.5)}} for s in (0, 5)
    ]
    assert list(figures(validation(stage(0, steps)))) == ["math: held out"]


def test_the_numbers_have_the_change_to_the_parent() -> None:
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", validation(stage(10)))
    assert cells[:7] == ["0", "40.0", "–", "30.0 [20.0, 40.0]", "–", "50.0 [40.0, 60.0]", "–"]
    assert cells[7:12] == ["10 ◂ kept", "50.0", "–", "40.0 [30.0, 50.0]", "+10.0 [+5.0, +15.0]"]
    assert cells[14:17] == ["20", "60.0", "tools"]
    assert cells[20] == "−10.0 [−15.0, −5.0]"


def test_many_measured_steps_are_not_averaged() -> None:
    steps = [entry(step, 0.3 + 0.3 * (step % 2), 0.5) for step in range(100)]
    line = re.search(r'class="line" points="([^"]+)"', validation(stage(1, steps)))
    assert line is not None
    heights = [pair.split(",")[1] for pair in line[1].split()]
    assert len(heights) == 100
    assert len(set(heights)) == 2


def test_what_was_not_measured_is_left_out() -> None:
    steps = [
        PARENT,
        3,
        {"step": 5},
        {"step": "x", "environments": {"math": cell(1)}},
        {"step": 7, "environments": {"math": {}}},
    ]
    drawn = validation(stage(0, steps))
    assert len(re.findall(r"<tr>", drawn)) == 2
    assert validation(stage(0, [])) == ""
    assert validation(Stage("sft", Path("sft"))) == ""


def test_what_a_selection_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "grpo").mkdir()
    selection = Selection(tmp_path / "grpo")
    tasks = [str(i) for i in range(20)]
    won = {0: (5, 10), 10: (10, 12), 20: (20, 0)}
    for step, shares in won.items():
        scores = {
            label: {task: float(i < share) for i, task in enumerate(tasks)}
            for label, share in zip(("math", "tools"), shares, strict=True)
        }
        selection.take(step, scores)
    (found,) = read_record(tmp_path).stages
    drawn = validation(found)
    assert "<b>step 10</b>: its mean over the environments, 55.0%, is the highest" in drawn
    assert "the parent's is 37.5%." in drawn
    assert marks(figures(drawn)["tools: held out"]) == 1
    assert marks(figures(drawn)["math: held out"]) == 0


def test_what_was_measured_beside_has_a_chart_of_its_own() -> None:
    steps = [
        {**step, "beside": {"reward_model/thinking_on": {"math": cell(1.0 + n)}}}
        for n, step in enumerate(STEPS)
    ]
    found = figures(validation(stage(10, steps)))
    assert any(title.startswith("math, reward model, thinking on: beside") for title in found)
    broken = [{**PARENT, "beside": 3}, {**STEPS[1], "beside": {"x": {"math": {"value": "much"}}}}]
    assert not any("beside" in title for title in figures(validation(stage(10, broken))))


def test_a_run_that_stopped_early_says_so() -> None:
    told = "Training stopped at step 30 of 60: no better one in 2 measurements."
    found = stage(10)
    found.settings = {"train": {"max_steps": 60}, "validation": {"patience": 2}}
    assert told in validation(found)
    found.settings["train"] = {"max_steps": 30}
    assert "stopped" not in validation(found)
    found.settings = {"train": {"max_steps": 60}, "validation": {"patience": None}}
    assert "stopped" not in validation(found)
