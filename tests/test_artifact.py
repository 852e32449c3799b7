import errno
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from alloy.artifact import (
    Run,
    changed_keys,
    fingerprint_file,
    fingerprint_json,
    fingerprint_model,
    open_run,
    read_artifact,
    resolve_parent,
    write_atomically,
)
from alloy.config import LoggingConfig, StageConfig
from alloy.errors import InputError, StageError


class Toy(StageConfig):
    PARENTS: ClassVar = {"parent": ("policy",)}

    parent: str | None = None
    model: str | None = "hub/name"
    steps: int = 3
    data: str = "rows"
    resume: bool = True
    logging: LoggingConfig = LoggingConfig()

    def data_fingerprint(self) -> str:
        return fingerprint_json(self.data)


def open_toy(folder: Path, **given: Any) -> Run:
    return open_run(Toy(output=str(folder / "recipe" / "toy"), **given))[0]


def write_model(run: Run, text: str = "weights") -> None:
    run.folder.joinpath("model").mkdir(parents=True, exist_ok=True)
    (run.folder / "model" / "model.safetensors").write_text(text)
    (run.folder / "model" / "config.json").write_text("{}")


def finish_toy(folder: Path, **given: Any) -> Run:
    run = open_toy(folder, **given)
    run.begin()
    write_model(run)
    run.finish("policy", {"loss": 0.5}, tokens=7)
    return run


def test_a_finished_stage_tells_its_whole_story(tmp_path: Path) -> None:
    run = finish_toy(tmp_path, seed=3)
    artifact = read_artifact(run.folder)
    assert (artifact.kind, artifact.stage, artifact.recipe) == ("policy", "toy", "recipe")
    assert (artifact.seed, artifact.tokens, artifact.world_size) == (3, 7, 1)
    assert artifact.metrics == {"loss": 0.5}
    assert artifact.model == run.folder / "model"
    assert artifact.fingerprints["data"] == fingerprint_json("rows")
    assert artifact.fingerprints["weights"] == fingerprint_model(run.folder / "model")
    assert artifact.parents["parent"].fingerprint == "hub:hub/name"
    assert artifact.versions["torch"]
    assert "folder" not in json.loads((run.folder / "artifact.json").read_text())


def test_a_metric_that_is_no_number_does_not_break_the_artifact(tmp_path: Path) -> None:
    run = open_toy(tmp_path)
    run.begin()
    run.finish("evaluation", {"good": 1, "bad": float("nan"), "worse": float("inf")})
    assert read_artifact(run.folder).metrics == {"good": 1.0}


def test_artifact_is_written_last_and_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_toy(tmp_path)
    run.begin()
    write_model(run)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        run.finish("policy", {})
    assert run.finished() is None
    with pytest.raises(InputError, match=r"has no artifact\.json: the stage did not finish"):
        read_artifact(run.folder)


def test_finish_removes_checkpoints(tmp_path: Path) -> None:
    run = open_toy(tmp_path)
    run.begin()
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    run.finish("evaluation", {})
    assert not run.checkpoints.exists()


def test_write_atomically_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("broken")))
    with pytest.raises(OSError, match="broken"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_the_same_work_is_finished_whatever_it_logs(tmp_path: Path) -> None:
    finish_toy(tmp_path)
    again = open_toy(tmp_path, logging=LoggingConfig(every_steps=99), resume=False)
    assert again.stale() == []
    done = again.finished()
    assert done is not None
    assert done.metrics == {"loss": 0.5}


def test_stale_says_what_changed(tmp_path: Path) -> None:
    finish_toy(tmp_path)
    changed = open_toy(tmp_path, steps=4, seed=1)
    assert changed.stale() == ["seed: 0 -> 1", "steps: 3 -> 4"]
    assert changed.finished() is None
    other_model = open_toy(tmp_path, model="hub/other")
    assert other_model.stale() == ["model: hub/name -> hub/other", "the weights of parent"]
    run = open_toy(tmp_path)
    run.inputs = run.inputs.model_copy(update={"data": "other"})
    assert run.stale() == ["the data"]


def test_a_parent_trained_again_makes_its_child_stale(tmp_path: Path) -> None:
    parent = finish_toy(tmp_path / "p")
    child = open_toy(tmp_path, parent=str(parent.folder))
    child.begin()
    child.finish("evaluation", {})
    assert open_toy(tmp_path, parent=str(parent.folder)).finished()
    write_model(parent, "other weights")
    parent.finish("policy", {})
    assert open_toy(tmp_path, parent=str(parent.folder)).stale() == ["the weights of parent"]


def test_inputs_of_another_version_are_stale_not_a_crash(tmp_path: Path) -> None:
    run = finish_toy(tmp_path)
    (run.folder / "inputs.json").write_text('{"config": 1}')
    assert run.stale() == [f"{run.folder}/inputs.json is not of this version"]


def test_begin_keeps_what_the_same_inputs_left_and_removes_the_rest(tmp_path: Path) -> None:
    run = open_toy(tmp_path)
    run.begin()
    checkpoint = run.checkpoints / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    assert open_toy(tmp_path).begin() == []
    assert checkpoint.is_dir()
    assert open_toy(tmp_path, steps=4).begin() == ["steps: 3 -> 4"]
    assert not checkpoint.exists()
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.yaml", "inputs.json"]
    assert [path.name for path in run.folder.parent.iterdir()] == ["toy"]


def test_begin_removes_everything_by_force_and_where_resume_is_off(tmp_path: Path) -> None:
    run = finish_toy(tmp_path)
    run.force = True
    run.begin()
    assert not (run.folder / "model").exists()
    write_model(run)
    open_toy(tmp_path, resume=False).begin()
    assert not (run.folder / "model").exists()


def test_from_begin_on_a_stage_does_not_look_finished(tmp_path: Path) -> None:
    run = finish_toy(tmp_path)
    run.begin()
    assert run.finished() is None
    assert (run.folder / "model").is_dir()


def test_begin_never_removes_a_folder_that_no_run_has_made(tmp_path: Path) -> None:
    run = open_toy(tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "thesis.tex").write_text("years of work")
    run.force = True
    with pytest.raises(InputError, match=r"is not empty and no run folder \(thesis\.tex\)"):
        run.begin()
    assert (run.folder / "thesis.tex").read_text() == "years of work"


def test_only_the_main_process_writes_and_the_others_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("alloy.artifact.time.sleep", lambda seconds: None)
    run = open_toy(tmp_path)
    with pytest.raises(StageError, match="the main process did not make it ready"):
        run.begin()
    run.log(1, {"loss": 1.0})
    run.finish("policy", {})
    assert not run.folder.exists()
    monkeypatch.delenv("RANK")
    open_toy(tmp_path).begin()
    monkeypatch.setenv("RANK", "1")
    assert run.begin() == []


def test_log_and_rewind(tmp_path: Path) -> None:
    run = open_toy(tmp_path)
    run.begin()
    for step in (1, 2, 3):
        run.log(step, {"loss": step / 2, "name": "text"})  # type: ignore[dict-item]
        run.sample([{"step": step, "completion": "é"}])
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 1, "lo')  # a line cut by a kill
    run.rewind(2)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 0.5), (2, 1.0)]
    assert all("name" not in row for row in rows)
    assert (run.folder / "samples.jsonl").read_text() == (
        '{"step": 1, "completion": "é"}\n{"step": 2, "completion": "é"}\n'
    )
    run.rewind(-1)
    assert (run.folder / "metrics.jsonl").read_text() == ""


def test_parents_that_are_missing_or_of_the_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere has no artifact\.json: there is no such folder"):
        resolve_parent(tmp_path / "nowhere")
    run = finish_toy(tmp_path)
    with pytest.raises(InputError, match="reward_model: .* is a policy, this stage needs a reward-model"):
        resolve_parent(run.folder, ("reward-model",), "reward_model")
    (run.folder / "model" / "model.safetensors").unlink()
    (run.folder / "model" / "config.json").unlink()
    (run.folder / "model").rmdir()
    with pytest.raises(InputError, match="model is gone. Run toy again with --force"):
        resolve_parent(run.folder)
    (run.folder / "artifact.json").write_text("{")
    with pytest.raises(InputError, match="not an artifact of this version"):
        resolve_parent(run.folder)


def test_a_plain_model_folder_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \*\.safetensors in it"):
        resolve_parent(tmp_path)
    (tmp_path / "model.safetensors").write_text("w")
    parent = resolve_parent(tmp_path)
    assert (parent.path, parent.artifact) == (tmp_path, None)
    assert parent.lineage.fingerprint == fingerprint_model(tmp_path)


def test_no_parent_and_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="parent is not set: this stage starts from a policy"):
        open_toy(tmp_path, model=None)
    with pytest.raises(InputError, match="output: no run folder"):
        open_run(Toy())


def test_a_model_fingerprint_sees_weights_and_template_but_no_readme(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("w")
    first = fingerprint_model(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    assert fingerprint_model(tmp_path) == first
    (tmp_path / "chat_template.jinja").write_text("t")
    second = fingerprint_model(tmp_path)
    assert second != first
    (tmp_path / "model.safetensors").write_text("v")
    assert fingerprint_model(tmp_path) not in (first, second)


def test_a_file_fingerprint_is_blake3_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert fingerprint_file(path) == blake3(b"abc" * 100_000).hexdigest()


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_changed_keys_is_empty_exactly_for_equal_values(before: Any, after: Any) -> None:
    def same(a: Any, b: Any) -> bool:
        # A key that is missing and one that is null mean the same in a config.
        if isinstance(a, dict) and isinstance(b, dict):
            return all(same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
        return bool(a == b)

    assert (changed_keys(before, after) == []) == same(before, after)
