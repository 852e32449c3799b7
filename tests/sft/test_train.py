"""What an SFT stage does with its data, run for real on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alloy.errors import InputError
from sft import run
from sft.config import SftConfig


def config(parent: Path, output: Path, **more: Any) -> SftConfig:
    train = {"max_steps": 3, "per_device_batch_size": 8, "max_sequence_tokens": 200, **more.pop("train", {})}
    data = {"sources": [{"environment": "math", "rows": 60}, {"environment": "chat", "rows": 40}]}
    return SftConfig.model_validate(
        {
            "parent": str(parent),
            "output": str(output),
            "data": data | more.pop("data", {}),
            "optim": {"learning_rate": 1e-3},
            "train": train,
            "logging": {"every_steps": 1, "tensorboard": False},
            **more,
        }
    )


def steps(folder: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["grad_norm"]) for row in rows if "grad_norm" in row]


@pytest.fixture(scope="module")
def whole_batch(
    tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[float, float]]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(config(tiny_model_folder, folder))
    return steps(folder)


@pytest.mark.parametrize(("batch", "accumulated"), [(1, 8), (2, 4)])
def test_the_gradient_is_of_the_global_batch_s_tokens(
    tiny_model_folder: Path, tmp_path: Path, whole_batch: Any, batch: int, accumulated: int
) -> None:
    """1 x 8 = 8 x 1, though the sequences hold different numbers of tokens with loss."""
    portions = {"per_device_batch_size": batch, "gradient_accumulation_steps": accumulated}
    run(config(tiny_model_folder, tmp_path / "run", train=portions))
    for found, wanted in zip(steps(tmp_path / "run"), whole_batch, strict=True):
        assert found == pytest.approx(wanted, rel=2e-4)


def test_two_processes_have_the_gradient_of_one(
    tiny_model_folder: Path, tmp_path: Path, whole_batch: Any
) -> None:
    given = config(tiny_model_folder, tmp_path / "run", train={"per_device_batch_size": 4})
    path = tmp_path / "sft.yaml"
    path.write_text(json.dumps(given.model_dump(mode="json")))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    done = subprocess.run(
        [*launch, "configs/accelerate/cpu-ddp.yaml", "-m", "sft", str(path)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for found, wanted in zip(steps(tmp_path / "run"), whole_batch, strict=True):
        assert found == pytest.approx(wanted, rel=2e-4)


def test_what_was_left_out_lies_in_the_run_folder(tiny_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "completion": str(n)} for n in range(150)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "x"}, rows[3]]))
    artifact = run(config(tiny_model_folder, tmp_path / "run", data={"sources": [{"path": str(path)}]}))
    told = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert [entry["where"] for entry in told] == [f"{path}:151", f"{path}:152"]
    assert told[1]["reason"] == "said before in another row"
    counts = {
        name: artifact.metrics[f"data/{name}"] for name in ("rows", "rejected", "duplicates", "examples")
    }
    assert counts == {"rows": 152, "rejected": 1, "duplicates": 1, "examples": 150}


def test_too_many_bad_rows_stop_before_a_model_is_loaded(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sft.train

    monkeypatch.setattr(sft.train, "load_for_training", lambda *_, **__: pytest.fail("a model was loaded"))
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    with pytest.raises(InputError, match="1 of 2 rows are bad"):
        run(config(tiny_model_folder, tmp_path / "run", data={"sources": [{"path": str(path)}]}))
    assert not (tmp_path / "run" / "artifact.json").exists()


# Models whose state would leak over the border of two documents.


@pytest.fixture(scope="module")
def hybrid_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alloy.policy import load_tokenizer, save_policy
    from tests.data.test_isolation import hybrid

    folder = tmp_path_factory.mktemp("hybrid") / "model"
    save_policy(hybrid(), load_tokenizer(tiny_model_folder), folder)
    return folder


@pytest.fixture
def leaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a model whose layers take documents neither by their borders nor as rows."""
    monkeypatch.setattr("alloy.attention.lay_documents_out", lambda model: False)


@pytest.mark.usefixtures("leaking")
def test_a_model_that_would_leak_is_refused_packing_with_the_remedy(
    hybrid_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(config(hybrid_folder, tmp_path / "run"))
    assert "documents of one sequence would see each other" in str(caught.value)
    assert "Set data.packing=none" in str(caught.value)


@pytest.mark.usefixtures("leaking")
def test_the_remedy_works(hybrid_folder: Path, tmp_path: Path) -> None:
    done = run(config(hybrid_folder, tmp_path / "run", data={"packing": "none"}, train={"max_steps": 2}))
    assert done.metrics["loss"] > 0


def test_a_hybrid_packs(hybrid_folder: Path, tmp_path: Path) -> None:
    done = run(config(hybrid_folder, tmp_path / "run", train={"max_steps": 2}))
    assert done.metrics["data/examples"] > done.metrics["data/sequences"]
    assert done.metrics["loss"] > 0
