"""The methods beside their papers' formulas, written out weight by weight in Python's floats."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from merge_models import WriteModel, weights
from rounding import nearest_even
from safetensors.torch import load_file

import merge.methods
from alloy.command import main
from alloy.errors import InputError
from merge.__main__ import run
from merge.many import merge_models
from merge.method_command import METHODS as NAMES
from merge.methods import METHODS, Facts, Part, options_of

Vectors = list[list[float]]


def parts(vectors: Vectors, start: int = 0, stop: int | None = None, base: bool = False) -> list[Part]:
    facts = Facts()
    arrays = [np.array(vector) for vector in vectors]

    def part(place: int, array: Any) -> Part:
        def read(first: int, count: int) -> Any:
            return array[first : first + count]

        return Part("w", place, start, array[start:stop], len(array), read, facts)

    return [part(-1 if base else place, array) for place, array in enumerate(arrays)]


def oracle_mean(models: Vectors, shares: list[float]) -> list[float]:
    return [
        math.fsum(w * x for w, x in zip(shares, column, strict=True)) / math.fsum(shares)
        for column in zip(*models, strict=True)
    ]


def oracle_slerp(a: list[float], b: list[float], t: float) -> list[float]:
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    angle = math.acos(max(-1.0, min(1.0, product / math.hypot(*a) / math.hypot(*b))))
    first, second = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return [first * x + second * y for x, y in zip(a, b, strict=True)]


def oracle_ties(models: Vectors, base: list[float], shares: list[float], density: float) -> list[float]:
    trimmed = []
    for model in models:
        delta = [x - y for x, y in zip(model, base, strict=True)]
        floor = sorted((abs(d) for d in delta), reverse=True)[max(1, int(density * len(delta))) - 1]
        trimmed.append([d if abs(d) >= floor else 0.0 for d in delta])
    result = []
    for under, column in zip(base, zip(*trimmed, strict=True), strict=True):
        total = sum(w * d for w, d in zip(shares, column, strict=True))
        kept = [(w, d) for w, d in zip(shares, column, strict=True) if w * d * total > 0]
        result.append(under + (sum(w * d for w, d in kept) / sum(w for w, _ in kept) if kept else 0.0))
    return result


numbers = st.floats(-4, 4).map(lambda x: round(x, 3))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Vectors, list[float], list[float]]:
    size, count = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    vectors = [draw(st.lists(numbers, min_size=size, max_size=size)) for _ in range(count + 1)]
    shares = draw(st.lists(st.floats(0.1, 2), min_size=count, max_size=count))
    return vectors[:-1], vectors[-1], shares


@settings(max_examples=80, deadline=None)
@given(problem=problems(), density=st.floats(0.01, 1))
def test_mean_task_and_ties_as_the_papers_have_them(
    problem: tuple[Vectors, list[float], list[float]], density: float
) -> None:
    models, base, shares = problem
    under = parts([base], base=True)[0]
    assert METHODS["mean"](parts(models), weights=shares) == pytest.approx(oracle_mean(models, shares))
    changed = [
        y + math.fsum(w * (m[i] - y) for w, m in zip(shares, models, strict=True)) for i, y in enumerate(base)
    ]
    assert METHODS["task"](parts(models), under, weights=shares) == pytest.approx(changed, abs=1e-12)
    found = METHODS["ties"](parts(models), under, weights=shares, density=density)
    expected = oracle_ties(models, base, shares, density)
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), t=st.floats(0, 1))
def test_slerp_as_shoemake_has_it(data: st.DataObject, t: float) -> None:
    size = data.draw(st.integers(2, 20))
    a, b = (data.draw(st.lists(numbers, min_size=size, max_size=size)) for _ in range(2))
    # Far from parallel, so that the formula itself is sound.
    a[0], b[0], a[1], b[1] = 5.0, 0.0, 0.0, 5.0
    assert METHODS["slerp"](parts([a, b]), t=t) == pytest.approx(oracle_slerp(a, b, t), abs=1e-9)


def test_slerp_by_hand_and_where_there_is_no_arc() -> None:
    half = METHODS["slerp"](parts([[1.0, 0.0], [0.0, 1.0]]), t=0.5)
    assert half == pytest.approx([math.sqrt(0.5)] * 2)
    for a, b in (([1.0, 2.0], [1.0, 2.0]), ([0.0, 0.0], [2.0, 2.0]), ([1.0, 0.0], [-1.0, 0.0])):
        expected = [0.75 * x + 0.25 * y for x, y in zip(a, b, strict=True)]
        assert METHODS["slerp"](parts([a, b]), t=0.25) == pytest.approx(expected)


def test_ties_by_hand() -> None:
    # Half of four weights stay. Model 1 keeps 3 and -2, model 2 keeps -4 and 2.5.
    # At 0: 3 against -4, the sum is -1: only -4 stays. At 1: -2 alone. At 3: 2.5 alone. At 2: nothing.
    models = [[3.0, -2.0, 0.5, 1.0], [-4.0, 1.0, 0.5, 2.5]]
    found = METHODS["ties"](parts(models), parts([[0.0] * 4], base=True)[0], weights=[1.0, 1.0], density=0.5)
    assert found.tolist() == [-4.0, -2.0, 0.0, 2.5]
    scaled = METHODS["ties"](
        parts(models), parts([[1.0] * 4], base=True)[0], weights=[1.0, 1.0], density=1.0, scale=2.0
    )
    # Deltas 2 -3 -.5 0 and -5 0 -.5 1.5: elected -5, -3, -.5, 1.5.
    assert scaled.tolist() == [-9.0, -5.0, 0.0, 4.0]


def test_dare_drops_and_rescales() -> None:
    size = 20_000
    model, base = [3.0] * size, [1.0] * size
    found = METHODS["dare"](parts([model]), parts([base], base=True)[0], weights=[0.5], density=0.25, seed=1)
    # What stays is 1 + 0.5 * 2 / 0.25, the rest the base; the share within five standard errors.
    assert set(found.tolist()) == {1.0, 5.0}
    assert abs(np.mean(found == 5.0) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / size)
    again = METHODS["dare"](parts([model]), parts([base], base=True)[0], weights=[0.5], density=0.25, seed=1)
    assert np.array_equal(found, again)
    other = METHODS["dare"](parts([model]), parts([base], base=True)[0], weights=[0.5], density=0.25, seed=2)
    assert 0.5 < np.mean(found == other) < 0.75  # Independent: 0.25^2 + 0.75^2 = 0.625.
    everything = METHODS["dare"](parts([model]), parts([base], base=True)[0], weights=[0.5], density=1.0)
    assert set(everything.tolist()) == {2.0}


def test_dare_with_elected_signs_adds_no_minority() -> None:
    models, base = [[2.0] * 1000, [-1.0] * 1000], [0.0] * 1000
    under = parts([base], base=True)[0]
    found = METHODS["dare"](parts(models), under, weights=[1.0, 1.0], density=0.5, elect=True)
    # Both drawn: 4 - 2 > 0, so 4 alone; one drawn: 4 or -2; none: 0.
    assert set(found.tolist()) == {4.0, -2.0, 0.0}


@pytest.mark.parametrize("method", ["slerp", "ties", "dare"])
def test_the_cut_into_runs_does_not_show(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    models = [rng.standard_normal(1003).tolist() for _ in range(2)]
    base = [rng.standard_normal(1003).tolist()]
    options: dict[str, Any] = {"t": 0.3} if method == "slerp" else {"weights": [0.7, 0.3], "density": 0.3}
    rests: list[Any] = [] if method == "slerp" else [{"base": True}]
    whole = METHODS[method](parts(models), *(parts(base, **rest)[0] for rest in rests), **options)
    monkeypatch.setattr(merge.methods, "RUN", 100)
    cut = []
    for start in range(0, 1003, 101):
        under = [parts(base, start, start + 101, **rest)[0] for rest in rests]
        cut.extend(METHODS[method](parts(models, start, start + 101), *under, **options).tolist())
    assert cut == pytest.approx(whole.tolist(), rel=1e-13)
    if method != "slerp":
        assert cut == whole.tolist()


def test_the_result_is_rounded_once_to_its_dtype(write_model: WriteModel, tmp_path: Path) -> None:
    tensors = [weights(seed) for seed in range(3)]
    models = [write_model("m" * (n + 1), t) for n, t in enumerate(tensors)]
    report = merge_models(
        "mean", {"weights": [0.2, 0.3, 0.5], "normalize": False}, models, None, tmp_path / "out"
    )
    result = load_file(tmp_path / "out" / "model.safetensors")
    from fractions import Fraction

    shares = [Fraction(0.2), Fraction(0.3), Fraction(0.5)]
    for name, merged in result.items():
        columns = zip(*(t[name].double().reshape(-1).tolist() for t in tensors), strict=True)
        exact = [sum(s * Fraction(x) for s, x in zip(shares, column, strict=True)) for column in columns]
        assert merged.reshape(-1).tolist() == [nearest_even(Fraction(x), torch.bfloat16) for x in exact]
    assert report.tensors == 4
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Merged by **mean** (weights = [0.2, 0.3, 0.5], normalize = False)" in card
    assert f"| model-3 | 0.5 | {models[2]} |" in card


def test_methods_from_the_command_line(
    write_model: WriteModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, a, b = write_model("x", weights(9)), write_model("aa", weights(1)), write_model("bbb", weights(2))
    given = ["--models", str(a), str(b), "--base", str(base), "--weights", "1,0.5", "--json"]
    for method, more in {"task": [], "ties": ["--density", "0.5"], "dare": ["--seed", "3"]}.items():
        assert main(run, [method, *given, *more, "--out", str(tmp_path / method)]) == 0
        assert json.loads(capsys.readouterr().out)["tensors"] == 4
        recorded = json.loads((tmp_path / method / "merge.json").read_text())
        assert recorded["method"] == method
        assert recorded["options"]["weights"] == [1.0, 0.5]
    name = "model.norm.weight"
    task = load_file(tmp_path / "task" / "model.safetensors")[name]
    x, y, z = (load_file(folder / "model.safetensors")[name].double() for folder in (base, a, b))
    assert torch.equal(task, (x + (y - x) + 0.5 * (z - x)).bfloat16())
    assert main(run, ["slerp", "--models", str(a), str(b), "--t", "0", "--out", str(tmp_path / "s")]) == 0
    assert torch.equal(load_file(tmp_path / "s" / "model.safetensors")[name], y.bfloat16())


@pytest.mark.parametrize(
    ("method", "options", "count", "message"),
    [
        ("slerp", {"t": 0.5}, 3, "slerp is of two models, not of 3."),
        ("slerp", {"t": 2.0}, 2, "t: 2.0: the place on the arc lies between 0 and 1."),
        ("mean", {"weights": [1.0]}, 2, "weights: 1 for 2 models: give one to each."),
        ("mean", {"weights": [1.0, -1.0], "normalize": True}, 2, "weights: [1.0, -1.0] sum to 0"),
        ("mean", {"weights": [1.0, math.inf]}, 2, "only finite numbers weigh"),
        ("mean", {"weights": [1.0]}, 1, "mean needs two models at least."),
    ],
)
def test_options_that_make_no_sense_are_said(
    write_model: WriteModel, tmp_path: Path, method: str, options: dict[str, Any], count: int, message: str
) -> None:
    models = [write_model("m" * (n + 1)) for n in range(count)]
    with pytest.raises(InputError) as caught:
        merge_models(method, options, models, None, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_missing_or_too_much_and_an_unknown_donor_are_said(
    write_model: WriteModel, tmp_path: Path
) -> None:
    a, b = write_model("a"), write_model("b")
    out = tmp_path / "out"
    with pytest.raises(InputError, match="ties needs a base: name what the models were trained from"):
        merge_models("ties", {"weights": [1.0, 1.0]}, [a, b], None, out)
    with pytest.raises(InputError, match="slerp has no base. Leave it out"):
        merge_models("slerp", {"t": 0.5}, [a, b], a, out)
    with pytest.raises(InputError, match="donor model-3: choose from model-1, model-2"):
        merge_models("slerp", {"t": 0.5}, [a, b], None, out, donor="model-3")
    with pytest.raises(InputError, match=r"density: 0\.0: the share that stays lies above 0, up to 1"):
        merge_models("dare", {"weights": [1.0], "density": 0.0}, [a], b, out)


def test_a_difference_names_the_models(write_model: WriteModel, tmp_path: Path) -> None:
    models = [write_model("a"), write_model("bb"), write_model("ccc", template="of three")]
    with pytest.raises(
        InputError, match="'of three' in model-3. Choose whose to keep: --donor model-1 or --donor m"
    ):
        merge_models("mean", {"weights": [1.0] * 3}, models, None, tmp_path / "out")
    merge_models("mean", {"weights": [1.0] * 3}, models, None, tmp_path / "out", donor="model-3")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "of three"


def test_the_command_knows_every_method_and_its_options() -> None:
    assert set(NAMES) == set(METHODS)
    assert list(options_of("dare")) == ["weights", "density", "seed", "elect"]


def test_models_that_agree_with_the_first_and_not_with_each_other_are_refused(
    write_model: WriteModel, tmp_path: Path
) -> None:
    tied = {name: tensor for name, tensor in weights(1).items() if name != "lm_head.weight"}
    models = [
        write_model("a", tied, config={"tie_word_embeddings": True}),
        write_model("bb", tied, config={"tie_word_embeddings": True}),
        write_model("ccc"),
    ]
    with pytest.raises(InputError) as caught:
        merge_models("mean", {"weights": [1.0] * 3}, models, None, tmp_path / "out", donor="model-1")
    assert str(caught.value) == (
        "lm_head.weight is tied to the embedding in some of model-1, model-2 and model-3 and not in others. "
        "Save them with the same tie_word_embeddings."
    )
    wide = [write_model("dddd"), write_model("eeeee"), write_model("ffffff", weights(3, torch.float32))]
    with pytest.raises(InputError) as caught:
        merge_models("mean", {"weights": [1.0] * 3}, wide, None, tmp_path / "out", donor="model-3")
    assert str(caught.value) == (
        "lm_head.weight would be BF16 and F32. Choose the result's: --dtype bfloat16."
    )
