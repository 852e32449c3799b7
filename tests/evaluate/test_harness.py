"""lm-eval: how it is called, what is read of its results, and what is said where it is not installed."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from alloy.errors import InputError, StageError
from alloy.evaluate import command
from alloy.evaluate.harness import read_harness, run_harness

INSTALLED = importlib.util.find_spec("lm_eval") is not None

# Of a file that lm-eval 0.4.13 wrote, without what is not read.
RESULTS = {
    "results": {
        "sums": {"alias": "sums", "acc,none": 0.5, "acc_stderr,none": 0.15, "acc_norm,none": 0.4, "acc_norm_stderr,none": "N/A"},
        "gsm8k": {"alias": "gsm8k", "exact_match,flexible-extract": 0.25, "exact_match_stderr,flexible-extract": 0.1},
    },
    "n-samples": {"sums": {"original": 20, "effective": 12}, "gsm8k": {"original": 1319, "effective": 200}},
}  # fmt: skip


def test_every_metric_with_an_error_becomes_an_interval(tmp_path: Path) -> None:
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps(RESULTS))
    sums, gsm8k = read_harness(path)
    assert (sums["task"], sums["metric"], sums["value"], sums["n"]) == ("sums", "acc", 0.5, 12)
    assert (sums["low"], sums["high"]) == (pytest.approx(0.206, abs=1e-4), pytest.approx(0.794, abs=1e-4))
    assert (gsm8k["metric"], gsm8k["n"]) == ("exact_match,flexible-extract", 200)
    for text in ("{", "[]", '{"results": {}}', '{"results": {"a": 1}, "n-samples": {}}'):
        path.write_text(text)
        with pytest.raises(StageError, match=r"results_1.json: no results of lm-eval 0.4"):
            read_harness(path)


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_where_it_is_not_installed_it_says_how_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'lm-eval is not installed. `pip install "lm-eval\[hf\]"` into'):
        command.run(["MODEL", "--lm-eval", "gsm8k", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


STAND_IN = """
import json, pathlib, sys
pathlib.Path("called.json").write_text(json.dumps(sys.argv[1:]))
out = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1]) / "model"
if "broken" in sys.argv:
    sys.exit(3)
if "silent" not in sys.argv:
    out.mkdir(parents=True)
    (out / "results_2026.json").write_text({results!r})
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name that notes how it was called and leaves a results file."""
    package = tmp_path / "packages" / "lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN.format(results=json.dumps(RESULTS)))
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("lm_eval", None)
    return tmp_path


def test_it_is_called_on_the_model_folder(
    stand_in: Path, tiny_model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        str(tiny_model_folder),
        "--lm-eval",
        "sums,gsm8k",
        "--out",
        "out",
        "--items",
        "12",
        "--seed",
        "4",
    ]
    assert command.run([*arguments, "--lm-eval-args", "--num_fewshot 5"]) == 0
    assert json.loads((stand_in / "called.json").read_text()) == [
        "run", "--model", "hf", "--model_args", f"pretrained={tiny_model_folder}", "--tasks", "sums,gsm8k",
        "--output_path", "out/lm-eval", "--seed", "4", "--apply_chat_template", "--limit", "12", "--num_fewshot", "5",
    ]  # fmt: skip
    told = capfd.readouterr().out
    assert "sums                     acc                              0.5000 [0.2060, 0.7940] n 12" in told
    assert json.loads((stand_in / "out" / "lm-eval.json").read_text())[1]["task"] == "gsm8k"


@pytest.mark.parametrize(
    ("more", "message"),
    [("broken", "lm-eval ended with status 3"), ("silent", "lm-eval wrote no results into")],
)
def test_a_failure_is_told(stand_in: Path, more: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        run_harness(Path("m"), "sums", stand_in / "out", "transformers", None, 0, more)
