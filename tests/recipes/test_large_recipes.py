"""The two large recipes: they are read, planned, fit where docs/recipes.md says so, and train as small stand-ins."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_line import alloy
from hub_rows import ROWS
from transformers import AutoConfig, AutoModelForCausalLM

from alloy.pipeline import load_recipe, stage_config
from alloy.plan.launch import Launch
from alloy.plan.recipe import StagePlan, plan_recipe
from alloy.plan.source import read_shape

ROOT = Path(__file__).parents[2]
BASES = {
    "qwen3-8b": ("Qwen3-8B-Base.config.json", 8.19),
    "nemotron-nano-9b-v2": ("NVIDIA-Nemotron-Nano-9B-v2-Base.config.json", 8.89),
}
GRAPH = ["base", "sft-1", "sft-2", "sft-3", "grpo", "dpo", "reward-model", "rlhf", "merge", "evaluate"]
GIB = 1 << 30


def kept(recipe: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "configs" / recipe / BASES[recipe][0]).read_text())
    return found


def planned(recipe: str, launch: Launch, *overrides: str) -> dict[str, StagePlan]:
    plans = plan_recipe(load_recipe(recipe), Path("runs") / recipe, launch, overrides)
    return {plan.stage: plan for plan in plans}


@pytest.mark.parametrize("recipe", BASES)
def test_it_has_the_whole_graph_and_every_config_is_read(recipe: str) -> None:
    loaded = load_recipe(recipe)
    assert list(loaded.stages) == GRAPH
    for stage in loaded.stages:
        config = stage_config(loaded, stage, Path("runs") / recipe)
        # A name on the Hub is enough for what a stage is known by: nothing is fetched.
        assert isinstance(config.data_fingerprint(), str)


@pytest.mark.parametrize("recipe", BASES)
def test_parameters_are_transformers_own(recipe: str) -> None:
    config = AutoConfig.for_model(**kept(recipe))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    own = sum(parameter.numel() for parameter in model.parameters())
    base: Any = stage_config(load_recipe(recipe), "base", Path("runs"))
    assert read_shape(base.model, ROOT / "configs" / recipe).parameters == own
    assert round(own / 1e9, 2) == BASES[recipe][1]


@pytest.mark.parametrize("recipe", BASES)
def test_everything_fits_on_eight_gpus(recipe: str) -> None:
    zero3 = Launch(8, 80 * GIB, "zero3")
    plans = planned(recipe, zero3)
    assert [stage for stage, plan in plans.items() if not plan.fits(zero3)] == []
    assert [note for plan in plans.values() for note in plan.notes if "refuses" in note] == []
    # RLHF leaves two of the node's GPUs to the server of qwen3-8b's rollouts.
    six = Launch(6, 80 * GIB, "zero3")
    if recipe == "qwen3-8b":
        rlhf = planned(recipe, six)["rlhf"]
        assert rlhf.fits(six)
        assert not any("refuses" in note for note in rlhf.notes)


def test_128k_tokens_need_the_machine_s_memory() -> None:
    """One hidden state a block: 56 x 131,072 x 4,480 x 2 bytes in the machine, five of them on the GPU."""
    zero3 = Launch(8, 80 * GIB, "zero3")
    sft = planned("nemotron-nano-9b-v2", zero3)["sft-1"]
    state = 131072 * 4480 * 2
    assert sft.memory.host == 56 * state
    without = planned("nemotron-nano-9b-v2", zero3, "sft-1.train.activation_offloading=false")["sft-1"]
    assert not without.fits(zero3)
    assert without.memory.host == 0
    # At the head all 56 were there, and now are five: those that are being copied.
    heads = [
        next(phase for phase in plan.memory.phases if phase.name == "training: the head").kinds["activations"]
        for plan in (without, sft)
    ]
    assert heads[0] - heads[1] == (56 - 5) * state


def test_sequences_divided_between_two_gpus_take_half_the_activations() -> None:
    whole, halves = Launch(8, 80 * GIB, "zero3"), Launch(8, 80 * GIB, "zero3", parts=2)
    one, two = (planned("qwen3-8b", launch)["sft-1"] for launch in (whole, halves))
    assert two.memory.most("activations") == one.memory.most("activations") / 2
    assert two.compute.trained == one.compute.trained / 2
    assert planned("qwen3-8b", halves)["grpo"].notes[0].startswith("the stage refuses to start")
    assert planned("nemotron-nano-9b-v2", halves)["sft-1"].notes[0].startswith("the stage refuses to start")


@pytest.mark.parametrize("recipe", BASES)
def test_the_plan_answers_at_once(recipe: str) -> None:
    file = ROOT / "configs/accelerate/zero3.yaml"
    began = time.process_time()
    rows = json.loads(
        alloy("plan", recipe, "--device-memory", "80GiB", "--accelerate", str(file), "--json").stdout
    )
    assert time.process_time() - began < 5
    assert {row["stage"] for row in rows if row["fits"] is False} == set()


def test_the_page_has_the_plan_s_figures() -> None:
    """Peak of every stage on eight GPUs, as docs/recipes.md tells it."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for recipe in BASES:
        table = text.split(f"plan {recipe}", 1)[1].split("\n\n")[1]
        told = dict(re.findall(r"^\| ([\w-]+) \| .*\| ([\d.]+) \|$", table, re.MULTILINE))
        plans = planned(recipe, Launch(8, 80 * GIB, "zero3"))
        for stage, plan in plans.items():
            if plan.memory.phases:
                assert float(told[stage]) == pytest.approx(plan.memory.peak.bytes / GIB, abs=0.06), stage


def stand_in(recipe: str, tokenizer: Any, folder: Path) -> Path:
    """A model of the recipe's own config with its sizes cut: the same kinds of layers, heads and norms."""
    told = kept(recipe) | {
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "vocab_size": len(tokenizer), "torch_dtype": "float32", "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
    }  # fmt: skip
    if told["model_type"] == "nemotron_h":
        told |= {"hybrid_override_pattern": "M-M*-", "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2,
                 "ssm_state_size": 8, "chunk_size": 16}  # fmt: skip
        told.pop("num_hidden_layers")
    else:
        told |= {"num_hidden_layers": 2, "max_window_layers": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**told))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("recipe", BASES)
def test_stage_one_trains_a_stand_in_on_rows_in_the_hub_s_columns(
    recipe: str, tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base stage takes a model folder in the Hub's place; stage 1 then trains on every source it names."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = stand_in(recipe, tiny_tokenizer, tmp_path / "hub")
    base, sft = f"configs/{recipe}/base.yaml", f"configs/{recipe}/sft-1.yaml"
    alloy(base, f"model={folder}", f"output={tmp_path / 'base'}", module="alloy.base")
    told = yaml.safe_load((ROOT / sft).read_text())["data"]
    overrides = [f"data.sources.{n}.hub={rows_of(s, tmp_path)}" for n, s in enumerate(told["sources"])]
    overrides += [
        f"data.checks.decontaminate.against.{n}.hub={rows_of(s, tmp_path)}"
        for n, s in enumerate(told["checks"]["decontaminate"]["against"])
    ]
    small = ["train.max_steps=2", "train.max_sequence_tokens=384", "train.gradient_accumulation_steps=1",
             "train.save_steps=null", "logging.every_steps=1", "data.workers=1", "data.checks.deduplicate=false"]  # fmt: skip
    out = tmp_path / "sft"
    alloy(sft, f"parent={tmp_path / 'base'}", f"output={out}", *overrides, *small, module="sft")
    losses = [json.loads(line).get("loss") for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sum(loss is not None and loss > 0 for loss in losses) == 2
    artifact = json.loads((out / "artifact.json").read_text())
    counts = artifact["metrics"]
    # Rows of every source: forty of each split are there; a few have their thinking stripped.
    assert counts["data/rejected"] == 0
    assert counts["data/thinking_off"] > 0
    assert AutoConfig.from_pretrained(out / "model").model_type == kept(recipe)["model_type"]


def rows_of(source: dict[str, Any], tmp_path: Path) -> Path:
    """A folder that `datasets` loads in the place of the dataset on the Hub: its rows under the source's split."""
    folder = tmp_path / "sets" / Path(source["hub"]).name
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "data" / f"{source['split']}-00000-of-00001.parquet"
    if not path.exists():
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS[source["hub"]]), path)
    return folder
