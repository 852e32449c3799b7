"""The reward model stage for real, on a causal and on an encoder checkpoint of a few thousand weights."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import RewardConfig

import rlhf.reward_model
from alloy.artifact import Lineage, Parent, read_artifact
from alloy.errors import InputError
from alloy.judges.reward_model import RewardModel, encode_answer
from alloy.policy import load_tokenizer, save_policy
from rlhf.train_reward_model import load_classifier

WORDS = ("good", "bad", "tea", "user", "assistant", "system", "is", "not", "a", "the", ":", ".")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with a vocabulary of words, as the checkpoints of sentence encoders are."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(
        BertConfig(vocab_size=5 + len(WORDS), max_position_embeddings=40, pad_token_id=0, **shape)
    )
    tokenizer = BertTokenizerFast(str(vocabulary), model_max_length=40)
    save_policy(model, tokenizer, folder / "model")
    return folder / "model"


def pairs(folder: Path, count: int = 60, **more: Any) -> Path:
    path = folder / "pairs.jsonl"
    rows = [{"prompt": f"tea {'is ' * (n % 7)}a {n}", "chosen": "good", "rejected": "bad", **more} for n in range(count)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(parent: Path, output: Path, data: dict[str, Any], **changes: Any) -> Any:
    values: dict[str, Any] = {
        "output": str(output),
        "parent": str(parent),
        "data": {"held_out": 20, **data},
        "optim": {"learning_rate": 5.0e-3, "scheduler": "constant", "warmup_ratio": 0.0},
        "train": {"max_steps": 12, "per_device_batch_size": 8, "max_sequence_tokens": 40},
        "logging": {"every_steps": 1, "tensorboard": False},
        **changes,
    }
    return rlhf.reward_model.CONFIG.model_validate(values)


def first_loss(folder: Path) -> float:
    return float(json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss"])


def test_an_encoder_learns_a_word(encoder_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r" / "reward-model"
    artifact = rlhf.reward_model.run(config(encoder_folder, out, {"path": pairs(tmp_path)}))
    assert artifact.kind == "reward-model"
    assert artifact.metrics["accuracy"] == 1.0
    assert artifact.metrics["n"] == 20
    assert artifact.metrics["data/pairs"] == 40
    # The head starts at zero: nothing is preferred before the first update.
    assert first_loss(out) == pytest.approx(math.log(2), abs=1e-4)
    told = read_artifact(out).notes["held_out"]
    assert told["accuracy"]["value"] == 1.0
    assert told["calibration"][0]["n"] == 20
    assert told["prefers_longer"] == {}
    model = RewardModel(out / "model")
    good, bad = model.score([[{"role": "user", "content": "tea"}]] * 2, ["good", "bad"])
    assert good is not None
    assert bad is not None
    assert good > bad + 0.1


def test_margins_stand_in_the_loss_by_their_weight(encoder_folder: Path, tmp_path: Path) -> None:
    path = pairs(tmp_path, margin=2.0)
    # The differences are 0 at first: the loss is log(1 + exp(weight x 2)).
    for weight in (1.0, 0.5, 0.0):
        out = tmp_path / "r" / f"weight-{weight}"
        data = {"path": path, "margin_weight": weight}
        train = {"max_steps": 1, "per_device_batch_size": 4, "max_sequence_tokens": 40}
        artifact = rlhf.reward_model.run(config(encoder_folder, out, data, train=train))
        assert first_loss(out) == pytest.approx(math.log1p(math.exp(2 * weight)), abs=1e-3)
        assert [row["label"] for row in artifact.notes["held_out"]["by_margin"]] == ["2"]


def test_an_encoder_reads_turns_between_its_own_marks(encoder_folder: Path) -> None:
    tokenizer = load_tokenizer(encoder_folder)
    prompt = [{"role": "system", "content": "the"}, {"role": "user", "content": "tea"}]
    ids = encode_answer(tokenizer, prompt, "good")
    assert tokenizer.convert_ids_to_tokens(ids) == (
        ["[CLS]", "system", ":", "the", "[SEP]", "user", ":", "tea", "[SEP]", "assistant", ":", "good", "[SEP]"]
    )  # fmt: skip


def test_a_causal_checkpoint_learns_from_transcripts(tiny_model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"chosen": f"\n\nHuman: gift {n}?\n\nAssistant: Happy to help.", "rejected": f"\n\nHuman: gift {n}?\n\nAssistant: Buy it now!"}
        for n in range(60)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "r" / "reward-model"
    train = {"max_steps": 15, "per_device_batch_size": 8, "max_sequence_tokens": 128}
    artifact = rlhf.reward_model.run(config(tiny_model_folder, out, {"path": path}, train=train))
    assert artifact.metrics["accuracy"] == 1.0
    # "Happy to help." and "Buy it now!" have three words each.
    assert [row["label"] for row in artifact.notes["held_out"]["by_length"]] == ["equal"]


def test_what_does_not_fit_stops_the_run_or_is_counted(
    encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs(tmp_path)
    with path.open("a") as stream:
        stream.writelines(
            json.dumps({"prompt": f"{n} {'tea ' * 50}", "chosen": "good", "rejected": "bad"}) + "\n"
            for n in range(4)
        )
    out = tmp_path / "r" / "reward-model"
    told = r"(\d) of (\d+) (held-out )?pairs are longer than train.max_sequence_tokens = 40; the longest has 59. Raise it, or set data.too_long=reject"
    with pytest.raises(InputError, match=told):
        rlhf.reward_model.run(config(encoder_folder, out, {"path": path}))
    assert not out.exists()
    artifact = rlhf.reward_model.run(config(encoder_folder, out, {"path": path, "too_long": "reject"}))
    counts = {key: value for key, value in artifact.metrics.items() if key.startswith("data/")}
    assert counts["data/too_long"] + counts["data/held_out_too_long"] == 4
    assert counts["data/pairs"] + counts["data/held_out"] == 60
    assert counts["data/rows"] == 64
    assert "are longer than train.max_sequence_tokens = 40 and left out" in capsys.readouterr().out


def test_more_tokens_than_positions_are_refused(encoder_folder: Path, tmp_path: Path) -> None:
    train = {"max_steps": 1, "max_sequence_tokens": 41}
    with pytest.raises(InputError, match="max_sequence_tokens = 41: .* reads 40 at most. Lower it to 40"):
        rlhf.reward_model.run(
            config(encoder_folder, tmp_path / "out", {"path": pairs(tmp_path)}, train=train)
        )
    with pytest.raises(InputError, match="data: .*nowhere.jsonl: there is no such file"):
        rlhf.reward_model.run(config(encoder_folder, tmp_path / "out", {"path": "nowhere.jsonl"}))
    assert not (tmp_path / "out").exists()


def test_a_head_that_the_checkpoint_has_is_kept(encoder_folder: Path, tmp_path: Path) -> None:
    lineage = Lineage(path="x", fingerprint="x")
    arguments = RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    fresh = load_classifier(Parent(path=encoder_folder, lineage=lineage), arguments)
    assert not fresh.classifier.weight.any()
    with torch.no_grad():
        fresh.classifier.weight.fill_(0.5)
    save_policy(fresh, load_tokenizer(encoder_folder), tmp_path / "trained")
    again = load_classifier(Parent(path=tmp_path / "trained", lineage=lineage), arguments)
    assert again.classifier.weight.unique().tolist() == [0.5]


def test_the_scores_do_not_depend_on_the_company(encoder_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r" / "reward-model"
    rlhf.reward_model.run(config(encoder_folder, out, {"path": pairs(tmp_path)}))
    model = RewardModel(out / "model")
    prompts = [[{"role": "user", "content": "tea " * n}] for n in (1, 9, 3)]
    answers = ["good", "not bad", "the"]
    together = model.score(prompts, answers)
    alone = [model.score([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3


def test_pairs_of_like_length_are_padded_together(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer.reward_trainer import DataCollatorForPreference

    masks: list[torch.Tensor] = []
    collate = DataCollatorForPreference.torch_call

    def watched(self: Any, examples: Any) -> Any:
        batch = collate(self, examples)
        masks.append(batch["attention_mask"])
        return batch

    monkeypatch.setattr(DataCollatorForPreference, "torch_call", watched)
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"{'is ' * (28 * (n % 2))}{n}", "chosen": "good", "rejected": "bad"} for n in range(148)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"train": {"max_steps": 16, "per_device_batch_size": 8, "max_sequence_tokens": 40}}
    rlhf.reward_model.run(
        config(encoder_folder, tmp_path / "r" / "a", {"path": str(path), "held_out": 20}, **changes)
    )
    # Half of the pairs have some 10 tokens, half some 38: mixed, a third of every batch would be padding.
    read, held = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    assert read > 0.9 * held
    assert [len(mask) for mask in masks[:16]] == [16] * 16
