"""Which model a person means: a run folder, a model folder, or a name on the Hub."""

from pathlib import Path

from alloy.artifact import check_weights
from alloy.errors import InputError


def find_model(name: str, weights: bool = True) -> tuple[str, str]:
    """Where a model is, for transformers and vLLM, and what it is called.

    Args:
        weights: whether they are read; of a served model the tokenizer alone is.
    Raises:
        InputError: a folder without a model, with pickled weights only, or an adapter.
    """
    path = Path(name)
    if not path.exists():
        if path.is_absolute() or name.startswith(".") or name.count("/") > 1:
            raise InputError(f"{name}: there is no such folder. Name a run folder or a model folder.")
        return name, name
    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    if (folder / "config.json").is_file():
        if weights:
            check_weights(folder)
        named = folder.resolve()
        return str(folder), named.parent.name if named.name == "model" else named.name
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{name} is an adapter. Merge it into its base first (python -m merge).")
    what = "no config.json, and no model/config.json" if path.is_dir() else "it is no folder"
    raise InputError(f"{name}: {what}. Name a run folder of a stage that has finished, or a model folder.")
