"""What of a rollout's settings DPO has no use for, it does not take."""

from pathlib import Path

import pytest

from alloy.config import load
from alloy.errors import InputError
from dpo import CONFIG as DPO
from grpo import CONFIG as GRPO


@pytest.mark.parametrize("setting", ["refills=0", "updates=2", "passes=2", "gap_warning=0.5"])
def test_settings_of_updates_on_rollouts_are_refused(setting: str) -> None:
    """A default that is written out is refused, too: it would be read as if it did something."""
    name, _, value = setting.partition("=")
    override = [f"rollout.{setting}"]
    with pytest.raises(InputError, match=rf"unknown key 'rollout\.{name}'\. (Known here: |Did you mean )"):
        load(DPO, Path("configs/micro/dpo.yaml"), ["parent=x", *override])
    rollout = load(GRPO, Path("configs/micro/grpo.yaml"), ["parent=x", *override]).rollout
    assert getattr(rollout, name) == float(value)
