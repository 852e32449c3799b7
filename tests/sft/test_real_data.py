"""Real data through the engine into a real run; skipped where it is not at hand."""

from pathlib import Path
from typing import Any

import pytest

from alloy.data.config import DataConfig
from alloy.data.prepare import prepare
from sft import run
from sft.config import SftConfig

SHARED = Path(__file__).parents[3] / "shared" / "data"
TRACES, GSM8K = SHARED / "think-traces" / "traces.jsonl.gz", SHARED / "gsm8k" / "train.jsonl.gz"
pytestmark = pytest.mark.skipif(not TRACES.is_file(), reason="needs think-traces and gsm8k in ../shared/data")
DATA: dict[str, Any] = {
    "sources": [
        {"path": str(TRACES), "columns": {"prompt": "question", "completion": "answer"}, "rows": 600},
        {"path": str(GSM8K), "columns": {"prompt": "question", "completion": "answer"}, "rows": 600},
    ],
    "checks": {
        "max_rejected_share": 0.05,
        "decontaminate": {"against": [{"path": str(SHARED / "ifeval" / "prompts.jsonl")}]},
    },
    "reasoning_off": {"share": 0.1},
    "truncate": {"share": 0.05, "min_tokens": 20, "max_tokens": 200},
    "too_long": "alone",
}


def test_traces_and_worked_problems_are_read_whole(tiny_tokenizer: Any) -> None:
    counts = prepare(DataConfig.model_validate(DATA), tiny_tokenizer, 2048, 0).counts
    assert counts["rows"] == 1200
    assert counts["examples"] == 1200 - counts["rejected"] - counts["duplicates"] - counts["contaminated"]
    assert counts["rejected"] < 0.05 * 1200
    # 600 rows with thinking: a tenth is stripped, one of twenty of the rest is cut; five standard deviations.
    assert 25 < counts["thinking_off"] - 600 < 97
    assert 5 < counts["truncated"] < 55
    assert counts["fill"] > 0.9


def test_they_train_a_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    artifact = run(
        SftConfig.model_validate(
            {
                "parent": str(tiny_model_folder),
                "output": str(tmp_path / "run"),
                "data": DATA,
                "optim": {"learning_rate": 5e-3, "scheduler": "constant"},
                "train": {"max_steps": 12, "per_device_batch_size": 2, "max_sequence_tokens": 2048},
                "logging": {"every_steps": 1, "tensorboard": False},
            }
        )
    )
    assert artifact.metrics["data/rows"] == 1200
    assert artifact.metrics["loss"] < 6.0  # ln 600 = 6.4 at the start
