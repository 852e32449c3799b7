"""The stage and the sweep's command on adapters, on methods of many models, and by groups."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from merge_models import perturbed
from safetensors.torch import load_file

from alloy.artifact import read_artifact, resolve_parent
from alloy.command import main
from alloy.config import parse
from alloy.errors import InputError
from merge import run as run_stage
from merge.__main__ import run
from merge.config import MergeConfig
from merge.interpolate import interpolate
from merge.many import merge_models

SUITES = {
    "math": {"environment": "math", "items": 3, "max_completion_tokens": 4},
    "chat": {"environment": "chat", "items": 3, "max_completion_tokens": 4},
}


def command(*arguments: object) -> int:
    return main(run, [str(argument) for argument in arguments])


def adapted(folder: Path, out: Path, seed: int) -> Path:
    import peft

    from alloy.policy import load_model

    torch.manual_seed(seed)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(load_model(folder), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(out)
    told = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps({**told, "base_model_name_or_path": str(folder)}))
    return out


@pytest.fixture(scope="module")
def models(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models and two adapters, all descendants of the tiny one."""
    root = tmp_path_factory.mktemp("models")
    found = {"base": tiny_model_folder}
    found |= {name: perturbed(tiny_model_folder, root / name, seed) for seed, name in enumerate("ab")}
    found |= {f"lora-{n}": adapted(tiny_model_folder, root / f"lora-{n}", n) for n in range(2)}
    return found


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    path = tmp_path / "evaluate.yaml"
    path.write_text(yaml.safe_dump({"suites": SUITES}))
    return path


def config(values: dict[str, Any]) -> MergeConfig:
    return parse(MergeConfig, values, "merge.yaml")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_sweep_by_groups_and_the_same_merge_from_its_record(
    models: dict[str, Path], suites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "swept"
    parents = ("--reasoning", models["a"], "--chat", models["b"])
    given = (
        *parents,
        "--out",
        out,
        "--suites-from",
        suites,
        "--suites",
        "math,chat",
        "--max-shard-bytes",
        90_000,
    )
    searched = (
        "--groups",
        "attention,layers.0-1.mlp,other",
        "--rounds",
        1,
        "--suite-weights",
        "math=2,chat=1",
    )
    assert command("sweep", *given, "--alphas", "0.25,0.75", *searched) == 0
    assert "| step | group | attention | layers.0-1.mlp | other | math | chat | weighted sum |" in (
        capsys.readouterr().out
    )
    record = json.loads((out / "sweep.json").read_text())
    assert (record["rule"], record["weights"]) == ("weighted-sum", {"math": 2.0, "chat": 1.0})
    artifact = read_artifact(out)
    assert artifact.notes["shards"] == record["shards"]
    assert len(record["shards"]) > 1
    assert artifact.metrics["weighted_sum"] == record["path"][-1]["tried"][0]["objective"]

    # By alpha alone, from the record alone, and with parents named anew.
    chosen = record["path"][-1]["alphas"]
    alpha = ",".join(f"{group}={value}" for group, value in chosen.items())
    again = ("--max-shard-bytes", 90_000)
    assert command(*parents, "--alpha", alpha, "--out", tmp_path / "by-hand", *again) == 0
    assert command("--alpha-from", out, "--out", tmp_path / "again") == 0
    assert command("--alpha-from", out, *parents, "--out", tmp_path / "named", "--json") == 0
    for name in ("by-hand", "again", "named"):
        assert json.loads((tmp_path / name / "merge.json").read_text())["shards"] == record["shards"]
    capsys.readouterr()

    swapped = ("--reasoning", models["b"], "--chat", models["a"])
    assert command("--alpha-from", out, *swapped, "--out", tmp_path / "x") == 2
    assert f"--reasoning {models['b']} holds other weights than {out} swept" in capsys.readouterr().err
    assert command("--alpha-from", out, "--dtype", "float16", "--out", tmp_path / "x") == 2
    assert "--dtype float16: the sweep had None. Leave it out, or give --alpha." in capsys.readouterr().err
    assert command("--alpha-from", tmp_path, "--out", tmp_path / "x") == 2
    assert f"--alpha-from {tmp_path} has no sweep.json" in capsys.readouterr().err
    assert command("--alpha-from", out, "--alpha", 0.5, "--out", tmp_path / "x") == 2
    assert "either --alpha or --alpha-from is needed" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    # A record whose weights are not what it says is no silent success.
    (out / "sweep.json").write_text(json.dumps({**record, "shards": {"model.safetensors": "0" * 64}}))
    assert command("--alpha-from", out, "--out", tmp_path / "y") == 1
    assert "is not what" in capsys.readouterr().err


def test_adapters_are_swept_and_written_as_evaluated(
    models: dict[str, Path], suites: Path, tmp_path: Path
) -> None:
    out = tmp_path / "swept"
    given = ("--out", out, "--suites-from", suites, "--suites", "math", "--alphas", "0.5")
    assert command("sweep", "--reasoning", models["lora-0"], "--chat", models["lora-1"], *given) == 0
    # The stage compares the hashes itself; here the weights: the base and half of each product.
    merged, base = weights(out / "model"), weights(models["base"])
    name = "model.layers.0.self_attn.q_proj.weight"
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    expected = base[name].double()
    for n in range(2):
        low = load_file(models[f"lora-{n}"] / "adapter_model.safetensors")
        expected += low[f"{prefix}.lora_B.weight"].double() @ low[f"{prefix}.lora_A.weight"].double()
    torch.testing.assert_close(merged[name], expected.float(), rtol=1e-6, atol=1e-7)
    norm = "model.norm.weight"
    assert torch.equal(merged[norm], base[norm])
    artifact = read_artifact(out)
    assert artifact.parents["chat"].path == str(models["lora-1"])


def test_what_an_adapter_adapts_is_an_input(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = perturbed(models["base"], tmp_path / "base", 7)
    lora = adapted(base, tmp_path / "lora", 8)
    given = {"reasoning": str(base), "chat": str(lora), "alpha": 0.5, "output": str(tmp_path / "out")}
    run_stage(config(given))
    run_stage(config(given))
    assert "finished, nothing to do" in capsys.readouterr().out
    other = {**given, "reasoning": str(models["base"])}
    # The adapter's own files are as they were; its base is another.
    perturbed(models["base"], base, 9)
    run_stage(config(other))
    assert "the data; the weights of reasoning" in capsys.readouterr().out


def test_other_stages_do_not_start_from_an_adapter(models: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        resolve_parent(models["lora-0"])
    assert str(caught.value) == (
        f"parent: {models['lora-0']} is an adapter, this stage needs a policy. Merge it into its base first."
    )


def test_a_stage_by_a_method_of_many_models(models: dict[str, Path], tmp_path: Path) -> None:
    given = {
        "method": "ties",
        "models": {"dpo": str(models["a"]), "rlhf": str(models["b"]), "tools": str(models["lora-0"])},
        "base": str(models["base"]),
        "options": {"weights": [1, 1, 0.5], "density": 0.5},
        "donor": "rlhf",
        "output": str(tmp_path / "out"),
    }
    artifact = run_stage(config(given))
    assert set(artifact.parents) == {"dpo", "rlhf", "tools", "base"}
    paths = [models[name] for name in ("a", "b", "lora-0")]
    merge_models(
        "ties", {"weights": [1, 1, 0.5], "density": 0.5}, paths, models["base"], tmp_path / "by-hand"
    )
    ours, theirs = weights(tmp_path / "out" / "model"), weights(tmp_path / "by-hand")
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    record = json.loads((tmp_path / "out" / "model" / "merge.json").read_text())
    assert record["options"] == {"weights": [1.0, 1.0, 0.5], "density": 0.5, "scale": 1.0}
    assert "alpha" not in artifact.metrics


def test_a_method_is_swept_over_one_of_its_options(
    models: dict[str, Path], suites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--models", models["a"], models["b"], "--suites-from", suites, "--suites", "math")
    out = tmp_path / "swept"
    assert command("sweep", "slerp", *given, "--option", "t", "--values", "0.25,0.75", "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-6].startswith("| t | math | product |")
    record = json.loads((out / "sweep.json").read_text())
    assert (record["over"], [point["t"] for point in record["points"]]) == ("t", [0.25, 0.75])
    report = merge_models(
        "slerp", {"t": record["chosen"]}, [models["a"], models["b"]], None, tmp_path / "one"
    )
    assert report.shards == record["shards"] == read_artifact(out).notes["shards"]
    assert "How the options were chosen" in (out / "model" / "README.md").read_text()

    dare = ("--base", models["base"], "--weights", "1,1", "--seed", 3)
    over = ("--option", "density", "--values", "0.5", "--out", tmp_path / "dare")
    assert command("sweep", "dare", *given, *dare, *over) == 0
    recorded = json.loads((tmp_path / "dare" / "model" / "merge.json").read_text())["options"]
    assert recorded == {"weights": [1.0, 1.0], "density": 0.5, "seed": 3, "elect": False}
    capsys.readouterr()

    ties = ("--base", models["base"], "--weights", "1,1")
    over = ("--option", "density", "--values", "0.3,1.5", "--out", tmp_path / "x")
    assert command("sweep", "ties", *given, *ties, *over) == 2
    assert "density: 1.5: the share that stays lies above 0" in capsys.readouterr().err
    over = ("--option", "weights", "--values", "0.3", "--out", tmp_path / "x")
    assert command("sweep", "mean", *given, *over) == 2
    assert "mean cannot be swept over 'weights': choose an option of its own that is one number (none)" in (
        capsys.readouterr().err
    )
    assert command("--alpha-from", out, "--out", tmp_path / "x") == 2
    assert f"--alpha-from {out}: it swept t, not alpha" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_parents_that_are_missing_are_named() -> None:
    for values, message in (
        ({"alpha": 0.5, "output": "x"}, "reasoning is not set: a linear merge starts from it."),
        ({"alpha": 0.5, "output": "x", "reasoning": "y"}, "chat is not set: a linear merge starts from it."),
        (
            {"method": "mean", "options": {"weights": [1, 1]}, "output": "x"},
            "models is not set: a mean merge starts from it. Set models, or name its stages under needs",
        ),
    ):
        with pytest.raises(InputError) as caught:
            run_stage(config(values))
        assert str(caught.value).startswith(message)


def test_alphas_by_group_in_a_stage(models: dict[str, Path], tmp_path: Path) -> None:
    alpha = {"layers.0-0": 0.25, "other": 1.0}
    given = {"reasoning": str(models["a"]), "chat": str(models["b"]), "output": str(tmp_path / "out")}
    artifact = run_stage(config({**given, "alpha": alpha}))
    assert artifact.metrics["alpha/layers.0-0"] == 0.25
    a, b = weights(models["a"]), weights(models["b"])
    for name, weight in weights(tmp_path / "out" / "model").items():
        assert torch.equal(weight, interpolate(a[name], b[name], 0.25) if "layers.0." in name else b[name])
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "**alpha = layers.0-0=0.25,other=1.0**" in card
    assert "| layers.0-0 | 0.25 |\n| other | 1 |" in card
    with pytest.raises(InputError, match=r"layers\.7-9 names no tensor of these checkpoints"):
        run_stage(config({**given, "alpha": {"layers.7-9": 0.1, "other": 0.5}}))
    # What was there is still there.
    assert read_artifact(tmp_path / "out").metrics["alpha/other"] == 1.0
