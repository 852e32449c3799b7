"""`alloy evaluate`: what it configures, what it refuses, and one run of it from the command line to the table."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alloy.errors import InputError
from alloy.evaluate import command
from alloy.evaluate.config import EvaluateConfig
from alloy.evaluate.standard import NAMES, read_place


def configured(*arguments: str) -> EvaluateConfig:
    return command.configure(command._parser().parse_intermixed_args(["MODEL", *arguments]))


def test_suites_of_the_project_s_own_making_need_nothing() -> None:
    config = configured("--out", "x")
    assert list(config.suites) == [
        "math",
        "instructions",
        "choice",
        "tools",
        "functions",
        "chat",
        "long",
        "budget",
    ]
    assert set(NAMES) - set(config.suites) == {"code"}
    assert config.suites["budget"].budgets == [0, 16, 32, 64, 128, None]
    assert config.suites["long"].lengths == [512, 2048]
    assert config.rollout.vllm_max_model_tokens == 4096 + 4 * 256


def test_data_of_the_user_s_own(tmp_path: Path) -> None:
    config = configured(
        "--suites", "math,instructions,tools,chat,code", "--data", "math=org/name:main:test", "--data", "code=h.jsonl",
        "--data", "instructions=ifeval.jsonl", "--data", "tools=workbench", "--data", "chat=prompts.jsonl",
    )  # fmt: skip
    suites = config.suites
    hub = {"hub": "org/name", "subset": "main", "split": "test"}
    assert suites["math"].options == {"kind": "math", "path": hub}
    assert (suites["math"].environment, suites["math"].items) == ("benchmark", None)
    assert suites["instructions"].judge_unfinished
    assert suites["instructions"].max_completion_tokens == 1280
    assert (suites["tools"].environment, suites["tools"].options) == ("workbench", {"data": "workbench"})
    assert (suites["chat"].environment, suites["chat"].options) == (
        "prompts",
        {"paths": {"test": "prompts.jsonl"}},
    )
    assert suites["code"].options == {"kind": "code", "path": "h.jsonl"}
    here = tmp_path / "a:b.jsonl"
    here.touch()
    assert read_place(str(here)) == str(here)
    assert read_place("org/name:train") == {"hub": "org/name", "subset": None, "split": "train"}
    assert read_place("org/name") == "org/name"


def test_flags_change_every_suite_and_overrides_one() -> None:
    config = configured(
        "--suites", "math,budget,long", "--items", "40", "--samples", "8", "--thinking", "off", "--engine", "vllm",
        "--budgets", "0,32,none", "--lengths", "256", "suites.math.max_completion_tokens=99", "portion_items=16",
        "--compare", "a/OTHER", "--seed", "5",
    )  # fmt: skip
    math, budget, long = config.suites.values()
    assert (math.items, budget.items, long.items) == (40, 40, 40)
    assert (math.samples, math.temperature, math.top_p) == (8, 0.6, 0.95)
    # A curve over budgets or lengths has one completion an item.
    assert (budget.samples, budget.temperature, long.samples) == (1, 0.0, 1)
    assert (budget.budgets, long.lengths, math.thinking) == ([0, 32, None], [256], False)
    assert (math.max_completion_tokens, config.portion_items, config.seed) == (99, 16, 5)
    assert config.rollout.engine == "vllm"
    assert config.compare == {"MODEL": ["OTHER"]}


def test_models_are_named_by_as_much_of_their_place_as_it_takes() -> None:
    parsed = command._parser().parse_intermixed_args(["runs/a/sft/model", "--compare", "runs/b/sft"])
    assert list(command.configure(parsed).models) == ["a/sft", "b/sft"]
    assert command._name(Path("runs/a/sft-3/model"), 1) == "sft-3"


def test_a_dry_run_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "MODEL",
        "--suites",
        "math,budget",
        "--out",
        "x",
        "suites.math.samples=4",
        "suites.math.temperature=1",
    ]
    assert command.run([*arguments, "--dry-run"]) == 0
    path = tmp_path / "suites.yaml"
    path.write_text(capsys.readouterr().out)
    again = configured("--config", str(path), "--out", "x")
    assert again == configured(*arguments[1:])
    path.write_text(path.read_text().replace("grace_tokens: 16", "grace_token: 16", 1))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "grace_token: 16" in text)
    with pytest.raises(
        InputError, match=rf"suites.yaml:{line}: unknown key 'suites.math.grace_token'. Did you mean"
    ):
        configured("--config", str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suites", "maths"], "'maths' is no suite. Known: math, instructions"),
        (["--suites", "code"], "code: this suite measures on a file. Name it: --data code=FILE"),
        (["--suites", "math", "--data", "code=x"], "--data code: the suite is not asked for"),
        (["--suites", "long", "--data", "long=x"], "--data long: this suite makes its own tasks"),
        (["--data", "math"], "--data 'math': it is written SUITE=PLACE"),
        (["--suites", "budget", "--budgets", "1,few"], "--budgets 'few': numbers of tokens by comma are wanted, or none"),
        (["--suites", "long", "--lengths", "none"], "--lengths 'none': numbers of tokens by comma are wanted."),
        (["--compare", "MODEL"], "--compare MODEL: it is a model that is measured already"),
        (["--items", "0"], "suites.math.items = 0: input should be greater than 0"),
        (["--config", "configs/demo/evaluate.yaml", "--suites", "code"], "'code' is no suite of configs/demo/evaluate.yaml"),
        (["suites.math.items=null"], "items: math makes as many tasks as are asked for. Say how many"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configured(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out: no folder to keep results in"),
        (
            ["--throughput", "8192"],
            "--throughput '8192': input and output tokens are wanted, such as 8192:16384",
        ),
        (["--throughput", "8:0"], "--throughput '8:0'"),
        (["--throughput", "8:8", "--requests", "0"], "--requests, --rounds: both must be positive"),
        (["--lm-eval", "gsm8k"], "--out: no folder to keep results in"),
        (["--out", "x", "--suites", "math"], "MODEL has no artifact.json: there is no such folder"),
    ],
)
def test_what_a_run_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        command.run(["MODEL", *arguments])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from alloy.evaluate import command\n"
        "try: command.run(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'vllm', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "suites: math, instructions, choice" in done.stdout


@pytest.fixture(scope="module")
def other_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, tiny_tokenizer: Any
) -> Path:
    """The tiny policy with other weights."""
    import torch

    from alloy.policy import load_model, save_policy

    model = load_model(tiny_model_folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0 if weight.ndim == 2 else 1.0)
    folder = tmp_path_factory.mktemp("other") / "model"
    save_policy(model, tiny_tokenizer, folder)
    return folder


SMALL = ["suites.math.max_completion_tokens=8", "suites.budget.max_completion_tokens=12",
         "suites.budget.grace_tokens=2", "suites.long.max_completion_tokens=4"]  # fmt: skip


def test_from_the_command_line_to_the_table(
    tmp_path: Path, tiny_model_folder: Path, other_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval" / "tiny"
    file = tmp_path / "gsm8k.jsonl"
    file.write_text(
        "".join(f'{{"question": "What is {n}+1?", "answer": "#### {n + 1}"}}\n' for n in range(6))
    )
    base = [
        str(tiny_model_folder),
        "--out",
        str(out),
        "--compare",
        str(other_folder),
        "--data",
        f"math={file}",
    ]
    asked = [*base, "--items", "5", "--budgets", "0,4,none", "--lengths", "400,450"]
    long = ["--suites", "math,budget,long", *SMALL]
    assert command.run([*asked, *long]) == 0
    told = capsys.readouterr().out
    assert "the same items, percent points [95% interval]" in told
    assert "the smallest budget within one standard error of the best accuracy" in told
    results = json.loads((out / "results.json").read_text())
    ours, other = results["stages"]
    assert set(results["cells"][ours]) == {"math", "budget", "long"}
    assert results["cells"][ours]["math"]["n"] == 5
    assert set(results["groups"][ours]["long"]["length"]) == {"400", "450"}
    assert {d["parent"] for d in results["differences"]} == {other}
    metrics = {d["metric"] for d in results["differences"] if d["suite"] == "budget"}
    assert {"well_formed", "success", "success@0", "well_formed@4", "success@unlimited"} <= metrics
    assert all(0 <= d["p"] <= 1 and d["n"] == 5 for d in results["differences"])
    assert {c["budget"] for c in results["budget"][ours]} == {0, 4, None}
    for row in results["budget"][ours]:
        assert row["tokens"]["n"] == 5
        assert row["seconds"]["value"] > 0
    # Every item is there with what was asked and written.
    items = [json.loads(line) for line in (out / results["files"][ours]["budget"]).read_text().splitlines()]
    assert len(items) == 15
    assert all(item["completion"] and item["prompt"] for item in items)
    # A budget of 0 closes at once; of 4 after six tokens at the latest.
    assert all(i["completion"].startswith("</think>") for i in items if i["budget"] == 0)
    assert all("</think>" in i["completion"] for i in items if i["budget"] == 4)

    before = {path.name: path.stat().st_mtime_ns for path in (out / "items").iterdir()}
    assert command.run([*asked, *long, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == results
    # One suite more: the items of the others are those that were there.
    more = ["--suites", "math,budget,long,choice", *SMALL, "suites.choice.max_completion_tokens=4"]
    assert command.run([*asked, *more]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (out / "items").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2
    again = json.loads((out / "results.json").read_text())
    assert again["cells"][ours]["math"] == results["cells"][ours]["math"]


def test_bad_data_ends_before_a_folder_is_made(tmp_path: Path, tiny_model_folder: Path) -> None:
    file = tmp_path / "gsm8k.jsonl"
    file.write_text('{"question": "1+1?", "answer": "#### 2"}\n{"question": "2+2?"}\n')
    with pytest.raises(InputError, match=r"gsm8k.jsonl:2: has question, and a row of math has"):
        command.run(
            [
                str(tiny_model_folder),
                "--suites",
                "math",
                "--data",
                f"math={file}",
                "--out",
                str(tmp_path / "o"),
            ]
        )
    with pytest.raises(
        InputError, match=r"suites.long.lengths: 4000 tokens and 256 of completion.* has positions for 512"
    ):
        command.run(
            [str(tiny_model_folder), "--suites", "long", "--lengths", "4000", "--out", str(tmp_path / "o")]
        )
    assert not (tmp_path / "o").exists()


def test_the_demo_s_suites_are_read_from_their_recipe() -> None:
    names = list(yaml.safe_load(Path("configs/demo/evaluate.yaml").read_text())["suites"])
    config = configured("--config", "configs/demo/evaluate.yaml", "--items", "250")
    assert list(config.suites) == names
    assert {suite.items for suite in config.suites.values()} == {200, 250}
