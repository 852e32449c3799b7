"""Every column mapping of the large recipes, read by the real data code from rows in the datasets' own columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_rows import ROWS
from pydantic import ValidationError

from alloy.data.checks import check
from alloy.data.config import DataConfig, RepeatConfig, SourceConfig
from alloy.data.prepare import prepare
from alloy.data.shapes import Conversation
from alloy.data.sources import read_rows
from alloy.environments.registry import Environments, make_environment
from alloy.errors import InputError
from alloy.pipeline import load_recipe, stage_config

RECIPES = ("qwen3-8b", "nemotron-nano-9b-v2")


def local(name: str, folder: Path) -> Path:
    path = folder / f"{Path(name).name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    return path


def sources(recipe: str) -> list[SourceConfig]:
    """Of all SFT stages, those that they are compared with included."""
    found = []
    for stage, entry in load_recipe(recipe).stages.items():
        if entry.package == "sft":
            data: Any = stage_config(load_recipe(recipe), stage, Path("runs") / recipe).data  # type: ignore[attr-defined]
            found += data.sources
            found += data.checks.decontaminate.against if data.checks.decontaminate else []
    return [source for source in found if source.hub]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_source_reads_its_dataset_s_columns(recipe: str, tmp_path: Path) -> None:
    found = sources(recipe)
    assert len(found) > 8
    for source in found:
        assert source.hub is not None
        given = source.model_copy(update={"hub": None, "path": local(source.hub, tmp_path), "rows": None})
        rows = list(read_rows(given, 0))
        assert len(rows) == len(ROWS[source.hub])
        for row in rows:
            check(Conversation(row.messages, row.tools), RepeatConfig())


def read(name: str, tmp_path: Path, **given: Any) -> Any:
    return next(iter(read_rows(SourceConfig.model_validate({"path": local(name, tmp_path), **given}), 0)))


def test_an_xlam_row(tmp_path: Path) -> None:
    row = read("Salesforce/xlam-function-calling-60k", tmp_path)
    assert row.messages == [
        {"role": "user", "content": "Weather in town 0?"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"name": "get_weather", "arguments": {"city": "town 0"}}]},
    ]  # fmt: skip
    # Python's types are JSON schema's; what is optional or has a default is not required.
    parameters = row.tools[0]["parameters"]
    assert {name: part["type"] for name, part in parameters["properties"].items()} == {
        "city": "string", "days": "integer",
    }  # fmt: skip
    assert (parameters["type"], parameters["required"]) == ("object", ["city"])


def test_a_glaive_row(tmp_path: Path) -> None:
    row = read("glaiveai/glaive-function-calling-v2", tmp_path)
    assert [(turn["role"], turn["content"]) for turn in row.messages] == [
        ("system", "You are a helpful assistant with access to the following functions. Use them if required"),
        ("user", "News of land 0?"), ("assistant", ""), ("tool", '{"headlines": ["A", "B"]}'),
        ("assistant", "There are two: A and B."), ("user", "Thanks!"), ("assistant", "You are welcome!"),
    ]  # fmt: skip
    assert row.messages[2]["tool_calls"] == [{"name": "get_news", "arguments": {"country": "land 0"}}]
    assert row.tools[0]["parameters"]["properties"] == {"country": {"type": "string"}}


def test_a_glaive_row_without_functions_and_one_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    plain = {
        "system": "SYSTEM: You have no access to functions.\n\n",
        "chat": "USER: Hi\n\n\nASSISTANT: Hello! <|endoftext|>\n",
    }
    path.write_text(json.dumps(plain) + "\n" + json.dumps({"system": "S", "chat": "Hello there"}) + "\n")
    rows = read_rows(SourceConfig.model_validate({"path": path}), 0)
    first = next(rows)
    assert (first.tools, [turn["content"] for turn in first.messages]) == (
        [], ["You have no access to functions.", "Hi", "Hello!"],
    )  # fmt: skip
    with pytest.raises(InputError, match="rows.jsonl:2: chat is no transcript"):
        next(rows)


def test_a_when2call_row_has_its_tools_as_texts(tmp_path: Path) -> None:
    row = read("nvidia/When2Call", tmp_path)
    assert row.tools[0]["name"] == "get_news"
    assert row.tools[0]["parameters"]["type"] == "object"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("List[Dict[str, Any]]", "array"), ("str, optional", "string"), ("float", "number"), ("dict", "object"),
     ("integer", "integer"), ("Callable[[int], int]", None)],
)  # fmt: skip
def test_python_s_types_in_a_schema(tmp_path: Path, given: str, meant: str | None) -> None:
    path = tmp_path / "rows.jsonl"
    tool = {"name": "f", "parameters": {"type": "dict", "properties": {"x": {"type": given}}}}
    path.write_text(json.dumps({"prompt": "a", "completion": "b", "tools": [tool]}) + "\n")
    row = next(iter(read_rows(SourceConfig.model_validate({"path": path}), 0)))
    assert row.tools[0]["parameters"]["properties"]["x"].get("type") == meant


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_environment_and_suite_reads_its_dataset_s_columns(recipe: str, tmp_path: Path) -> None:
    seen = set()
    for stage in ("grpo", "rlhf", "merge", "evaluate"):
        config: Any = stage_config(load_recipe(recipe), stage, Path("runs") / recipe)
        suites = config.sweep.suites if stage == "merge" else None
        given = suites or getattr(config, "suites", None) or config.environments
        for label, told in given.items():
            path = told.options.get("path")
            if not isinstance(path, dict):
                continue
            seen.add(path["hub"])
            kept = {"keep": path["keep"]} if "keep" in path else {}
            options = {**told.options, "path": {"path": str(local(path["hub"], tmp_path)), **kept}}
            environment = make_environment(told.environment or label, options)
            tasks = environment.tasks("test" if told.environment == "benchmark" else "train", 20, 0)
            assert all(task.messages[-1]["role"] == "user" for task in tasks)
    assert {"lmsys/lmsys-chat-1m", "nvidia/HelpSteer3", "HuggingFaceH4/MATH-500", "google/IFEval"} <= seen


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_reward_model_reads_helpsteer3(recipe: str, tmp_path: Path) -> None:
    from alloy.data.preference_shapes import to_preference

    config: Any = stage_config(load_recipe(recipe), "reward-model", Path("runs") / recipe)
    found = to_preference(ROWS[config.data.hub][0], config.data.shape, config.data.columns)
    assert found is not None
    # -2: the first response is better, by two.
    assert (found.chosen, found.rejected, found.margin) == ("Number 0 is a number.", "Hm, 0?", 2.0)


def test_instructed_prompts(tmp_path: Path) -> None:
    options = {"path": local("lmsys/lmsys-chat-1m", tmp_path), "columns": {"conversations": "conversation"}}
    environment = make_environment("instructed", options)
    tasks = environment.tasks("train", 40, 0)
    assert tasks == make_environment("instructed", options).tasks("train", 50, 0)[:40]
    assert {len(task.gold["instruction_id_list"]) for task in tasks} == {1, 2, 3}
    for task in tasks:
        groups = [name.partition(":")[0] for name in task.gold["instruction_id_list"]]
        assert len(set(groups)) == len(groups)
        assert task.messages[-1]["content"].startswith("Tell me about number ")
    # The verifier takes every drawn argument: an answer is judged, never an error.
    environments = Environments({"instructed": environment})

    def judged(task: Any, text: str) -> Any:
        (verdict,) = environments.judge([(task, [{"role": "assistant", "content": text}], None)])
        return verdict

    assert {judged(task, "Yes.").status for task in tasks} == {"ok"}
    comma = next(task for task in tasks if task.gold["instruction_id_list"] == ["punctuation:no_comma"])
    assert [judged(comma, text).reward for text in ("a b", "a, b")] == [1.0, 0.0]


def test_english_contexts_alone(tmp_path: Path) -> None:
    """Every sixth row is Korean; the rows that stay have the numbers that they have in the file."""
    path = local("nvidia/HelpSteer3", tmp_path)
    columns = {"prompt": "context", "completion": "response1"}
    source = SourceConfig.model_validate({"path": path, "keep": {"language": "english"}, "columns": columns})
    rows = list(read_rows(source, 0))
    assert len(rows) == 50
    assert [row.where.rpartition(":")[2] for row in rows[3:7]] == ["4", "5", "7", "8"]
    either = source.model_copy(update={"keep": {"language": ["english", "korean"], "domain": "general"}})
    assert len(list(read_rows(either, 0))) == 60
    config: Any = stage_config(load_recipe("nemotron-nano-9b-v2"), "reward-model", Path("runs/x"))
    assert config.data.source().keep == {"language": "english"}
    assert config.data.held_out_source().keep == {"language": "english"}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "hub"])
def test_rows_counts_what_is_kept(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,200 rows, of which every third from the 700th on is English: numbers 702, 705, ..., 1,197."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    given = [
        {"prompt": str(n), "completion": "x", "language": "english" if n >= 700 and n % 3 == 0 else "korean"}
        for n in range(1200)
    ]
    if ending == "jsonl":
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
    else:
        (tmp_path / "set").mkdir()
        path = tmp_path / "set" / "train.parquet"
        pq.write_table(pa.Table.from_pylist(given), path)
    place = {"hub": str(path.parent), "streaming": True} if ending == "hub" else {"path": path}

    def read(**more: Any) -> list[Any]:
        return list(read_rows(SourceConfig.model_validate({**place, **more}), 0))

    few, whole = read(keep={"language": "english"}, rows=5), read(keep={"language": "english"})
    assert [row.messages[0]["content"] for row in few] == ["702", "705", "708", "711", "714"]
    first = 703 if ending == "jsonl" else 702
    assert [int(row.where.rpartition(":")[2]) for row in few] == list(range(first, first + 15, 3))
    assert (len(whole), whole[:5]) == (166, few)
    assert read(keep={"language": "english"}, rows=1000) == whole
    with pytest.raises(InputError, match="keep: no row has the column 'lang'. Correct `keep`"):
        read(keep={"lang": "english"}, rows=5)
    with pytest.raises(
        InputError,
        match=r"none of 1200 rows has {'language': 'English'}. Correct `keep`: some have language: 'korean', 'english'",
    ):
        read(keep={"language": "English"})


def test_a_misspelt_keep_stops_a_blend(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """Beside a source that has rows it would not be missed."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b", "language": "english"}) + "\n")

    def blended(column: str) -> Any:
        data = {"sources": [{"path": path}, {"path": path, "keep": {column: "english"}}]}
        return prepare(DataConfig.model_validate(data), tiny_tokenizer, 200, 0, tmp_path / "cache")

    assert blended("language")
    with pytest.raises(InputError, match=r"rows\.jsonl: keep: no row has the column 'lang'"):
        blended("lang")


def test_bad_rows_are_told_whatever_is_kept(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "language": "korean"}\n\n{"prompt"\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:3: not JSON"):
        list(read_rows(SourceConfig.model_validate({"path": path, "keep": {"language": "english"}}), 0))
    preparing = {
        "sources": [{"path": path, "keep": {"lang": "english"}}],
        "checks": {"max_rejected_share": 1},
    }
    with pytest.raises(InputError, match="no row has the column 'lang'"):
        prepare(DataConfig.model_validate(preparing), tiny_tokenizer, 200, 0, tmp_path / "cache")
    path.write_text("\n")
    assert not list(
        read_rows(SourceConfig.model_validate({"path": path, "keep": {"language": "english"}}), 0)
    )


def test_an_environment_has_no_columns_to_keep_by() -> None:
    with pytest.raises(ValidationError, match="keep looks at the columns of a path or of the hub"):
        SourceConfig.model_validate({"environment": "math", "rows": 3, "keep": {"a": "b"}})
