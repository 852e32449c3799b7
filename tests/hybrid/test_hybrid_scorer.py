"""A reward model of an architecture that transformers has no scoring class of: a plain folder all the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, WhisperConfig

from alloy.errors import InputError
from alloy.judges.reward_model import RewardModel, encode_answer
from alloy.plan.architectures import shape_of
from alloy.policy import load_model, save_policy
from alloy.scorer import AutoScorer, scorer_class


@pytest.fixture(scope="module")
def scorer_folder(hybrid_folder: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(hybrid_folder, auto=AutoScorer, num_labels=1)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.score.weight)
    folder = tmp_path_factory.mktemp("scorer") / "model"
    save_policy(model, tiny_tokenizer, folder)
    return folder


def names(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        return set(tensors.keys())


def test_the_backbone_is_the_policy_s_and_the_head_reads_the_last_token(
    hybrid: Any, scorer_folder: Path
) -> None:
    scorer = load_model(scorer_folder, auto=AutoScorer).eval()
    ids = torch.arange(30, 60)[None]
    with torch.no_grad():
        hidden = hybrid.model(ids, use_cache=False).last_hidden_state[0, -1]
        score = scorer(ids).logits
    torch.testing.assert_close(score[0, 0], hidden @ scorer.score.weight[0])
    assert abs(float(score)) > 0.01


def test_its_folder_is_plain_and_loads_and_saves_again(
    scorer_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = json.loads((scorer_folder / "config.json").read_text())
    assert config["architectures"] == ["NemotronHForSequenceClassification"]
    assert "auto_map" not in config
    assert not list(scorer_folder.glob("*.py"))
    first = load_model(scorer_folder, auto=AutoScorer)
    save_policy(first, tiny_tokenizer, tmp_path / "again")
    # What is merged or goes on from it finds the names of before.
    assert names(tmp_path / "again") == names(scorer_folder)
    second = load_model(tmp_path / "again", auto=AutoScorer).state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second[name]), name


def test_padding_on_either_side_leaves_a_score_alone(scorer_folder: Path) -> None:
    scorer = load_model(scorer_folder, auto=AutoScorer).eval()
    pad = scorer.config.pad_token_id
    ids = torch.arange(30, 50)
    fill, ones, zeros = torch.full((25,), pad), torch.ones(20), torch.zeros(25)
    with torch.no_grad():
        alone = float(scorer(ids[None]).logits)
        right = scorer(torch.cat([ids, fill])[None], attention_mask=torch.cat([ones, zeros])[None].long())
        left = scorer(torch.cat([fill, ids])[None], attention_mask=torch.cat([zeros, ones])[None].long())
    assert [float(right.logits), float(left.logits)] == pytest.approx([alone, alone], abs=1e-4)


def test_a_batch_scores_as_its_answers_alone(scorer_folder: Path) -> None:
    judge = RewardModel(scorer_folder)
    prompts = [[{"role": "user", "content": "How many?"}]] * 3
    answers = ["Two.", "There are two of them, as far as anybody here can tell, and no more.", "2"]
    batched = judge.score(prompts, answers)
    alone = [judge.score([prompt], [answer])[0] for prompt, answer in zip(prompts, answers, strict=True)]
    assert batched == pytest.approx(alone, abs=1e-3)
    assert len(set(batched)) == 3
    ids = encode_answer(judge.tokenizer, prompts[0], answers[0])
    with torch.no_grad():
        assert float(judge.model(torch.tensor([ids])).logits) == pytest.approx(alone[0], abs=1e-3)


def test_code_beside_the_weights_is_not_run(scorer_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in scorer_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "mine.C", "AutoModelForSequenceClassification": "mine.M"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    assert load_model(folder, auto=AutoScorer).config.num_labels == 1
    assert not (tmp_path / "run").exists()


def test_the_planner_counts_its_parameters(scorer_folder: Path) -> None:
    scorer = load_model(scorer_folder, auto=AutoScorer)
    config = scorer.config.to_dict()
    counted = sum(parameter.numel() for parameter in scorer.parameters())
    assert shape_of({**config, "architectures": None}, "x").as_scorer().parameters == counted


def test_an_architecture_of_transformers_own_is_left_to_it(tiny_model_folder: Path) -> None:
    from transformers import LlamaConfig

    assert scorer_class(LlamaConfig, "x") is AutoModelForSequenceClassification
    assert type(load_model(tiny_model_folder, auto=AutoScorer)).__name__ == "LlamaForSequenceClassification"


def test_no_language_model_no_scorer() -> None:
    class NoModel(WhisperConfig):
        model_type = "none_of_it"

    with pytest.raises(
        InputError, match="m: none_of_it has neither a model with a score nor a language model"
    ):
        scorer_class(NoModel, "m")
