from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alloy.config import apply_overrides, dump, load, parse, read_yaml
from alloy.errors import InputError
from alloy.pipeline import load_recipe, stage_config
from dpo.config import DpoConfig
from grpo.config import GrpoConfig
from rlhf.config import RewardModelConfig
from sft.config import SftConfig

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.parent.name for path in ROOT.glob("configs/*/pipeline.yaml"))

SFT = """\
data:
  sources:
    - {environment: math, rows: 10}
    - environment: chat
      rows: 5
optim: {learning_rate: 1e-6}
train:
  max_steps: 3
"""


def write(folder: Path, text: str, name: str = "sft.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_config_is_read_with_its_defaults(tmp_path: Path) -> None:
    config = load(SftConfig, write(tmp_path, SFT))
    assert config.optim.learning_rate == 1e-6  # YAML 1.1 reads 1e-6 as a string
    assert (config.train.max_steps, config.train.per_device_batch_size, config.seed) == (3, 8, 0)
    assert [source.rows for source in config.data.sources] == [10, 5]


def test_unknown_key_is_told_with_line_and_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path, SFT.replace("max_steps", "max_step"))
    with pytest.raises(InputError) as caught:
        load(SftConfig, path)
    told = str(caught.value).splitlines()
    assert f"{path}:8: unknown key 'train.max_step'. Did you mean 'max_steps'?" in told
    assert f"{path}:7: 'train.max_steps' is needed and has no default. Set it." in told


def test_unknown_key_inside_a_list_has_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path, SFT.replace("      rows: 5", "      row: 5\n      rows: 5"))
    with pytest.raises(InputError) as caught:
        load(SftConfig, path)
    assert str(caught.value) == f"{path}:5: unknown key 'data.sources.1.row'. Did you mean 'rows'?"


def test_unknown_key_like_no_other_lists_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, SFT + "zzz: 1\n")
    with pytest.raises(InputError, match=r"sft\.yaml:9: unknown key 'zzz'\. Known here: data, logging, lora"):
        load(SftConfig, path)


def test_a_value_outside_its_rule(tmp_path: Path) -> None:
    path = write(tmp_path, SFT.replace("max_steps: 3", "max_steps: 0"))
    with pytest.raises(InputError) as caught:
        load(SftConfig, path)
    assert str(caught.value) == f"{path}:8: train.max_steps = 0: input should be greater than 0."


def test_a_rule_between_keys_does_not_print_the_whole_config(tmp_path: Path) -> None:
    path = write(tmp_path, SFT.replace("      rows: 5\n", ""))
    with pytest.raises(InputError) as caught:
        load(SftConfig, path)
    assert str(caught.value) == (
        f"{path}:4: data.sources.1: an environment makes rows without end: give `rows`."
    )


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: x\ntrain: {max_steps: -1}\n")
    with pytest.raises(InputError) as caught:
        load(SftConfig, path)
    assert len(str(caught.value).splitlines()) == 4  # seed, max_steps, optim, data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", r"x\.yaml:2: not YAML: "),
        ("- 1\n", r"x\.yaml:1: a config is a mapping of keys to values, not list"),
        ("seed: 1\noutput: a\nseed: 2\n", r"x\.yaml:3: 'seed' stands here a second time, after line 1"),
        ("optim:\n  learning_rate: 1\n  learning_rate: 2\n", r"x\.yaml:3: 'optim\.learning_rate' stands"),
        ("a: !!python/object:os.system 1\n", r"x\.yaml:1: not YAML"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_yaml(write(tmp_path, text, "x.yaml"))


def test_a_missing_file_and_a_file_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match="not YAML"):
        read_yaml(tmp_path / "x.yaml")


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path, "# nothing\n")) == ({}, {})


def test_a_file_extends_another(tmp_path: Path) -> None:
    write(tmp_path, SFT, "first.yaml")
    write(tmp_path, "extends: first.yaml\ntrain: {max_steps: 7}\nseed: 2\n", "second.yaml")
    path = write(
        tmp_path, "extends: second.yaml\ndata: {sources: [{environment: math, rows: 4}]}\n", "x.yaml"
    )
    config = load(SftConfig, path)
    assert (config.train.max_steps, config.seed, config.optim.learning_rate) == (7, 2, 1e-6)
    assert [(source.environment, source.rows) for source in config.data.sources] == [("math", 4)]


def test_a_problem_is_told_in_the_file_that_has_it(tmp_path: Path) -> None:
    write(tmp_path, SFT, "first.yaml")
    path = write(tmp_path, "extends: first.yaml\ntrain: {max_steps: 1, max_step: 7}\n", "x.yaml")
    with pytest.raises(
        InputError, match=r"/x\.yaml:2: unknown key 'train\.max_step'\. Did you mean 'max_steps'"
    ):
        load(SftConfig, path)
    write(tmp_path, SFT.replace("rows: 5", "row: 5"), "first.yaml")
    path = write(tmp_path, "extends: first.yaml\nseed: 1\n", "x.yaml")
    with pytest.raises(InputError, match=r"/first\.yaml:5: unknown key 'data\.sources\.1\.row'"):
        load(SftConfig, path)


def test_what_is_replaced_has_no_place_in_the_file_below(tmp_path: Path) -> None:
    write(tmp_path, "a: {b: [1, 2], c: 3}\nd: 4\n", "first.yaml")
    values, places = read_yaml(write(tmp_path, "\nextends: first.yaml\na: {b: [5]}\n", "x.yaml"))
    assert values == {"a": {"b": [5], "c": 3}, "d": 4}
    told = {".".join(path): place.removeprefix(f"{tmp_path}/") for path, place in places.items()}
    assert told == {
        "a": "x.yaml:3",
        "a.b": "x.yaml:3",
        "a.b.0": "x.yaml:3",
        "a.c": "first.yaml:1",
        "d": "first.yaml:2",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seed: 1\nextends: none.yaml\n",
            r"x\.yaml:2: extends = 'none\.yaml': there is no file .*none\.yaml\.$",
        ),
        ("extends: [a.yaml]\n", r"x\.yaml:1: extends = \['a\.yaml'\]: name one YAML file"),
        ("extends: x.yaml\n", r"x\.yaml:1: extends = 'x\.yaml': these files extend each other in a circle"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_yaml(write(tmp_path, text, "x.yaml"))


def test_overrides(tmp_path: Path) -> None:
    overrides = [
        "optim.learning_rate=1e-4",
        "data.sources.1.rows=7",
        "data.sources.0={environment: recall, rows: 2}",
        "lora.rank=4",
        "train.save_steps=",
        "seed=3",
        "train.precision=bfloat16",
    ]
    config = load(SftConfig, write(tmp_path, SFT), overrides)
    assert config.optim.learning_rate == 1e-4
    assert [(s.environment, s.rows) for s in config.data.sources] == [("recall", 2), ("chat", 7)]
    assert config.lora is not None
    assert config.lora.rank == 4
    assert (config.seed, config.train.save_steps, config.train.precision) == (3, None, "bfloat16")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed': an override is written key.sub=value."),
        ("=3", "'=3': an override is written key.sub=value."),
        ("seed=[1", "the value after = is not YAML"),
        ("data.sources.2.rows=1", "'2' is no item of a list of 2; count from 0."),
        ("data.sources.x=1", "'x' is no item of a list of 2"),
        ("data.sources.-1=1", "'-1' is no item of a list of 2"),
        ("optim.learning_rat=1", "unknown key 'optim.learning_rat'. Did you mean 'learning_rate'?"),
        ("train.max_steps=many", "train.max_steps = 'many'"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(SftConfig, write(tmp_path, SFT), [override])
    assert message in str(caught.value)


def test_an_override_into_a_plain_list_item() -> None:
    with pytest.raises(InputError, match="item 0 is 16, which has no keys"):
        apply_overrides({"budgets": [16]}, ["budgets.0.tokens=1"])


KEYS = st.text("abcdef", min_size=1, max_size=4)
LEAVES = st.one_of(
    st.integers(), st.booleans(), st.text("xyz", min_size=1, max_size=3).filter(lambda t: t != "y")
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, LEAVES, max_size=3), max_size=3), KEYS, KEYS, LEAVES)
def test_an_override_changes_its_key_and_no_other(values: dict[str, Any], a: str, b: str, leaf: Any) -> None:
    changed = {key: dict(sub) for key, sub in values.items()}
    apply_overrides(changed, [f"{a}.{b}={yaml.safe_dump(leaf).splitlines()[0]}"])
    expected = {key: dict(sub) for key, sub in values.items()}
    expected.setdefault(a, {})[b] = leaf
    assert changed == expected


def test_a_config_is_frozen(tmp_path: Path) -> None:
    config = load(SftConfig, write(tmp_path, SFT))
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.optim.learning_rate = 1.0


def test_a_dump_reads_back_as_the_same_config(tmp_path: Path) -> None:
    config = load(SftConfig, write(tmp_path, SFT), ["lora={}"])
    again = load(SftConfig, write(tmp_path, dump(config), "again.yaml"))
    assert again == config


ROLLOUT: dict[str, Any] = {"max_completion_tokens": 8}
GRPO: dict[str, Any] = {
    "environments": {"math": {"tasks": 4}},
    "rollout": ROLLOUT,
    "prompts_per_step": 3,
    "group_size": 2,
    "optim": {"learning_rate": 1e-5},
    "train": {"max_steps": 1, "per_device_batch_size": 6},
}


def test_grpo_batches_must_come_out_whole() -> None:
    assert parse(GrpoConfig, GRPO, "x").shares() == {"math": 1.0}
    with pytest.raises(InputError) as caught:
        parse(GrpoConfig, {**GRPO, "train": {"max_steps": 1, "per_device_batch_size": 4}}, "x.yaml")
    assert str(caught.value) == (
        "x.yaml: prompts_per_step x group_size = 6 is no multiple of train.per_device_batch_size = 4."
    )
    train = {"max_steps": 1, "per_device_batch_size": 6, "gradient_accumulation_steps": 2}
    with pytest.raises(InputError, match="leave it out"):
        parse(GrpoConfig, {**GRPO, "train": train}, "x.yaml")


def test_an_unknown_environment_is_refused_before_anything_starts() -> None:
    config = parse(GrpoConfig, {**GRPO, "environments": {"maths": {"tasks": 4}}}, "x")
    with pytest.raises(InputError, match="environment 'maths': there is no such one. Known: math,"):
        config.data_fingerprint()


def test_preferences_have_one_origin() -> None:
    data = {"environment": "chat", "path": "x.jsonl", "pairs": 1, "held_out": 1}
    values = {"data": data, "optim": {"learning_rate": 1e-5}, "train": {"max_steps": 1}}
    with pytest.raises(InputError, match="x: data: preferences come from an environment, a path or the hub"):
        parse(RewardModelConfig, values, "x")


def test_no_default_for_the_learning_rate_and_the_number_of_tasks() -> None:
    with pytest.raises(InputError) as caught:
        parse(DpoConfig, {"environments": {"workplace": {}}}, "x")
    named = {line.split("'")[1] for line in str(caught.value).splitlines()}
    tasks = {f"environments.workplace.{key}" for key in ("tasks", "validation_tasks")}
    assert named == {"optim", "train", "rollout"} | tasks


def test_there_are_recipes() -> None:
    assert "demo" in RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_shipped_config_loads_as_its_own_stage(recipe: str) -> None:
    loaded = load_recipe(str(ROOT / "configs" / recipe))
    for stage in loaded.stages:
        config = stage_config(loaded, stage, Path("runs") / recipe)
        assert config.output == f"runs/{recipe}/{stage}"
    files = {path.stem for path in loaded.folder.glob("*.yaml")}
    assert files == {*loaded.stages, "pipeline"}, "a YAML that no stage reads, or a stage without one"
