"""Weights in parts, and models that are whole beside them."""

import json
from pathlib import Path

import pytest

from tests.distributed.launching import launch

pytestmark = pytest.mark.distributed


def test_weights_are_divided_as_they_are_read(tiny_model_folder: Path, tmp_path: Path) -> None:
    launch("cpu-zero3", "tests.distributed.parts", str(tiny_model_folder), str(tmp_path))
    main, other = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in (0, 1))
    # Two layers of 32 with a vocabulary of 600, the head tied: 600 x 32 + 2 x (4 x 32 x 32 + 3 x 32 x 64 + 64) + 32.
    assert main["parameters"] == 600 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 64) + 32
    for found in (main, other):
        assert found["held"] == found["again"] == 0
        assert found["parts"] == found["parameters"] / 2
        # A reward model beside the trainer.
        assert found["whole"] == found["parameters"]
        assert found["gathered"] == [0, 10, 20, 30, 40]
        assert found["same"]
        assert found["doubled"]
    assert (main["trained"] > 0, other["trained"]) == (True, 0)
