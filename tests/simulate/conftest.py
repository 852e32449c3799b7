"""A scripted endpoint, and the command against it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_endpoint import TOOLS, Scripted, serving


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with serving(Scripted()) as server:
        yield server


@pytest.fixture
def write_config(scripted: Scripted, tmp_path: Path) -> Callable[..., Path]:
    """A config over the scripted endpoint; keys replace its own, and None removes one."""
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))

    def write(**changes: Any) -> Path:
        values = {
            "output": str(tmp_path / "out"),
            "conversations": 6,
            "concurrency": 3,
            "tools": str(tmp_path / "tools.json"),
            "endpoint": {"base_url": scripted.url, "model": scripted.model, "timeout_seconds": 20},
            "duplicate_similarity": None,
        } | changes
        path = tmp_path / "simulate.yaml"
        removed = [key for key, value in changes.items() if value is None and key != "duplicate_similarity"]
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if key not in removed}))
        return path

    return write
