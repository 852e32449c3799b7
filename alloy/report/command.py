"""`python -m alloy report RUN_FOLDER`."""

from pathlib import Path

from alloy.command import Parser, print_json
from alloy.report.page import build


def run(arguments: list[str]) -> int:
    """Build the report of a run and say where it lies."""
    parser = Parser(
        prog="python -m alloy report", description="Write one HTML file of a run; it opens from disk."
    )
    parser.add_argument("run", type=Path, help="a recipe's run folder, e.g. runs/demo")
    parser.add_argument(
        "--recipe",
        help="a name under configs/ or a folder: its stages without a run folder are shown as missing "
        "(default: the recipe with the run folder's name, where there is one)",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    given = parser.parse_args(arguments)
    path = build(given.run, given.recipe)
    if given.json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    return 0
