"""`python -m alloy report`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alloy.errors import InputError
from alloy.report.command import run


def test_the_command_says_where_the_report_lies(run_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(run_root)]) == 0
    path = run_root / "report.html"
    told = f"report: {path} ({path.stat().st_size / 1e6:.1f} MB). Open it in a browser.\n"
    assert capsys.readouterr().out == told


def test_the_command_answers_in_json(run_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", str(run_root)]) == 0
    path = run_root / "report.html"
    assert json.loads(capsys.readouterr().out) == {"report": str(path), "bytes": path.stat().st_size}


def test_a_wrong_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        run([str(tmp_path / "gone")])
    with pytest.raises(InputError, match="usage: python -m alloy report"):
        run([])


def test_a_report_imports_no_torch() -> None:
    code = "import sys, alloy.report.command, alloy.evaluate.statistics; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
