"""The recipe that a run belongs to: which stages it has, and what each needs."""

from pathlib import Path

from alloy.errors import InputError
from alloy.pipeline import load_recipe
from alloy.report.record import Planned


def planned_of(root: Path, recipe: str | None, notes: list[str]) -> dict[str, Planned]:
    """A recipe's stages in order; empty where no recipe is known.

    Args:
        root: the run folder, which is named after its recipe.
        recipe: a name or a folder, where the run is named otherwise.
        notes: where it is said that a recipe of this name is there and cannot be read.
    Raises:
        InputError: the recipe that was asked for is not there, or is wrong.
    """
    name = root.resolve().name
    if recipe is None and not (Path("configs") / name / "pipeline.yaml").is_file():
        return {}
    try:
        stages = load_recipe(recipe or f"configs/{name}").stages
    except InputError as error:
        if recipe is not None:
            raise
        notes.append(f"The recipe could not be read, so that stages may be missing unseen: {error}")
        return {}
    return {
        name: Planned(entry.stages(), entry.package == "alloy.evaluate") for name, entry in stages.items()
    }
