"""The leaderboard's own checker, for tests only.

`bfcl_eval.eval_checker.ast_eval.ast_checker` needs one thing that cannot be imported without the clients of
many vendors: the table of the models that were measured, in which it looks up whether a model writes "_" for
"." in names. A table with one model that does not stands in its place.
"""

import importlib
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

MODEL = "plain"
Check = Callable[[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], str], bool]


@cache
def checker() -> Check:
    """(functions, calls as {name: arguments}, possible answers, category) to whether the calls are right.

    What was imported for it is forgotten again, so that nothing else meets the table of one model.
    """
    models = ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = {MODEL: SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
    before = set(sys.modules)
    sys.modules[models.__name__] = models
    try:
        found = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
        python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "bfcl_eval":
                del sys.modules[name]

    def check(
        functions: list[dict[str, Any]],
        calls: list[dict[str, Any]],
        possible: list[dict[str, Any]],
        category: str,
    ) -> bool:
        return bool(found.ast_checker(functions, calls, possible, python, category, MODEL)["valid"])

    return check
