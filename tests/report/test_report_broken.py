"""Whatever the files of a run folder hold, there is a well-formed page."""

from pathlib import Path

import pytest
from conftest import write_json, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from parsed import Page

from alloy.report import build

BROKEN = ["", "nul", "[]", "[[[", '"text"', "3", "{}", "\x00\xff", "[" * 1200, '{"kind": 7, "parents": 1}',
          '{"points": [3, {"alpha": "x"}], "cells": [1], "budget": 5, "differences": {}, "metrics": "x"}',
          '{"parents": {"a": 3, "b": {"path": 4}}, "fingerprints": [], "versions": 2, "tokens": 1e999}',
          '{"cells": {"a": 1, "b": {"c": {"value": "d"}}}, "suites": [1, null], "stages": {"x": 1}}',
          '{"points": [{"alpha": 0.5}], "chosen": NaN, "suites": 1, "created": "\\ud800", "seconds": true}',
          '{"step": 1, "prompt": {"a": 1}, "completion": [1, {"tool_calls": 3, "content": [2]}]}',
          '{"budget": {"a": [{"budget": "x", "accuracy": 0.5, "tokens": {"value": 1}}, 3]}}',
          '{"stages": ["a"], "cells": {"b": {"c": {"value": 1}}}}',
          '{"groups": {"a": {"b": {"c": {"d": {"value": 2}, "e": 3}, "f": 4}, "g": 5}}, "details": {"a": 6}}',
          '{"rates": {"a": {"b": 1e308, "c": 0.5}, "d": 3}, "rollouts": 1e300, "step": "x", "steps": 4}',
          '{"kept": 3, "steps": [{"step": 3, "environments": {"a": {"value": 1e308, "gain": 2}}}, {"step": 1e300}]}']  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_whatever_a_file_holds_the_page_is_built(tmp_path: Path, content: str) -> None:
    names = (
        "artifact.json",
        "inputs.json",
        "metrics.jsonl",
        "samples.jsonl",
        "config.yaml",
        "results.json",
        "sweep.json",
        "profile.json",
        "profile-7.json",
        "validation.json",
    )
    for name in names:
        folder = tmp_path / f"broken-{name.split('.')[0]}"
        folder.mkdir()
        (folder / name).write_text(content)
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / "all" / name).write_text(content)
    assert "broken-results" in Page(build(tmp_path)).text


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["value", "low", "high", "n", "a", "alpha", "scores", "budget", "accuracy", "path", "role"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


measured = st.lists(
    st.fixed_dictionaries(
        {
            "step": json_values | st.integers(0, 3),
            "environments": st.dictionaries(st.text(max_size=2), json_values),
        },
        optional={"mean": json_values, "fell": st.lists(st.text(max_size=2) | st.none())},
    ),
    max_size=3,
)


rates = st.dictionaries(
    st.text(max_size=2), st.dictionaries(st.text(max_size=2), st.floats(-0.5, 1.5) | json_values)
)
left_files = st.fixed_dictionaries(
    {},
    optional={
        "step": json_values,
        "rollouts": json_values | st.integers(0, 70),
        "rates": rates | json_values,
        "kept": json_values | st.integers(0, 3),
        "steps": measured | json_values,
    },
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["cells", "differences", "budget", "stages", "suites", "groups", "details"]),
        json_values,
    ),
    st.dictionaries(st.sampled_from(["points", "chosen", "rule", "suites"]), json_values),
    st.dictionaries(
        st.sampled_from(["parents", "fingerprints", "metrics", "seconds", "tokens", "created"]), json_values
    ),
    st.dictionaries(st.sampled_from(["step", "prompt", "completion", "reward", "status"]), json_values),
    left_files,
)
def test_any_json_gives_a_well_formed_page(
    tmp_path_factory: pytest.TempPathFactory,
    results: dict,
    sweep: dict,
    artifact: dict,
    sample: dict,
    left: dict,
) -> None:
    folder = tmp_path_factory.mktemp("run") / "stage"
    folder.mkdir()
    write_json(folder / "results.json", results)
    write_json(folder / "sweep.json", sweep)
    write_json(folder / "artifact.json", artifact)
    write_json(folder / "profile.json", left)
    write_json(folder / "validation.json", left)
    write_jsonl(folder / "samples.jsonl", [sample, sample])
    Page(build(folder.parent))
