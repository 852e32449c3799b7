from pathlib import Path

import pytest
from toy_stages import workplace, write_recipe  # noqa: F401

from alloy.errors import InputError, StageError
from alloy.pipeline import (
    import_stage,
    load_recipe,
    load_stage_config,
    run_recipe,
    select,
    stage_config,
    stage_overrides,
    status,
)

PIPELINE = """\
stages:
  end: {package: toy_blend, needs: {parent: middle, teacher: side}}
  side: {package: toy_stage, needs: base}
  middle: {package: toy_stage, needs: base}
  base: {package: toy_base}
"""
RUNS = Path("runs/toy")


@pytest.fixture
def recipe(workplace: Path) -> Path:  # noqa: F811
    return write_recipe(workplace, PIPELINE, base="", middle="steps: 2\n", side="", end="")


def states(overrides: tuple[str, ...] = ()) -> dict[str, str]:
    return {row.stage: row.state for row in status(load_recipe("toy"), RUNS, overrides)}


def ran() -> list[str]:
    path = Path("order.txt")
    names = path.read_text().split() if path.is_file() else []
    path.unlink(missing_ok=True)
    return names


def test_stages_stand_after_what_they_need_and_else_as_written(recipe: Path) -> None:
    assert list(load_recipe("toy").stages) == ["base", "side", "middle", "end"]
    assert list(load_recipe(str(recipe)).stages) == ["base", "side", "middle", "end"]


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("stages: {a: {package: toy_stage, needs: b}, b: {package: toy_stage, needs: a}}", "in a circle: "),
        ("stages: {a: {package: toy_stage, needs: c}}", "a needs 'c', which is no stage here. Known: a."),
        ("stages: {a: {packag: toy_stage}}", "unknown key 'stages.a.packag'. Did you mean 'package'?"),
        ("stage: {}", "unknown key 'stage'. Did you mean 'stages'?"),
    ],
)
def test_broken_pipelines(workplace: Path, pipeline: str, message: str) -> None:  # noqa: F811
    write_recipe(workplace, pipeline)
    with pytest.raises(InputError) as caught:
        load_recipe("toy")
    assert message in str(caught.value)


def test_unknown_recipe_names_the_nearest(recipe: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("toi")
    assert str(caught.value) == (
        "'toi' is no recipe: neither toi/pipeline.yaml nor configs/toi/pipeline.yaml. Did you mean 'toy'?"
    )


@pytest.mark.parametrize("package", ["toy_stag", "json", "", ".sft", "toy_stage.deeper"])
def test_a_package_that_is_no_stage(recipe: Path, package: str) -> None:
    with pytest.raises(InputError, match=r"is no stage \("):
        import_stage(package)


def test_needs_fill_the_fields_that_name_parents(recipe: Path) -> None:
    loaded = load_recipe("toy")
    config = stage_config(loaded, "end", RUNS)
    assert (config.parent, config.teacher) == ("runs/toy/middle", "runs/toy/side")  # type: ignore[attr-defined]
    assert config.output == "runs/toy/end"
    alone = load_stage_config("toy_stage", Path("configs/toy/middle.yaml"))
    assert (alone.parent, alone.output) == ("runs/toy/base", "runs/toy/middle")  # type: ignore[attr-defined]


def test_a_list_of_needs_fills_models_by_stage_name(workplace: Path) -> None:  # noqa: F811
    pipeline = """\
    stages:
      a: {package: toy_base}
      b: {package: toy_base}
      all: {package: toy_measure, needs: [a, b]}
    """
    write_recipe(workplace, pipeline, a="", b="steps: 3\n", all="")
    artifacts = run_recipe(load_recipe("toy"), RUNS)
    weights = {artifact.stage: artifact.fingerprints["weights"] for artifact in artifacts}
    parents = {name: lineage.fingerprint for name, lineage in artifacts[-1].parents.items()}
    assert parents == {"a": weights["a"], "b": weights["b"]}


def test_a_parent_that_is_given_wins_over_needs(recipe: Path) -> None:
    config = stage_config(load_recipe("toy"), "middle", RUNS, ["middle.parent=elsewhere"])
    assert config.parent == "elsewhere"  # type: ignore[attr-defined]


def test_a_need_for_no_field_of_the_stage(workplace: Path) -> None:  # noqa: F811
    pipeline = """\
    stages:
      a: {package: toy_base}
      b: {package: toy_stage, needs: {teacher: a}}
    """
    write_recipe(workplace, pipeline, a="", b="")
    with pytest.raises(InputError, match="needs: 'teacher' is no parent of this stage. Known: parent"):
        stage_config(load_recipe("toy"), "b", RUNS)


def test_overrides_reach_their_stage_alone(recipe: Path) -> None:
    loaded = load_recipe("toy")
    overrides = ["middle.steps=5", "seed=9", "side.steps=1.0"]
    assert stage_overrides(loaded, "middle", overrides) == ["steps=5", "seed=9"]
    assert stage_overrides(loaded, "base", overrides) == ["seed=9"]
    for bad in ("steps=5", "midle.steps=5", "x=1.5"):
        with pytest.raises(InputError, match="write STAGE.key=value, or seed=N for all. Stages: base, side"):
            stage_overrides(loaded, "base", [bad])


def test_select_takes_what_is_needed_in_order(recipe: Path) -> None:
    loaded = load_recipe("toy")
    assert select(loaded, ["middle"]) == ["base", "middle"]
    assert select(loaded, ["end", "base"]) == ["base", "side", "middle", "end"]
    with pytest.raises(InputError, match="'enf' is no stage of toy. Stages: base, side, middle, end"):
        select(loaded, ["enf"])


def test_a_recipe_runs_once(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [a.stage for a in run_recipe(load_recipe("toy"), RUNS)] == ["base", "side", "middle", "end"]
    assert ran() == ["base", "side", "middle", "end"]
    assert [a.stage for a in run_recipe(load_recipe("toy"), RUNS)] == ["base", "side", "middle", "end"]
    assert ran() == []
    assert capsys.readouterr().out.count("finished, nothing to do") == 4


def test_a_change_runs_its_stage_and_those_after_it(recipe: Path) -> None:
    run_recipe(load_recipe("toy"), RUNS)
    ran()
    run_recipe(load_recipe("toy"), RUNS, overrides=["side.steps=4"])
    assert ran() == ["side", "end"]


def test_force_runs_the_wanted_stages_alone(recipe: Path) -> None:
    run_recipe(load_recipe("toy"), RUNS)
    ran()
    run_recipe(load_recipe("toy"), RUNS, wanted=["middle"], force=True)
    assert ran() == ["middle"]
    # The same weights came out again: what stands on them is still finished.
    assert set(states().values()) == {"finished"}


def test_status_in_all_its_states(recipe: Path) -> None:
    assert states() == {"base": "missing", "side": "waiting", "middle": "waiting", "end": "waiting"}
    with pytest.raises(StageError, match="middle: the loss is not a number"):
        run_recipe(load_recipe("toy"), RUNS, overrides=["middle.fail=stage"])
    assert states(("middle.fail=stage",)) == {
        "base": "finished", "side": "finished", "middle": "interrupted", "end": "waiting",
    }  # fmt: skip
    run_recipe(load_recipe("toy"), RUNS)
    assert set(states().values()) == {"finished"}
    changed = {row.stage: row for row in status(load_recipe("toy"), RUNS, ["side.steps=4"])}
    assert (changed["side"].state, changed["side"].why) == ("stale", "changed: steps: 1 -> 4")
    assert (changed["end"].state, changed["end"].why) == ("stale", "side not finished")
    assert changed["middle"].state == "finished"


def test_a_typo_in_the_last_config_costs_nothing(recipe: Path) -> None:
    (recipe / "end.yaml").write_text("step: 1\n")
    with pytest.raises(InputError, match=r"end\.yaml:1: unknown key 'step'. Did you mean 'steps'\?"):
        run_recipe(load_recipe("toy"), RUNS)
    assert ran() == []


def test_wrong_data_is_an_input_error_only_where_nothing_was_started(recipe: Path) -> None:
    with pytest.raises(InputError, match="base: the data is wrong"):
        run_recipe(load_recipe("toy"), RUNS, overrides=["base.fail=input"])
    with pytest.raises(StageError, match="middle: the data is wrong"):
        run_recipe(load_recipe("toy"), RUNS, overrides=["middle.fail=input"])
    # Everything before it was finished already: nothing was started this time.
    with pytest.raises(InputError, match="middle: the data is wrong"):
        run_recipe(load_recipe("toy"), RUNS, overrides=["middle.fail=input"])
