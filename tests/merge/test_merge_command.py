import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from merge_models import WriteModel, perturbed, weights

import merge
from alloy.artifact import fingerprint_model, read_artifact
from alloy.command import main
from alloy.errors import InputError
from merge.__main__ import run
from merge.interpolate import interpolate

ROOT = Path(merge.__file__).parent.parent


def command(*arguments: object) -> int:
    return main(run, [str(argument) for argument in arguments])


def test_help_needs_no_torch_and_little_time() -> None:
    code = "import sys; from merge.__main__ import run\ntry: run(['--help'])\nexcept SystemExit: pass\n"
    code += (
        "assert not {'torch', 'transformers', 'trl', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = os.times()
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "python -m merge sweep --reasoning A --chat B --alphas 0.1:0.9:0.1" in answer.stdout
    # Seconds of the processor: the machine may be busy.
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.5


def test_two_checkpoints_from_the_command_line(
    write_model: WriteModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, out = write_model("a", weights(1)), write_model("b", weights(2)), tmp_path / "out"
    assert command("--reasoning", a, "--chat", b, "--alpha", 0.5, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(out)
    assert told["reasoning"] == fingerprint_model(a)
    assert (told["alpha"], told["tensors"], told["bytes"]) == (0.5, 4, 152)
    assert command("--reasoning", a, "--chat", b, "--alpha", 0.5, "--out", out) == 0
    assert re.fullmatch(rf"4 tensors, 0\.00 GiB in \d+\.\d s, alpha 0\.5 -> {out}\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--alpha", "1.5"], "error: --alpha 1.5: the share of the chat weights lies between 0 and 1."),
        (["--alpha", "half"], "error: --alpha invalid float value: 'half'."),
        (["--max-shard-bytes", "0"], "error: --max-shard-bytes 0: a file holds at least 1 byte."),
        (["--donor", "base"], "error: argument --donor: invalid choice: 'base'"),
        (["--chat", "absent"], "error: absent has no artifact.json: there is no such folder."),
    ],
)
def test_wrong_arguments_are_said_with_status_2(
    write_model: WriteModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: list[str],
    message: str,
) -> None:
    a, b = write_model("a"), write_model("b")
    out = tmp_path / "out"
    arguments = ["--reasoning", a, "--chat", b, "--alpha", "0.5", "--out", out, *changed]
    assert command(*arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not out.exists()
    assert not out.with_name("out.partial").exists()


def test_a_sweep_and_a_stage_from_end_to_end(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    a, b = (perturbed(tiny_model_folder, tmp_path / name, seed) for seed, name in enumerate("ab"))
    suites = tmp_path / "evaluate.yaml"
    suites.write_text(
        "suites:\n"
        "  math: {environment: math, items: 3, max_completion_tokens: 4}\n"
        "  chat: {environment: chat, items: 3, max_completion_tokens: 4}\n"
    )
    out = tmp_path / "recipe" / "merge"
    parents = ("--reasoning", a, "--chat", b, "--out", out, "--suites-from", suites, "--suites", "math,chat")
    assert command("sweep", *parents, "--alphas", "0.25,0.75", "--json") == 0
    artifact = json.loads(capsys.readouterr().out)
    assert artifact["kind"] == "policy"
    assert artifact["parents"]["chat"]["fingerprint"] == fingerprint_model(b)
    # Nothing is right at any alpha, or equally much: the smallest is taken.
    points = artifact["notes"]["sweep"]["points"]
    best = max(points, key=lambda point: (point["objective"], -point["alpha"]))
    alpha = best["alpha"]
    assert artifact["metrics"]["alpha"] == alpha
    first, second = (load_file(folder / "model.safetensors") for folder in (a, b))
    for name, weight in load_file(out / "model" / "model.safetensors").items():
        assert weight.equal(interpolate(first[name], second[name], alpha))
    assert f"| **{alpha:g}** |" in (out / "model" / "README.md").read_text()
    assert read_artifact(out).fingerprints["weights"] == fingerprint_model(out / "model")
    assert [json.loads(line)["alpha"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [
        0.25,
        0.75,
    ]

    assert command("sweep", *parents, "--alphas", "0.25,0.75") == 0
    assert "finished, nothing to do" in capsys.readouterr().out
    # A finer grid evaluates what is new.
    assert command("sweep", *parents, "--alphas", "0.25,0.5,0.75") == 0
    assert "2 of 3 points reused" in capsys.readouterr().out

    # The same as a stage of a recipe, with alpha given.
    config = tmp_path / "recipe" / "merge-half.yaml"
    config.write_text(f"reasoning: {a}\nchat: {b}\nalpha: 0.5\noutput: {tmp_path / 'half'}\n")
    assert command(config, "--dry-run", "donor=chat") == 0
    assert "donor: chat" in capsys.readouterr().out
    assert command(config, "--json") == 0
    assert (tmp_path / "half" / "artifact.json").is_file()
    assert "How alpha was chosen" not in (tmp_path / "half" / "model" / "README.md").read_text()


def test_a_folder_that_is_no_run_is_not_emptied_by_a_sweep(
    write_model: WriteModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, mine = write_model("a"), write_model("b"), tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    suites = tmp_path / "evaluate.yaml"
    suites.write_text("suites:\n  math: {environment: math, items: 3}\n")
    arguments = ("sweep", "--reasoning", a, "--chat", b, "--suites-from", suites, "--alphas", "0.5")
    assert command(*arguments, "--suites", "math", "--out", mine) == 2
    assert f"--out {mine} is there already and is no run folder" in capsys.readouterr().err
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert command(*arguments, "--suites", "maths", "--out", tmp_path / "new") == 2
    assert f"--suites maths: {suites} has no such suite. Known there: math." in capsys.readouterr().err


def test_sweep_takes_a_range(write_model: WriteModel, tmp_path: Path) -> None:
    arguments = ["--reasoning", "a", "--chat", "b", "--suites", "math", "--out", str(tmp_path / "x")]
    with pytest.raises(InputError, match=r"--alphas '0\.9:0\.1:0\.1': start:stop:step needs start <= stop"):
        run(["sweep", *arguments, "--alphas", "0.9:0.1:0.1"])
