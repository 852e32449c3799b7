import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alloy.data.config import (
    CheckConfig,
    DataConfig,
    DecontaminateConfig,
    ReasoningOffConfig,
    SourceConfig,
    TruncateConfig,
)
from alloy.data.examples import Leaf, Work, open_store
from alloy.data.prepare import Prepared, prepare
from alloy.data.sources import Chunk, read_rows
from alloy.data.store import Portion, Store, write_store
from alloy.environments.registry import ENVIRONMENTS
from alloy.errors import InputError
from alloy.template import encode_conversation

GOOD = {"prompt": "2+2?", "completion": "4"}


def sources(**rows: int) -> list[SourceConfig]:
    return [SourceConfig(environment=name, rows=count) for name, count in rows.items()]


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def from_file(path: Path, **more: Any) -> DataConfig:
    return DataConfig(sources=[SourceConfig(path=path)], **more)


def documents(prepared: Prepared) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every document of every sequence: its tokens, and 1 where a label is there."""
    found = []
    for row in prepared.dataset:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"])
        start = 0
        for length in row["seq_lengths"]:
            ids, labels = row["input_ids"][start : start + length], row["labels"][start : start + length]
            assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
            found.append((tuple(ids), tuple(int(label != -100) for label in labels)))
            start += length
    return found


def test_nothing_is_lost_between_rows_and_sequences(tiny_tokenizer: Any) -> None:
    config = DataConfig(sources=sources(math=30, chat=10))
    expected = sorted(
        (tuple(e.input_ids), tuple(e.completion_mask))
        for source in config.sources
        for row in read_rows(source, 0)
        for e in encode_conversation(tiny_tokenizer, row.messages, row.tools)
    )
    prepared = prepare(config, tiny_tokenizer, 400, 0)
    assert sorted(documents(prepared)) == expected
    assert all(len(row["input_ids"]) <= 400 for row in prepared.dataset)
    counts = prepared.counts
    assert (counts["rows"], counts["examples"], counts["too_long"], counts["rejected"]) == (40, 40, 0, 0)
    assert counts["tokens"] == sum(len(ids) for ids, _ in expected)
    assert counts["loss_tokens"] == sum(sum(mask) for _, mask in expected)
    assert counts["fill"] == pytest.approx(counts["tokens"] / (400 * counts["sequences"]))


def test_the_same_seed_prepares_the_same_sequences(tiny_tokenizer: Any, tmp_path: Path) -> None:
    config = DataConfig(sources=sources(math=20))
    first, again, other = (
        documents(prepare(config, tiny_tokenizer, 300, seed, tmp_path / str(number)))
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("workers", [1, 2])
def test_no_result_depends_on_the_number_of_processes(
    tiny_tokenizer: Any, tmp_path: Path, workers: int
) -> None:
    rows = [{"prompt": f"{n}+1?", "completion": str(n + 1), "thinking": "t"} for n in range(1600)]
    rows[700] = {"prompt": "x"}
    config = from_file(write(tmp_path, *rows), workers=workers, reasoning_off=ReasoningOffConfig(share=0.5))
    prepared = prepare(config, tiny_tokenizer, 200, 0, tmp_path / "cache")
    # Rows in their order, whichever process did them.
    store = Store(next(path for path in (tmp_path / "cache").iterdir() if path.is_dir()))
    assert store.rows.tolist() == [n for n in range(1, 1601) if n != 701]
    assert prepared.counts["rows"] == 1600
    assert [entry["where"] for entry in prepared.rejected] == [f"{tmp_path / 'rows.jsonl'}:701"]
    texts = [tiny_tokenizer.decode(store.tokens[a:b]) for a, b in itertools.pairwise(store.starts)]
    assert all(f"user\n{n - 1}+1?<" in text for n, text in zip(store.rows, texts, strict=True))
    # Each row's own draw, whichever process made it: the same half with either number of processes.
    off = [n for n, text in zip(store.rows, texts, strict=True) if "<think></think>" in text]
    assert (len(off), sum(off)) == (826, 664226)


def test_a_source_is_tokenised_once_for_the_same_inputs(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {"prompt": "a", "completion": "b"})

    def stores() -> int:
        return len([found for found in tmp_path.glob("cache/*") if found.is_dir()])

    def run(**more: Any) -> None:
        prepare(from_file(path, **more), tiny_tokenizer, 100, 0, tmp_path / "cache")

    run()
    written = next(tmp_path.glob("cache/*/store.json")).stat().st_mtime_ns
    run()
    run(packing="none")  # how sequences are laid out is not part of it
    assert stores() == 1
    assert next(tmp_path.glob("cache/*/store.json")).stat().st_mtime_ns == written
    run(reasoning_off=ReasoningOffConfig(share=1))
    assert stores() == 2
    write(tmp_path, GOOD)
    run()
    assert stores() == 3
    monkey = tiny_tokenizer.chat_template
    tiny_tokenizer.chat_template = monkey.replace("Tools:", "Functions:")
    run()
    tiny_tokenizer.chat_template = monkey
    assert stores() == 4


def test_a_store_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    arrays = {name: np.zeros(1) for name in ("tokens", "mask", "lengths", "losses", "rows", "hashes")}

    def fill(append: Any) -> None:
        append(Portion(arrays))
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_store(tmp_path / "store", fill)
    assert list(tmp_path.iterdir()) == []


# Bad rows.


def test_a_few_bad_rows_are_left_out_and_told(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        *[GOOD | {"n": n, "prompt": f"{n}?"} for n in range(98)],
        "{",
        {"prompt": "a", "completion": " "},
    )
    prepared = prepare(from_file(path, checks=CheckConfig(max_rejected_share=0.02)), tiny_tokenizer, 100, 0)
    assert prepared.counts["examples"] == 98
    assert prepared.rejected[0]["where"] == f"{path}:99"
    assert prepared.rejected[0]["reason"].startswith("not JSON")
    assert prepared.rejected[1] == {
        "source": str(path),
        "where": f"{path}:100",
        "reason": "turn 2 has no answer",
    }
    prepared.write_rejected(tmp_path / "rejected.jsonl")
    assert [
        json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()
    ] == prepared.rejected


def test_more_bad_rows_than_allowed_stop_with_the_first_of_them(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {"prompt": "a"}, *[GOOD] * 97)
    with pytest.raises(InputError) as caught:
        prepare(from_file(path), tiny_tokenizer, 100, 0)
    told = str(caught.value).splitlines()
    assert told[0] == f"{path}: 1 of 99 rows are bad, data.checks.max_rejected_share allows 1.0%."
    assert told[1].startswith(f"  {path}:2: has prompt, and needs `messages`;")
    assert "rejected.jsonl. Correct or remove them, or allow more." in told[2]


def test_a_template_that_cannot_show_a_row_names_both(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = write(tmp_path, GOOD)
    monkeypatch.setattr(
        tiny_tokenizer, "chat_template", "{%- for m in messages -%}{{- m.content -}}{%- endfor -%}"
    )
    with pytest.raises(InputError) as caught:
        prepare(from_file(path), tiny_tokenizer, 100, 0)
    assert f"{path}:1: the chat template of " in str(caught.value)


def test_a_token_over_a_border_is_the_fault_of_its_row(tmp_path: Path) -> None:
    from tests.test_template import spaced_tokenizer

    tokenizer = spaced_tokenizer("mistral")
    tokenizer.add_tokens(["]x"])
    template = (
        "{%- for m in messages -%}{{- '[' + m.role + ']' + m.content -}}{%- if m.role == 'assistant' -%}"
        "{{- eos_token -}}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- '[assistant]' -}}{%- endif -%}"
    )
    tokenizer.chat_template = template
    path = write(tmp_path, GOOD, {"prompt": "a", "completion": "x"}, {"prompt": "a", "completion": "y"})
    prepared = prepare(from_file(path, checks=CheckConfig(max_rejected_share=0.5)), tokenizer, 100, 0)
    assert prepared.counts["examples"] == 2
    (entry,) = prepared.rejected
    assert entry["where"] == f"{path}:2"
    assert "the token ']x' is written by two sides" in entry["reason"]


def test_equal_rows_are_learned_from_once(tiny_tokenizer: Any, tmp_path: Path) -> None:
    first = write(tmp_path, GOOD, {"prompt": "a", "completion": "b"}, GOOD)
    second = write(tmp_path, GOOD, {"prompt": "c", "completion": "d"}, name="more.jsonl")
    both = [SourceConfig(path=first), SourceConfig(path=second)]
    prepared = prepare(DataConfig(sources=both), tiny_tokenizer, 100, 0)
    assert (prepared.counts["examples"], prepared.counts["duplicates"]) == (3, 2)
    kept = prepare(DataConfig(sources=both, checks=CheckConfig(deduplicate=False)), tiny_tokenizer, 100, 0)
    assert (kept.counts["examples"], kept.counts["duplicates"]) == (5, 0)


def test_both_examples_of_a_copied_row_stay(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD | {"thinking": "easy"})
    copied = from_file(path, reasoning_off=ReasoningOffConfig(share=1, mode="copy"))
    prepared = prepare(copied, tiny_tokenizer, 100, 0)
    assert (prepared.counts["rows"], prepared.counts["examples"], prepared.counts["duplicates"]) == (1, 2, 0)


def test_rows_that_repeat_an_evaluation_set_are_left_out(tiny_tokenizer: Any, tmp_path: Path) -> None:
    question = "How many clips did she sell to all of her friends in April and May?"
    evaluation = write(tmp_path, {"question": question}, {"question": "Why not?"}, name="eval.jsonl")
    path = write(
        tmp_path,
        {
            "prompt": "Please: how many CLIPS, did she sell to all of her friends in april and may",
            "completion": "1",
        },
        {"prompt": "how many clips did she sell to all of her friends", "completion": "2"},
        {"prompt": "why not", "completion": "3"},
        {"prompt": "Why not now?", "completion": "4"},
        {"prompt": "x", "completion": question},
    )
    against = DecontaminateConfig(against=[SourceConfig(path=evaluation, columns={"prompt": "question"})])
    prepared = prepare(from_file(path, checks=CheckConfig(decontaminate=against)), tiny_tokenizer, 200, 0)
    assert (prepared.counts["contaminated"], prepared.counts["rejected"], prepared.counts["examples"]) == (
        2,
        0,
        3,
    )
    assert [entry["where"][-2:] for entry in prepared.rejected] == [":1", ":3"]
    assert prepared.rejected[0]["reason"] == (
        "shares with an evaluation set: 'how many clips did she sell to all of her friends in april'"
    )


# Examples that are too long.


def test_an_example_too_long_stops_is_rejected_or_stands_alone_and_is_never_cut(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "completion": " ".join(map(str, range(200)))},
        {"prompt": "c", "completion": "d"},
    )
    with pytest.raises(InputError) as caught:
        prepare(from_file(path), tiny_tokenizer, 64, 0)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "a sequence holds 64. Raise train.max_sequence_tokens" in str(caught.value)
    rejected = prepare(from_file(path, too_long="reject"), tiny_tokenizer, 64, 0)
    assert (rejected.counts["examples"], rejected.counts["too_long"]) == (2, 1)
    assert rejected.rejected[0]["where"] == f"{path}:2"
    for packing in ("best-fit", "concatenate", "none"):
        alone = prepare(from_file(path, too_long="alone", packing=packing), tiny_tokenizer, 64, 0)
        assert (alone.counts["examples"], alone.counts["too_long"]) == (3, 1)
        lengths = sorted(len(row["input_ids"]) for row in alone.dataset)
        assert lengths[-1] > 200
        assert lengths[-2] <= 64
    with pytest.raises(InputError, match="no example is left"):
        prepare(from_file(path, too_long="reject"), tiny_tokenizer, 3, 0)


def test_packing_modes(tiny_tokenizer: Any) -> None:
    alone = prepare(DataConfig(sources=sources(math=12), packing="none"), tiny_tokenizer, 400, 0).dataset
    assert len(alone) == 12
    assert all(row["seq_lengths"] == [len(row["input_ids"])] for row in alone)
    joined = prepare(
        DataConfig(sources=sources(math=12), packing="concatenate"), tiny_tokenizer, 400, 0
    ).dataset
    assert len(joined) < 12
    # One document: what stands earlier in the sequence is seen.
    assert all(row["seq_lengths"] == [len(row["input_ids"])] for row in joined)


# Blends.


def test_another_stage_is_one_line_of_a_blend(tiny_tokenizer: Any, tmp_path: Path) -> None:
    inner = {
        "data": {"sources": [{"environment": "math", "rows": 300}, {"environment": "chat", "rows": 100}]}
    }
    (tmp_path / "sft-1.yaml").write_text(yaml.safe_dump(inner))
    config = DataConfig(
        sources=[*sources(recall=20), SourceConfig(blend=tmp_path / "sft-1.yaml", epochs=0.2)], workers=1
    )
    prepared = prepare(config, tiny_tokenizer, 2000, 0)
    # The tool set whole; of the rest a fifth, of which a quarter is chat: five standard deviations.
    assert prepared.counts["rows"] == pytest.approx(20 + 80, abs=40)
    text = [tiny_tokenizer.decode(ids) for ids, _ in documents(prepared)]
    chat = sum("ift" in t or "present" in t or "should I buy" in t for t in text)
    assert 5 <= chat <= 40
    with pytest.raises(InputError, match=r"there is no such file. Set `blend` to the YAML of an SFT stage"):
        prepare(DataConfig(sources=[SourceConfig(blend=tmp_path / "none.yaml")]), tiny_tokenizer, 2000, 0)


def test_shares_of_tokens_through_the_whole_way(tiny_tokenizer: Any, tmp_path: Path) -> None:
    long = write(tmp_path, *[{"prompt": f"{n}?", "completion": f"long {'x' * 30} {n}"} for n in range(100)])
    short = write(
        tmp_path, *[{"prompt": f"{n}?", "completion": f"short {n}"} for n in range(100)], name="s.jsonl"
    )
    parts = [SourceConfig(path=long, share=0.75), SourceConfig(path=short, share=0.25)]
    prepared = prepare(DataConfig(sources=parts), tiny_tokenizer, 600, 0)
    found = [(len(ids), tiny_tokenizer.decode(ids)) for ids, _ in documents(prepared)]
    short_tokens = sum(length for length, text in found if "short" in text)
    assert short_tokens / prepared.counts["tokens"] == pytest.approx(0.25, abs=0.005)
    assert sum("long" in text for _, text in found) == 100  # the larger share runs out first


def blended(folder: Path, name: str, *inner: dict[str, Any], **outer: Any) -> SourceConfig:
    path = folder / name
    path.write_text(
        yaml.safe_dump(
            {
                "data": {
                    "sources": [{k: str(v) if k == "path" else v for k, v in each.items()} for each in inner]
                }
            }
        )
    )
    return SourceConfig(blend=path, **outer)


def letters(folder: Path, letter: str, count: int) -> Path:
    """Rows of one length."""
    return write(
        folder, *[{"prompt": f"{n:04}?", "completion": letter} for n in range(count)], name=f"{letter}.jsonl"
    )


def taken(prepared: Prepared, tokenizer: Any) -> dict[str, int]:
    ends = [tokenizer.decode(ids).removesuffix("<|im_end|>")[-1] for ids, _ in documents(prepared)]
    return {letter: ends.count(letter) for letter in sorted(set(ends))}


def test_a_blend_within_a_blend_keeps_its_proportions(tiny_tokenizer: Any, tmp_path: Path) -> None:
    a, b, c = (letters(tmp_path, letter, 100) for letter in "abc")
    nine_to_one = ({"path": a, "weight": 9}, {"path": b, "weight": 1})
    whole = DataConfig(sources=[blended(tmp_path, "x.yaml", *nine_to_one)])
    assert taken(prepare(whole, tiny_tokenizer, 200, 0), tiny_tokenizer) == {"a": 100, "b": 11}
    tenth = DataConfig(sources=[blended(tmp_path, "x.yaml", *nine_to_one, epochs=0.1), SourceConfig(path=c)])
    counts = taken(prepare(tenth, tiny_tokenizer, 200, 0), tiny_tokenizer)
    assert counts["c"] == 100
    assert counts["a"] + counts.get("b", 0) == 11  # of 111
    shared = DataConfig(sources=[SourceConfig(path=c), blended(tmp_path, "x.yaml", *nine_to_one, share=0.2)])
    counts = taken(prepare(shared, tiny_tokenizer, 200, 0), tiny_tokenizer)
    # Which rows are taken depends on where the files lie: of a tenth there may be none.
    assert counts["a"] + counts.get("b", 0) == 25  # a fifth of 125


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ([{"share": 0.9}, {"share": 0.9}], "the shares add up to 1.8"),
        ([{"share": 1.0}, {}], "the shares leave nothing"),
        ([{"epoch": 3}], "Extra inputs are not permitted"),
    ],
)
def test_a_blend_that_cannot_be_is_told_with_its_file(
    tiny_tokenizer: Any, tmp_path: Path, inner: list[dict[str, Any]], said: str
) -> None:
    source = blended(tmp_path, "x.yaml", *({"environment": "math", "rows": 2, **each} for each in inner))
    with pytest.raises(InputError) as caught:
        prepare(DataConfig(sources=[source]), tiny_tokenizer, 200, 0)
    assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}: data")
    assert said in str(caught.value)


def test_a_change_inside_a_blended_stage_is_a_change(tmp_path: Path) -> None:
    prints = []
    for epochs in (1, 2):
        source = blended(tmp_path, "x.yaml", {"environment": "math", "rows": 2, "epochs": epochs})
        prints.append(DataConfig(sources=[source]).fingerprint())
    assert prints[0] != prints[1]


def test_a_row_of_two_sources_stays_in_the_one_that_is_taken_whole(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n}?", "completion": "x"} for n in range(300)]
    web, tools = write(tmp_path, *rows, name="web.jsonl"), write(tmp_path, *rows[:50], name="tools.jsonl")
    config = DataConfig(sources=[SourceConfig(path=web, share=0.3), SourceConfig(path=tools)])
    found = documents(prepare(config, tiny_tokenizer, 200, 0))
    texts = [tiny_tokenizer.decode(ids) for ids, _ in found]
    for n in range(50):
        assert any(f"user\n{n}?" in text for text in texts), n


def test_a_column_that_no_row_has(tiny_tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "a", "completion": "b"}, {"question": "c", "completion": "d"})
    columns = {"prompt": "question", "thinking": "thinkk"}
    with pytest.raises(InputError, match="no row has the column 'thinkk'. Correct `columns`."):
        prepare(DataConfig(sources=[SourceConfig(path=path, columns=columns)]), tiny_tokenizer, 200, 0)


def test_a_source_that_changes_while_it_is_read(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from alloy.data import examples

    path = write(tmp_path, GOOD)
    whole = examples.chunks

    def chunks(*given: Any) -> Any:
        yield from whole(*given)
        path.write_text(json.dumps(GOOD | {"prompt": "other"}) + "\n")

    monkeypatch.setattr(examples, "chunks", chunks)
    with pytest.raises(InputError, match="it changed while it was read"):
        prepare(from_file(path), tiny_tokenizer, 200, 0, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/store.json"))


# Thinking budgets in the data.


def test_a_trace_is_cut_to_one_of_the_budgets_and_the_template_is_told(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    row = {"prompt": "a", "completion": "whole answer", "thinking": "one two three four five six seven"}
    path = write(tmp_path, *[row | {"prompt": f"{n}"} for n in range(20)])
    truncate = TruncateConfig(share=1, budgets=[0, 2], tell=True)
    with pytest.raises(InputError, match="takes no thinking budget"):
        prepare(from_file(path, truncate=truncate), tiny_tokenizer, 100, 0)
    head, rest = tiny_tokenizer.chat_template.split("{%- set first = messages[0] -%}")
    told = "{{- 'budget ' ~ reasoning_budget -}}{%- set first = messages[0] -%}"
    monkeypatch.setattr(tiny_tokenizer, "chat_template", head + told + rest)
    prepared = prepare(from_file(path, truncate=truncate), tiny_tokenizer, 100, 0)
    assert prepared.counts["truncated"] == 20
    cut = tiny_tokenizer.decode(tiny_tokenizer.encode(row["thinking"], add_special_tokens=False)[:2])
    texts = {tiny_tokenizer.decode(ids) for ids, _ in documents(prepared)}
    assert {text.split("<|im_start|>")[0] for text in texts} == {"budget 0", "budget 2"}
    for text in texts:
        thought = cut + "\n" if text.startswith("budget 2") else ""
        assert text.endswith(f"assistant\n<think>\n{thought}</think>\nwhole answer<|im_end|>")


# Ten thousand rows of anything: each becomes examples, or is told what is wrong.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.text(max_size=6),
    st.sampled_from(["user", "assistant", "on", "[]", "{}", "<think>"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALL = {"id": "x", "function": {"name": "add", "arguments": "{}"}}
TURN = st.dictionaries(
    st.sampled_from(
        ["role", "from", "content", "value", "tool_calls", "thinking", "reasoning_content", "tool_call_id"]
    ),
    st.one_of(ANYTHING, st.just([CALL])),
    max_size=5,
) | st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text(max_size=8)},
    optional={"thinking": st.text(max_size=4), "tool_calls": st.just([CALL])},
)
NAMES = [
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "history",
    "prompt",
    "completion",
    "thinking",
]
ROW = st.dictionaries(
    st.sampled_from([*NAMES, "tools", "metadata", "reasoning", "system"]),
    st.one_of(ANYTHING, st.lists(TURN, max_size=4), st.just([{"name": "add"}])),
    max_size=4,
)


@settings(max_examples=4_000)
@given(st.one_of(ROW.map(lambda row: json.dumps(row).encode()), st.binary(max_size=30)))
def test_no_row_is_a_crash(tiny_tokenizer: Any, line: bytes) -> None:
    source = SourceConfig(path=Path("rows.jsonl"))
    work = Work(
        Leaf(source),
        DataConfig(sources=[source], reasoning_off=ReasoningOffConfig(share=0.5)),
        tiny_tokenizer,
        0,
    )
    portion = work.portion(Chunk([1], [line]))
    assert portion.counts["rows"] == (line != b"")
    if portion.counts["rejected"]:
        (entry,) = portion.rejected
        assert entry["where"] == "rows.jsonl:1"
        assert entry["reason"].strip()
        assert "cannot be read" not in entry["reason"]  # every kind of bad row has words of its own
    else:
        assert len(portion.arrays["lengths"]) >= portion.counts["rows"]
        assert portion.arrays["losses"].min(initial=1) > 0


# What the project makes itself is good data.


# These have no data of their own.
@pytest.mark.parametrize(
    "name", sorted(set(ENVIRONMENTS) - {"benchmark", "instructed", "problems", "prompts", "trl", "workbench"})
)
def test_every_demonstration_passes_the_checks(name: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    source = SourceConfig(environment=name, rows=40)
    store = open_store(Leaf(source), DataConfig(sources=[source]), tiny_tokenizer, 3, tmp_path)
    assert store.rejected() == []
    assert len(store) >= 40
