"""The typed base of every config: YAML and dotted overrides become one frozen object.

Imports no torch: `--help`, `--dry-run` and `alloy status` answer from here.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alloy.errors import InputError


class Config(BaseModel):
    """A frozen config that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class OptimConfig(Config):
    """The optimizer and its schedule."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalises the updates of hidden matrices and leaves the rest to AdamW; one rate serves both."""
    learning_rate: float = Field(gt=0)
    """Peak rate."""
    embedding_learning_rate: float | None = Field(None, gt=0)
    """Of what Muon leaves to AdamW: embeddings, heads, norms; `learning_rate` when not given."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Share of all steps."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled, of every weight that has more than one dimension."""
    beta2: float = Field(0.999, gt=0, lt=1)
    """AdamW's decay of the squared gradients; short runs want a shorter memory."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are scaled down to it."""
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    """The rate's course after the warm-up."""


class TrainConfig(Config):
    """How much is trained, and in what portions."""

    max_steps: int = Field(gt=0)
    """Optimizer updates."""
    per_device_batch_size: int = Field(8, gt=0)
    """Sequences a process holds at once."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Batches of a process that make one update."""
    max_sequence_tokens: int = Field(512, gt=0)
    """The longest sequence that is trained on."""
    precision: Literal["float32", "bfloat16", "auto", "by-device"] = "by-device"
    """Of the arithmetic; the weights are kept as `model/` has them. `by-device`: bfloat16 on a GPU that does it,
    float32 on a CPU; `auto`: bfloat16 on a CPU that does it, too."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations twice instead of keeping them: less memory, more time. `auto`: on a GPU whose memory
    does not hold them by the planner's count; never on a CPU."""
    fused_kernels: bool | Literal["auto"] = "auto"
    """liger-kernel's norms, rotary positions and gated MLPs. `auto`: on a GPU where it is installed and knows the
    model."""
    save_steps: int | None = Field(None, gt=0)
    """Optimizer updates between checkpoints; none is written when not given."""
    keep_checkpoints: int = Field(2, gt=0)
    """The latest so many stay."""


class LoraConfig(Config):
    """Low-rank adapters (peft) instead of full fine-tuning; merged into the weights at the end."""

    rank: int = Field(16, gt=0)
    """Of the two matrices that stand for a change."""
    alpha: float = Field(32, gt=0)
    """The change is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the adapter's input."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """The linear layers that are adapted, by name."""


class LoggingConfig(Config):
    """What a run says of itself while it runs; always to `metrics.jsonl`."""

    every_steps: int = Field(default=10, gt=0)
    """Optimizer updates between two lines."""
    tensorboard: bool = True
    """Curves for TensorBoard, too."""


class StageConfig(Config):
    """What every stage has: where it writes, its seed, and which of its fields name parents."""

    PARENTS: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fields that name a parent, with the kinds of artifact each takes."""

    OPTIONAL_PARENTS: ClassVar[frozenset[str]] = frozenset()
    """Those of PARENTS that a stage can do without."""

    output: str | None = None
    """The run folder; `runs/<recipe>/<stage>` when not given."""
    seed: int = 0
    """Of everything random in the stage."""

    def data_fingerprint(self) -> str:
        """The identity of what the stage reads beside its parents; "" where it reads nothing."""
        return ""

    def check_tasks(self) -> None:
        """Refuse what the stage would find when its turn comes, hours after the recipe's first.

        Raises:
            InputError: its files have fewer tasks than it asks for, or bad ones.
        """


class TrainingConfig(StageConfig):
    """What every training stage has beside its data."""

    PARENTS = {"parent": ("policy",)}

    model: str | None = None
    """A Hub name or a model folder, for a stage that starts a recipe; `parent` otherwise."""
    parent: str | None = None
    """A run folder or a model folder; from `needs` in pipeline.yaml when not given."""
    optim: OptimConfig
    train: TrainConfig
    lora: LoraConfig | None = None
    logging: LoggingConfig = LoggingConfig()
    resume: bool = True
    """Go on from the last complete checkpoint of an interrupted run."""

    @model_validator(mode="after")
    def _muon_needs_matrices(self) -> "TrainingConfig":
        if self.optim.kind == "muon" and self.lora is not None:
            raise ValueError(
                "optim.kind = muon with lora: Muon is for whole matrices. Set optim.kind=adamw or leave lora out"
            )
        if self.optim.kind == "adamw" and self.optim.embedding_learning_rate is not None:
            raise ValueError(
                "optim.embedding_learning_rate is for optim.kind = muon: set that, or leave it out"
            )
        return self


ConfigT = TypeVar("ConfigT", bound=Config)


Places = dict[tuple[str, ...], str]
"""Key path to `file:line`, lines from 1."""


def read_yaml(path: Path) -> tuple[dict[str, Any], Places]:
    """A YAML mapping and the place of each of its keys.

    With `extends: other.yaml` a file is another one with changes: mappings are merged key by key, anything
    else that the file names is its own.

    Raises:
        InputError: no such file, one that is no mapping, a key twice, or files that extend each other.
    """
    return _read_extended(path, ())


def _read_extended(path: Path, readers: tuple[Path, ...]) -> tuple[dict[str, Any], Places]:
    values, places = _read_one(path)
    if "extends" not in values:
        return values, places
    where, named = places.pop(("extends",)), values.pop("extends")
    if not isinstance(named, str):
        raise InputError(f"{where}: extends = {named!r}: name one YAML file, relative to this one.")
    base = path.parent / named
    if not base.is_file():
        raise InputError(f"{where}: extends = {named!r}: there is no file {base}.")
    readers = (*readers, path.resolve())
    if base.resolve() in readers:
        raise InputError(f"{where}: extends = {named!r}: these files extend each other in a circle.")
    base_values, base_places = _read_extended(base, readers)
    _merge(base_values, base_places, values, ())
    return base_values, base_places | places


def _merge(base: dict[str, Any], places: Places, changes: dict[str, Any], prefix: tuple[str, ...]) -> None:
    """Changes into a base, in place; what a change replaces loses its places."""
    for key, value in changes.items():
        path = (*prefix, str(key))
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], places, value, path)
            continue
        base[key] = value
        for old in [place for place in places if place[: len(path)] == path]:
            del places[old]


def _read_one(path: Path) -> tuple[dict[str, Any], Places]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Name a YAML config.")
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}.") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(f"{path}:1: a config is a mapping of keys to values, not {type(values).__name__}.")
    places: Places = {}
    if node is not None:
        _collect_places(node, (), places, path)
    return values, places


def _collect_places(node: yaml.Node, prefix: tuple[str, ...], places: Places, file: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            where = f"{file}:{key.start_mark.line + 1}"
            if path in places:
                first = places[path].rpartition(":")[2]
                raise InputError(
                    f"{where}: {'.'.join(path)!r} stands here a second time, after line {first}. "
                    "Remove one of the two."
                )
            places[path] = where
            _collect_places(value, path, places, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            places[path] = f"{file}:{value.start_mark.line + 1}"
            _collect_places(value, path, places, file)


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set `key.sub=value` in place; the value is read as YAML, list items are addressed by number."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"{override!r}: an override is written key.sub=value.")
        try:
            value = yaml.safe_load(text) if text else None
        except yaml.YAMLError:
            raise InputError(f"{override!r}: the value after = is not YAML. Quote it.") from None
        *path, last = key.split(".")
        target: Any = values
        for part in path:
            if isinstance(target, list):
                target = target[_index(part, target, override)]
                if not isinstance(target, dict | list):
                    raise InputError(
                        f"{override!r}: item {part} is {target!r}, which has no keys. Set it whole."
                    )
                continue
            if not isinstance(target.get(part), dict | list):
                target[part] = {}
            target = target[part]
        if isinstance(target, list):
            target[_index(last, target, override)] = value
        else:
            target[last] = value


def _index(part: str, target: list[Any], override: str) -> int:
    if not part.isdigit() or int(part) >= len(target):
        raise InputError(f"{override!r}: {part!r} is no item of a list of {len(target)}; count from 0.")
    return int(part)


def parse(
    cls: type[ConfigT],
    values: dict[str, Any],
    source: str,
    places: Places | None = None,
) -> ConfigT:
    """Validate a mapping; every problem is told with its file, line, value and remedy.

    Raises:
        InputError: with one line a problem.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [_explain(cls, problem, source, places or {}) for problem in error.errors()]
        raise InputError("\n".join(problems)) from None


def _explain(cls: type[Config], problem: Any, source: str, places: Places) -> str:
    path = tuple(str(part) for part in problem["loc"])
    # A union's tag is part of pydantic's path but not of the file's.
    known = max((p for p in places if _is_subsequence(p, path)), key=len, default=())
    where = places[known] if known else source
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        names = _field_names(cls, path[:-1])
        near = difflib.get_close_matches(path[-1], names, 1, 0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(names))}."
        return f"{where}: unknown key {name!r}. {remedy}"
    if problem["type"] == "missing":
        return f"{where}: {name!r} is needed and has no default. Set it."
    if problem["type"] == "value_error":
        # A rule between several keys: the message names them, the input would be the whole mapping.
        told = problem["ctx"]["error"]
        return f"{where}: {name}: {told}." if name else f"{where}: {told}."
    return f"{where}: {name} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}."


def _is_subsequence(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    rest = iter(long)
    return all(part in rest for part in short)


def _field_names(cls: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """The keys a config takes at a path; descends through unions and lists, all candidates together."""
    found: list[type[BaseModel]] = [cls]
    for part in path:
        deeper: list[type[BaseModel]] = []
        for candidate in found:
            field = candidate.model_fields.get(part)
            deeper += _models_in(field.annotation) if field else []
        found = deeper or found
    return [name for candidate in found for name in candidate.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def load(cls: type[ConfigT], path: str | Path, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a YAML config and apply `key.sub=value` overrides.

    Raises:
        InputError: a missing or broken file, an unknown key, a value outside its rule.
    """
    values, places = read_yaml(Path(path))
    apply_overrides(values, overrides)
    return parse(cls, values, str(path), places)


def dump(config: Config) -> str:
    """The resolved config as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
