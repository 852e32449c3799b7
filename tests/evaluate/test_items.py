"""Items on disk: what a kill leaves, and that a run which goes on ends where an undisturbed one does."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloy.evaluate.config import SuiteConfig
from alloy.evaluate.items import ItemLog
from alloy.evaluate.suites import measure_suite
from alloy.rollout.transformers_engine import TransformersEngine


def row(portion: int, item: int, **more: Any) -> dict[str, Any]:
    return {"item": f"t/{portion}/{item}", "portion": portion, **more}


def portion(number: int, size: int = 3) -> list[dict[str, Any]]:
    return [row(number, item) for item in range(size)]


def test_items_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "items" / "math.jsonl"
    log = ItemLog(path)
    assert log.keep({0: 1, 1: 1}) == set()
    log.add([row(0, 0, completion="Zwölf \u2028 lines\nand a lone \udc80", scores={"success": 0.1})])
    log.add([row(1, 0)])
    again = ItemLog(path)
    assert again.rows == log.rows
    assert again.keep({0: 1, 1: 1}) == {0, 1}
    assert "Zwölf" in path.read_text(encoding="utf-8")


@given(st.integers(0, 400))
def test_wherever_a_file_was_cut_whole_portions_are_kept_and_the_rest_is_gone(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        whole = [portion(0), portion(1), portion(2)]
        log = ItemLog(path)
        for each in whole:
            log.add(each)
        data = path.read_bytes()
        path.write_bytes(data[:cut])
        again = ItemLog(path)
        kept = again.keep(dict.fromkeys(range(3), 3))
        size = len(data) // 9
        assert kept == set(range(min(3, cut // (3 * size))))
        # What is added afterwards stands on lines of its own.
        for number in sorted({0, 1, 2} - kept):
            again.add(whole[number])
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            r for each in whole for r in each
        ]


def test_a_portion_of_another_size_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    log = ItemLog(path)
    log.add(portion(0, 2))
    log.add(portion(7, 2))
    log.add(portion(1, 3))
    assert ItemLog(path).keep({0: 3, 1: 3}) == {1}
    assert [json.loads(line)["portion"] for line in path.read_text().splitlines()] == [1, 1, 1]


SUITE = SuiteConfig(
    environment="math", items=5, samples=2, temperature=1.0, max_completion_tokens=6, options={"max_steps": 1}
)


def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    engine = TransformersEngine(tiny_model, tiny_tokenizer, batch_size=4)
    opened: list[int] = []

    def measure(path: Path | None, dies_at: int | None = None) -> Any:
        made = 0

        def open_engine() -> TransformersEngine:
            nonlocal made
            made += 1
            opened.append(made)
            if made == dies_at:
                raise KeyboardInterrupt
            return engine

        return measure_suite("math", SUITE, open_engine, tiny_tokenizer, 3, path, portion_items=4)

    undisturbed = measure(None)
    # Two tasks with both samples to a portion: five tasks are three portions.
    assert (len(opened), len(undisturbed.items)) == (3, 10)
    path = tmp_path / "items.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(path, dies_at=3)
    assert len(path.read_text().splitlines()) == 8
    with path.open("ab") as stream:
        stream.write(path.read_bytes()[:50])
    opened.clear()
    resumed = measure(path)
    assert opened == [1], "only the portion that is missing is made"
    assert resumed.items == undisturbed.items
    assert resumed.scores == undisturbed.scores
    texts = [[r["completion"] for r in each.completions] for each in (resumed, undisturbed)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 5, "the samples of an item differ"
    opened.clear()
    assert measure(path).scores == resumed.scores
    assert opened == [], "what is all there opens no engine"
