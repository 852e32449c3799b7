"""The command line: `python -m alloy COMMAND ...`."""

import importlib
import sys

from alloy.command import main
from alloy.errors import InputError

COMMANDS = {
    "run": ("alloy.commands", "go through a recipe's stages: run RECIPE [--stage NAME] [--force]"),
    "status": ("alloy.commands", "what is finished, stale, missing: status RECIPE"),
    "evaluate": ("alloy.evaluate.command", "measure a model: evaluate MODEL --suites math,tools --out DIR"),
    "verify": ("alloy.verify.command", "judge completions: verify VERIFIER < in.jsonl > out.jsonl"),
    "plan": ("alloy.plan.command", "what a recipe would take, before it runs: plan RECIPE [--devices 8]"),
    "simulate": ("alloy.simulate.command", "a model plays user, assistant and API: simulate CONFIG.yaml"),
    "serve": ("alloy.serve.command", "an OpenAI-compatible server with thinking budgets: serve MODEL"),
    "chat": ("alloy.terminal.command", "talk to a model: chat MODEL, or chat --url http://127.0.0.1:8000/v1"),
    "report": ("alloy.report.command", "one HTML file of a run: report runs/demo"),
}


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m alloy COMMAND ...\n")
        for name, (_, help_text) in COMMANDS.items():
            print(f"  {name:10} {help_text}")
        print("\npython -m alloy COMMAND --help tells more. A stage alone: python -m sft CONFIG.yaml")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"{name!r} is no command. Known: {', '.join(COMMANDS)}.")
    module = importlib.import_module(COMMANDS[name][0])
    status: int = getattr(module, name if module.__name__ == "alloy.commands" else "run")(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(run))
