"""The command line as a user meets it: real processes, their exit statuses, what they print and import."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from toy_stages import write_packages, write_recipe

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "trl", "transformers", "datasets", "peft", "vllm", "accelerate", "deepspeed")
STAGES = ("sft", "grpo", "dpo", "rlhf", "rlhf.reward_model")


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(cwd)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def alloy(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("-m", "alloy", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe of two toy stages, finished."""
    folder = tmp_path_factory.mktemp("toy")
    write_packages(folder)
    pipeline = "stages: {base: {package: toy_base}, next: {package: toy_stage, needs: base}}"
    write_recipe(folder, pipeline, base="", next="")
    done = alloy("run", "toy", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_run_goes_through_the_stages(toy: Path) -> None:
    done = alloy("run", "toy", cwd=toy)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[1/2] base",
        "toy/base: finished, nothing to do.",
        "[2/2] next",
        "toy/next: finished, nothing to do.",
    ]


def test_json_is_all_that_stands_on_stdout(toy: Path) -> None:
    done = alloy("run", "toy", "--json", "--force", "--runs", "runs/json", cwd=toy)
    assert [artifact["stage"] for artifact in json.loads(done.stdout)] == ["base", "next"]
    assert "[1/2] base" in done.stderr
    one = python("-c", "import sys; from alloy.command import main; from alloy.stage import stage_main; "
                 "sys.exit(main(lambda a: stage_main('toy_base', a)))", "configs/toy/base.yaml", "--json", cwd=toy)  # fmt: skip
    assert json.loads(one.stdout)["stage"] == "base"


def test_status_in_words_and_in_json(toy: Path) -> None:
    done = alloy("status", "toy", cwd=toy)
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["base", "finished"],
        ["next", "finished"],
    ]
    rows = json.loads(alloy("status", "toy", "--json", "next.steps=2", cwd=toy).stdout)
    assert rows[1] == {"stage": "next", "state": "stale", "why": "changed: steps: 1 -> 2"}


@pytest.mark.parametrize(
    ("override", "status", "message"),
    [
        ("fail=input", 2, "error: base: the data is wrong"),
        ("fail=stage", 1, "failed: base: the loss is not a number"),
        ("fail=interrupt", 1, "stopped. Run the same command again"),
        (
            "fail=disk",
            1,
            "failed: no space left on the disk of model.safetensors. Free some, run again: it goes on",
        ),
        ("stesp=1", 2, "unknown key 'stesp'. Did you mean 'steps'?"),
        ("steps=many", 2, "steps = 'many'"),
    ],
)
def test_exit_status_and_one_message(toy: Path, override: str, status: int, message: str) -> None:
    done = alloy("run", "toy", "--runs", f"runs/{override}", f"base.{override}", cwd=toy)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(toy.glob(f"runs/{override}/**/artifact.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "demmo"), "error: 'demmo' is no recipe"),
        (("rum",), "error: 'rum' is no command. Known: run, status"),
        (("run", "demo", "--stag", "x", "--what"), "unrecognized arguments: --what"),
        (("run", "demo", "--package", "stf"), "demo has no stage of kind 'stf'"),
        (("run", "demo", "--stage", "sft-9"), "'sft-9' is no stage of demo"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...], message: str) -> None:
    done = alloy(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    config = str(ROOT / "configs/demo/sft-1.yaml")
    done = python("-m", "sft", config, f"output={tmp_path}/out", f"parent={tmp_path}/none", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/none has no artifact.json: there is no such folder" in done.stderr
    assert not (tmp_path / "out").exists()


COUNT_IMPORTS = """
import atexit, runpy, sys
heavy = {heavy!r}
atexit.register(lambda: print("IMPORTED", *sorted(set(heavy) & set(sys.modules)), file=sys.stderr))
sys.argv = {argv!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def heavy_imports(
    module: str, *arguments: str, cwd: Path = ROOT, heavy: tuple[str, ...] = HEAVY
) -> tuple[str, list[str], float]:
    """What a command printed, which heavy packages it imported, and its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = COUNT_IMPORTS.format(heavy=heavy, argv=[module, *arguments], module=module)
    done = python("-c", code, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stderr.splitlines() if line.startswith("IMPORTED"))
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, told.split()[1:], seconds


def test_the_import_counter_counts(toy: Path) -> None:
    # Only then does an empty list mean something.
    assert heavy_imports("alloy", "status", "toy", cwd=toy, heavy=("yaml", "torch"))[1] == ["yaml"]


# Processor seconds, not wall-clock: the limit is about what is imported, on however busy a machine.
@pytest.mark.parametrize("package", STAGES)
def test_help_is_quick_and_imports_nothing_heavy(package: str) -> None:
    told, imported, seconds = heavy_imports(package, "--help")
    assert told.startswith(f"usage: python -m {package}")
    assert imported == []
    assert seconds < 1.5


def test_dry_run_prints_the_resolved_config_and_imports_nothing_heavy() -> None:
    told, imported, seconds = heavy_imports(
        "sft", "configs/demo/sft-1.yaml", "--dry-run", "optim.learning_rate=1e-4", "seed=5"
    )
    assert "learning_rate: 0.0001\n" in told
    assert "seed: 5\n" in told
    assert "parent: runs/demo/base\n" in told
    assert imported == []
    assert seconds < 1.5


def test_status_imports_nothing_heavy(toy: Path) -> None:
    told, imported, seconds = heavy_imports("alloy", "status", "demo")
    assert told.startswith("base")
    assert imported == []
    assert seconds < 1.5


def test_a_finished_recipe_imports_nothing_heavy(toy: Path) -> None:
    told, imported, _ = heavy_imports("alloy", "run", "toy", cwd=toy)
    assert told.count("nothing to do") == 2
    assert imported == []


@pytest.mark.parametrize(
    ("package", "config"),
    [("alloy.base", "base"), ("alloy.evaluate", "evaluate"), ("rlhf.reward_model", "reward-model")],
)
def test_a_stage_of_a_module_has_a_command_line_too(package: str, config: str) -> None:
    done = python("-m", package, f"configs/micro/{config}.yaml", "--dry-run", "seed=7")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"output: runs/micro/{config}\nseed: 7\n" in done.stdout
