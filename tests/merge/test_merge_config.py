from pathlib import Path
from typing import Any

import pytest

from alloy.config import dump, load, parse
from alloy.errors import InputError
from merge.config import MergeConfig, parse_alphas

SUITES = {"math": {"environment": "math", "items": 4}}
WEIGHED = {"alphas": [0.1], "suites": SUITES, "rule": "weighted-sum"}
MEAN = {"weights": [1, 1]}


def test_a_range_counts_in_decimals() -> None:
    assert parse_alphas("0.1:0.9:0.1") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert parse_alphas("0:1:0.25") == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert parse_alphas("0.4:0.4:1") == [0.4]
    assert parse_alphas("0.5,0.1") == [0.5, 0.1]


@pytest.mark.parametrize(
    "text", ["", "a", "0.1:0.9", "0.1:0.9:0", "0.9:0.1:0.1", "0:1:-0.1", "0:1:1e-9", "1:2:3:4"]
)
def test_a_range_that_makes_no_sense_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        parse_alphas(text)


def test_sweeps_are_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text(
        "reasoning: runs/demo/dpo\nchat: runs/demo/rlhf\n"
        "sweep:\n  alphas: 0.3:0.1:0.1\n  suites:\n    math: {environment: math, items: 4}\n"
    )
    with pytest.raises(InputError, match=rf"{path}:4: sweep.alphas: '0.3:0.1:0.1': start:stop:step"):
        load(MergeConfig, path)
    config = load(MergeConfig, path, ["sweep.alphas=[0.5, 0.1, 0.5]"])
    assert config.sweep is not None
    assert config.sweep.alphas == [0.1, 0.5]
    assert config.sweep.suites["math"].split == "validation"
    assert config.sweep.rule == "product"
    assert "max_shard_bytes: 4294967296" in dump(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "set either alpha or sweep"),
        ({"alpha": 0.5, "sweep": {"alphas": [0.1], "suites": SUITES}}, "set either alpha or sweep"),
        ({"alpha": 1.5}, "alpha: 1.5: the share of the chat weights lies between 0 and 1"),
        ({"alpha": {"mlp": 0.5, "other": -1}}, "-1.0: the share of the chat weights lies between 0 and 1"),
        ({"alpha": {"heads": 0.5}}, "'heads' is no group of tensors"),
        ({"sweep": {"suites": SUITES}}, "a linear merge is swept over alphas"),
        ({"sweep": {"alphas": [0.1], "option": "t", "suites": SUITES}}, "leave option and values out"),
        ({"sweep": {"alphas": [0.1], "suites": SUITES, "groups": ["head"]}}, "'head' is no group of tensors"),
        (
            {"sweep": {"alphas": [0.1], "suites": SUITES, "rule": "weighted-sum"}},
            "what does each suite weigh?",
        ),
        (
            {"sweep": {"alphas": [0.1], "suites": SUITES, "weights": {"math": 1}}},
            "weights: a product has none",
        ),
        (
            {"sweep": {**WEIGHED, "weights": {"math": 1, "chat": 1}}},
            "weights: 'chat' has a weight or is a suite",
        ),
        ({"sweep": {**WEIGHED, "weights": {"math": 0}}}, "numbers from 0 on are needed, and one above it"),
        ({"sweep": {**WEIGHED, "weights": {"math": -1}}}, "numbers from 0 on are needed"),
        ({"alpha": 0.5, "options": {"t": 0.5}}, "options: 't': a linear merge has no options but alpha"),
        ({"alpha": 0.5, "models": {"a": "b"}}, "models and base are of other methods"),
        ({"method": "slerp", "options": {}}, "options: slerp: t: field required"),
        ({"method": "slerp", "options": {"t": "x"}}, "options: slerp: t: input should be a valid number"),
        (
            {"method": "mean", "options": {"weights": [1, 1], "t": 1}},
            "mean: t: extra inputs are not permitted",
        ),
        (
            {"method": "slerp", "options": {"t": 0.5}, "alpha": 0.5},
            "alpha, reasoning and chat are of a linear",
        ),
        ({"method": "slerp", "options": {"t": 0.5}, "match_tokens": True}, "only a linear merge matches"),
        ({"method": "slerp", "sweep": {"alphas": [0.1], "suites": SUITES}}, "slerp: t: field required"),
        ({"method": "mean", "options": MEAN, "sweep": {"alphas": [0.1], "suites": SUITES}}, "Set option and"),
        ({"method": "mean", "options": MEAN, "models": {"base": "x"}}, "'base' is the name of another field"),
        ({"method": "average", "options": {}}, "method = 'average'"),
        ({"alpha": 0.5, "donor": "base"}, "donor = 'base'"),
        ({"sweep": {"alphas": [0.1, 1.2], "suites": SUITES}}, "1.2 is no share of the chat weights"),
        ({"sweep": {"alphas": [0.1], "suites": SUITES, "rule": "best"}}, "sweep.rule = 'best'"),
        ({"alpha": 0.5, "dnor": "chat"}, "Did you mean 'donor'"),
    ],
)
def test_a_wrong_config_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(MergeConfig, values, "merge.yaml")
    assert message in str(caught.value)


def test_the_tasks_code_is_an_input_of_a_sweep_only() -> None:
    assert parse(MergeConfig, {"alpha": 0.5}, "x").data_fingerprint() == ""
    swept = parse(MergeConfig, {"sweep": {"alphas": [0.1], "suites": SUITES}}, "x")
    assert len(swept.data_fingerprint()) == 64


def test_a_method_has_its_defaults_and_a_swept_option_is_left_to_the_sweep() -> None:
    ties = parse(MergeConfig, {"method": "ties", "options": MEAN}, "x")
    assert ties.options == {"weights": [1.0, 1.0], "density": 0.2, "scale": 1.0}
    sweep = {"option": "t", "values": "0:1:0.5", "suites": SUITES}
    slerp = parse(MergeConfig, {"method": "slerp", "sweep": sweep}, "x")
    assert slerp.sweep is not None
    assert (slerp.options, slerp.sweep.values) == ({}, [0.0, 0.5, 1.0])


def test_the_line_of_a_wrong_option_is_told(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text("method: ties\nmodels: {a: x, b: y}\noptions:\n  weights: [1, 1]\n  density: much\n")
    with pytest.raises(
        InputError, match=rf"{path}:3: options: ties: density: input should be a valid number"
    ):
        load(MergeConfig, path)
