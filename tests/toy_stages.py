"""Stage packages in miniature, for what the pipeline does around a stage: real files, no model."""

from pathlib import Path
from textwrap import dedent

import pytest

PACKAGE = """
    import json
    from typing import ClassVar
    from pathlib import Path
    from alloy.config import StageConfig
    from alloy.errors import InputError, StageError
    from alloy.stage import execute

    class ToyConfig(StageConfig):
        PARENTS: ClassVar = {PARENTS}
        parent: str | None = None
        teacher: str | None = None
        models: dict[str, str] = {{}}
        model: str | None = {MODEL!r}
        steps: int = 1
        fail: str | None = None

    CONFIG = ToyConfig

    def run(config, force=False):
        return execute(config, __name__, force)

    def train(config, run, parents):
        if config.fail == "input":
            raise InputError("the data is wrong")
        run.begin()
        if config.fail == "stage":
            raise StageError("the loss is not a number")
        if config.fail == "interrupt":
            raise KeyboardInterrupt
        if config.fail == "disk":
            raise OSError(28, "No space left on device", "model.safetensors")
        with Path("order.txt").open("a") as stream:
            stream.write(run.stage + "\\n")
        (run.folder / "model").mkdir(exist_ok=True)
        weights = [config.steps, *(parent.lineage.fingerprint for parent in parents.values())]
        (run.folder / "model" / "model.safetensors").write_text(json.dumps(weights))
        return run.finish("policy", {{"steps": config.steps}})
"""

KINDS = {
    "toy_base": ("{}", "x"),
    "toy_stage": ('{"parent": ("policy",)}', None),
    "toy_blend": ('{"parent": ("policy",), "teacher": ("policy",)}', None),
    "toy_measure": ('{"models": ("policy",)}', None),
}


def write_packages(folder: Path) -> None:
    for name, (parents, model) in KINDS.items():
        (folder / f"{name}.py").write_text(dedent(PACKAGE).format(PARENTS=parents, MODEL=model))


def write_recipe(folder: Path, pipeline: str, **configs: str) -> Path:
    """configs/<name>/ with one YAML a stage; a keyword `a_1` is stage `a-1`."""
    recipe = folder / "configs" / "toy"
    recipe.mkdir(parents=True, exist_ok=True)
    (recipe / "pipeline.yaml").write_text(dedent(pipeline))
    for stage, text in configs.items():
        (recipe / f"{stage.replace('_', '-')}.yaml").write_text(text)
    return recipe


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, in which the toy packages can be imported."""
    write_packages(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path
