import json
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merge_models import WriteModel, files, load, weights
from rounding import wrongly_rounded
from safetensors.torch import load_file, save_file

from merge.checkpoint import open_checkpoint
from merge.interpolate import interpolate
from merge.linear import LinearMixture, merge_checkpoints

NAMES = list(weights())
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def test_every_tensor_is_interpolated(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = weights(1), weights(2)
    report = merge_checkpoints(write_model("a", a), write_model("b", b), 0.3, tmp_path / "out")
    result = load(tmp_path / "out")
    assert sorted(result) == sorted(NAMES)
    for name in NAMES:
        assert torch.equal(result[name], interpolate(a[name], b[name], 0.3))
    assert report.tensors == 4
    assert report.bytes == 2 * (20 + 32 + 4 + 20)
    assert report.shards == {
        "model.safetensors": blake3(files(tmp_path / "out")["model.safetensors"]).hexdigest()
    }
    assert not (tmp_path / "out.partial").exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_layouts_dtypes_and_shapes_are_free(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("layouts")
    names = [f"layer.{i}.weight" for i in range(data.draw(st.integers(1, 6)))]
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    shapes = {name: data.draw(st.lists(st.integers(0, 5), max_size=3)) for name in names}
    dtypes = {name: data.draw(st.sampled_from(DTYPES)) for name in names}
    parents = []
    for role in ("reasoning", "chat"):
        tensors = {n: torch.randn(shapes[n], generator=rng).to(dtypes[n]) for n in names}
        folder = root / role
        folder.mkdir()
        where = {n: f"part-{data.draw(st.integers(1, 3))}.safetensors" for n in names}
        for file in set(where.values()):
            save_file({n: tensors[n] for n in names if where[n] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        parents.append((folder, tensors))
    (reasoning, a), (chat, b) = parents
    alpha = data.draw(st.floats(0, 1))
    limit = data.draw(st.integers(1, 500))
    report = merge_checkpoints(reasoning, chat, alpha, root / "out", max_shard_bytes=limit)
    result = load(root / "out")
    assert sorted(result) == sorted(names)
    for name in names:
        assert result[name].dtype == dtypes[name]
        assert list(result[name].shape) == shapes[name]
        flat = [t[name].reshape(-1) for t in (result, a, b)]
        assert wrongly_rounded(*flat, alpha) == []
    for file, known in report.shards.items():
        assert blake3((root / "out" / file).read_bytes()).hexdigest() == known
    if len(report.shards) > 1:
        index = json.loads((root / "out" / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == report.bytes
        assert all(name in load_file(root / "out" / file) for name, file in index["weight_map"].items())


@pytest.mark.parametrize(("alpha", "parent"), [(0.0, "a"), (1.0, "b")])
def test_the_ends_are_a_parent_bit_for_bit(
    write_model: WriteModel, tmp_path: Path, alpha: float, parent: str
) -> None:
    folders = {"a": write_model("a", weights(1)), "b": write_model("b", weights(2))}
    merge_checkpoints(folders["a"], folders["b"], alpha, tmp_path / "out")
    result, expected = load(tmp_path / "out"), load(folders[parent])
    assert all(
        torch.equal(result[name].view(torch.int16), expected[name].view(torch.int16)) for name in NAMES
    )


def test_sharding_may_differ_between_the_parents(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = weights(1), weights(2)
    one = write_model("one", a, shards=[NAMES[:1], NAMES[1:]])
    two = write_model("two", b, shards=[NAMES[2:], NAMES[1:2], NAMES[:1]])
    merge_checkpoints(one, two, 0.7, tmp_path / "out", max_shard_bytes=64)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]
    result = load(tmp_path / "out")
    assert all(torch.equal(result[name], interpolate(a[name], b[name], 0.7)) for name in NAMES)


def without_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def test_a_tied_head_meets_an_untied_one(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = without_head(weights(1)), weights(2)
    tied = write_model("tied", a, config={"tie_word_embeddings": True})
    merge_checkpoints(tied, write_model("untied", b), 0.25, tmp_path / "out")
    result = load(tmp_path / "out")
    embedding = a["model.embed_tokens.weight"]
    assert torch.equal(result["lm_head.weight"], interpolate(embedding, b["lm_head.weight"], 0.25))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_two_tied_heads_stay_tied(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = without_head(weights(1)), weights(2)
    b["lm_head.weight"] = b["model.embed_tokens.weight"].clone()  # Tied, and stored all the same.
    tied = {"tie_word_embeddings": True}
    merge_checkpoints(
        write_model("a", a, config=tied), write_model("b", b, config=tied), 0.25, tmp_path / "out"
    )
    assert "lm_head.weight" not in load(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True


def test_equal_integers_are_taken_over(write_model: WriteModel, tmp_path: Path) -> None:
    ids = {"model.position_ids": torch.arange(7), "model.mask": torch.tensor([True, False, True])}
    a, b = write_model("a", {**weights(1), **ids}), write_model("b", {**weights(2), **ids})
    merge_checkpoints(a, b, 0.5, tmp_path / "out")
    result = load(tmp_path / "out")
    assert all(torch.equal(result[name], tensor) for name, tensor in ids.items())


def test_a_dtype_can_be_chosen(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = weights(1, torch.float32), weights(2, torch.bfloat16)
    parents = write_model("a", a), write_model("b", b)
    merge_checkpoints(*parents, 0.3, tmp_path / "out", dtype="bfloat16")
    result = load(tmp_path / "out")
    for name in NAMES:
        assert result[name].dtype == torch.bfloat16
        assert wrongly_rounded(*(t[name].reshape(-1) for t in (result, a, b)), 0.3) == []
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_rest_comes_from_the_donor(write_model: WriteModel, tmp_path: Path) -> None:
    a = write_model("a", template="of a", generation={"temperature": 0.6})
    b = write_model("b", template="of b", generation={"temperature": 1.0})
    report = merge_checkpoints(a, b, 0.5, tmp_path / "out", donor="chat")
    out = files(tmp_path / "out")
    assert out["chat_template.jinja"] == b"of b"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert out[name] == (b / name).read_bytes()
    assert [note for note in report.notes if "template" in note] == [
        "The chat templates differ: from line 1 on, 'a' in reasoning and 'b' in chat; chat's is kept."
    ]


def test_the_card_names_the_parents_and_the_files(write_model: WriteModel, tmp_path: Path) -> None:
    a, b = write_model("a"), write_model("b")
    parents = open_checkpoint(a, "reasoning"), open_checkpoint(b, "chat")
    report = LinearMixture(*parents).write(0.3, tmp_path / "out", table="| alpha | product |")
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| reasoning | 0.7 | {a} | `{report.parents['reasoning']}` |" in card
    assert f"| chat | 0.3 | {b} | `{report.parents['chat']}` |" in card
    assert "**alpha = 0.3**" in card
    assert "| alpha | product |" in card
    assert f"| model.safetensors | `{report.shards['model.safetensors']}` |" in card
