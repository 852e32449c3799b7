import pytest
import torch

from alloy.policy import own_device


def test_a_process_has_the_gpu_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device() == "cuda:3"
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device() == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == "cpu"
