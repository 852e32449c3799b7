"""What the run folders hold, read for the report: whatever is missing or broken becomes a note.

A report is most wanted when something went wrong, so nothing in a run folder can stop it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import yaml

from alloy.errors import InputError
from alloy.report.lenient import json_rows, mapping, number, read_object, read_text, text

State = Literal["finished", "stale", "interrupted", "missing", "given"]
"""The words of `alloy status`; `given` is a model that the run started from and did not make."""

_MARKS = (
    "artifact.json",
    "inputs.json",
    "metrics.jsonl",
    "samples.jsonl",
    "config.yaml",
    "results.json",
    "sweep.json",
    "profile.json",
    "validation.json",
)


@dataclass(frozen=True)
class Planned:
    """A stage as its recipe has it: what it needs, and whether it measures models and makes none."""

    needs: list[str]
    judges: bool


@dataclass
class Series:
    """One logged quantity over the steps at which it was logged."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Stage:
    """One run folder.

    Attributes:
        parents: role -> name of a stage of this run, or the path of a model that was given.
        logs: part of the stage ("" or an iteration's folder name) -> quantity -> series.
        sample_files: samples.jsonl of the stage and of its iterations.
        settings: its config, read; empty where that is no mapping.
        profiles: pass rates of its tasks, as measured before and while it trained.
    """

    name: str
    folder: Path
    artifact: dict[str, Any] = field(default_factory=dict)
    state: State = "missing"
    why: str = ""
    parents: dict[str, str] = field(default_factory=dict)
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, dict[str, Series]] = field(default_factory=dict)
    sample_files: list[Path] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    validation: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of an iterated stage: what each iteration had to learn from."""
    judges: bool = False
    """Whether it measures the models that it is given, and makes none."""

    @property
    def kind(self) -> str:
        return text(self.artifact.get("kind"))

    @property
    def max_steps(self) -> float | None:
        return number(mapping(self.settings.get("train")).get("max_steps"))

    @property
    def last_step(self) -> float | None:
        return max((s.steps[-1] for log in self.logs.values() for s in log.values() if s.steps), default=None)


@dataclass
class Record:
    """A run: its stages, each after its parents, and what could not be read."""

    root: Path
    recipe: str
    stages: list[Stage]
    notes: list[str]


def read_record(root: Path, planned: Mapping[str, Planned] | None = None) -> Record:
    """Read all run folders under runs/<recipe>.

    Args:
        planned: the recipe's stages in their order; those without a folder are missing.
    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder. Name a recipe's run folder, e.g. runs/demo.")
    notes: list[str] = []
    folders = sorted(path for path in root.iterdir() if path.is_dir() and _is_run_folder(path))
    stages = [_read_stage(folder, notes) for folder in folders]
    if not stages:
        notes.append("There is no run folder in here yet.")
    planned = planned or {}
    present = {stage.name for stage in stages}
    stages += [
        Stage(name, root / name, parents={need: need for need in plan.needs})
        for name, plan in planned.items()
        if name not in present
    ]
    _link(stages)
    for stage in stages:
        judges = stage.name in planned and planned[stage.name].judges
        stage.judges = judges or stage.kind == "evaluation" or bool(stage.results)
    ordered = _in_order(stages, list(planned))
    _judge_states(ordered)
    recipes = [name for stage in ordered if (name := text(stage.artifact.get("recipe")))]
    return Record(root, recipes[-1] if recipes else root.resolve().name, ordered, notes)


def _is_run_folder(folder: Path) -> bool:
    return not folder.name.startswith((".", "_")) and any((folder / name).exists() for name in _MARKS)


def _read_stage(folder: Path, notes: list[str]) -> Stage:
    stage = Stage(folder.name, folder, read_object(folder / "artifact.json", notes))
    stage.config = read_text(folder / "config.yaml", notes)
    stage.settings = _read_settings(stage.config)
    stage.results = read_object(folder / "results.json", notes)
    stage.sweep = read_object(folder / "sweep.json", notes)
    stage.profiles = [
        profile
        for path in (folder / "profile.json", *sorted(folder.glob("profile-*.json")))
        if (profile := read_object(path, notes, "rates"))
    ]
    stage.validation = read_object(folder / "validation.json", notes, "steps")
    # An iterated stage keeps each iteration in a folder of its own.
    parts = [path for path in folder.iterdir() if path.is_dir() and _is_run_folder(path)]
    inner = sorted(parts, key=lambda path: (len(path.name), path.name))  # the tenth after the second
    for part in [folder, *inner]:
        log = _read_log(part / "metrics.jsonl", notes)
        if log:
            stage.logs["" if part is folder else part.name] = log
        sampled = mapping(read_object(part / "sampled.json", notes, "metrics").get("metrics"))
        told = {key: value for key, given in sampled.items() if (value := number(given)) is not None}
        if told:
            stage.parts[part.name] = told
        if (part / "samples.jsonl").is_file():
            stage.sample_files.append(part / "samples.jsonl")
    lineage = stage.artifact or read_object(folder / "inputs.json", notes)
    stage.parents = {
        role: path
        for role, parent in mapping(lineage.get("parents")).items()
        if (path := text(mapping(parent).get("path")))
    }
    return stage


def _read_settings(config: str) -> dict[str, Any]:
    try:
        return mapping(yaml.safe_load(config))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


def _read_log(path: Path, notes: list[str]) -> dict[str, Series]:
    log: dict[str, Series] = {}
    if not path.is_file():
        return log
    for row in json_rows(path, notes):
        step = number(row.get("step"))
        if step is None:
            continue
        for key, value in row.items():
            logged = number(value)
            if logged is not None and key != "step":
                series = log.setdefault(key, Series())
                series.steps.append(step)
                series.values.append(logged)
    return log


def _link(stages: list[Stage]) -> None:
    """Parents are recorded as paths; those which lead to a stage of this run become its name."""
    names = {stage.name for stage in stages}
    for stage in stages:
        for role, path in stage.parents.items():
            parts = [part for part in PurePath(path).parts[-2:] if part in names and part != stage.name]
            if parts:
                stage.parents[role] = parts[-1]


def _in_order(stages: list[Stage], order: list[str]) -> list[Stage]:
    """Each after its parents, otherwise in the recipe's order, and else in that in which they were finished."""
    place = {name: index for index, name in enumerate(order)}
    waiting = sorted(
        stages,
        key=lambda s: (place.get(s.name, len(order)), text(s.artifact.get("created")) or "~", s.name),
    )
    ordered: list[Stage] = []
    while waiting:
        open_names = {stage.name for stage in waiting}
        ready = next((s for s in waiting if not open_names & set(s.parents.values())), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _judge_states(stages: list[Stage]) -> None:
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        if not stage.folder.is_dir():
            waits = [p for p in stage.parents.values() if p in by_name and by_name[p].state != "finished"]
            stage.state, stage.why = "missing", f"waits for {', '.join(waits)}" if waits else "not run yet"
            continue
        if not stage.artifact:
            stage.state, stage.why = "interrupted", _progress(stage)
            continue
        stage.state = "finished"
        for role, name in stage.parents.items():
            parent = by_name.get(name)
            if parent is None:
                continue
            recorded = mapping(mapping(stage.artifact.get("parents")).get(role)).get("fingerprint")
            current = mapping(parent.artifact.get("fingerprints")).get("weights")
            if parent.state != "finished":
                stage.state, stage.why = "stale", f"{name} is {parent.state}"
            elif recorded and current and recorded != current:
                stage.state, stage.why = "stale", f"made from other weights of {name}"


def _progress(stage: Stage) -> str:
    if stage.last_step is None:
        return "nothing logged yet"
    of = f" of {stage.max_steps:g}" if stage.max_steps else ""
    return f"step {stage.last_step:g}{of}"
