"""What `make docs-check` does with each command that is shown. The first rule that matches decides."""

import re
from dataclasses import dataclass
from typing import Literal

from shown import Command

Kind = Literal["run", "serve", "parse", "skip"]


@dataclass(frozen=True)
class Rule:
    """Commands whose text matches `pattern` from its start.

    Attributes:
        kind: `run` in a copy of the project after the micro recipe ran there; `serve`: run until it says that
            it serves, then ended; `parse` by the command's own parser alone; `skip`: not at all.
        why: of `parse` and `skip`.
        more: arguments that a run is given to make it short.
    """

    pattern: str
    kind: Kind
    why: str = ""
    more: str = ""


LITERAL = ("tutorial.md",)
"""Pages whose commands run as they stand, one after another."""

RULES = [
    Rule(r"(make setup|source )", "skip", "installs what runs this"),
    Rule(r"make (sft|grpo|dpo|rlhf|merge|evaluate|report|plan|status|help)\b", "run"),
    Rule(r"make ", "parse", "hours, or the checks themselves"),
    Rule(r"chromium ", "skip", "a browser: tests/report has one"),
    Rule(r"(vllm serve|[A-Z_]+=\S+ trl vllm-serve)", "skip", "another project's server, on a GPU"),
    Rule(r"accelerate launch --config_file configs/accelerate/cpu-ddp", "run", more="output=out/two"),
    Rule(r"([A-Z_]+=\S+ )*accelerate launch", "parse", "GPUs"),
    Rule(r"(\w+=\$\(|[A-Z_]+=\S+ )?sbatch", "parse", "a Slurm cluster"),
    Rule(r"python -m bench\.", "parse", "a measurement, minutes or more"),
    Rule(r"python -m alloy evaluate .*(--engine vllm|--throughput)", "parse", "vLLM for minutes"),
    Rule(r"python -m alloy evaluate .*--lm-eval", "parse", "lm-eval and its datasets"),
    Rule(r"python -m alloy evaluate .*--data", "parse", "a benchmark's files"),
    Rule(r"python -m alloy evaluate .*runs/ablation", "parse", "two runs of the demo"),
    Rule(r"python -m alloy evaluate ", "run", more="--items 4"),
    Rule(r"python -m alloy report runs/budget", "parse", "what it reports is not run"),
    Rule(r"python -m (alloy serve|alloy\.judges) ", "serve"),
    Rule(r"python -m alloy chat (\S+ )?--url", "parse", "a server: tests/serve has one"),
    Rule(r".*python -m alloy chat ", "run"),
    Rule(r"python -m alloy run (judge|smollm2|qwen3-8b|nemotron\S*)", "parse", "hours"),
    Rule(r"python -m alloy run demo seed=0", "parse", "its measured form is hours; micro is run"),
    Rule(r"python -m alloy simulate", "parse", "an endpoint: tests/simulate has one"),
    Rule(r"python -m alloy (run|status|report|verify|plan) ", "run"),
    Rule(r"python -m alloy COMMAND", "skip", "a form"),
    Rule(r"python -m (alloy\.judges|alloy\.reference|alloy serve|merge|rlhf\.reward_model)$", "skip", "a name, or make docs"),
    Rule(r"python -m merge sweep ", "run", more="--suites-from configs/micro/evaluate.yaml --items 4"),
    Rule(r"python -m merge CONFIG", "parse", "a stage of a recipe: micro runs them all"),
    Rule(r"python -m merge ", "run"),
    Rule(r"python -m grpo my-judge.yaml", "parse", "the reader's own files"),
    Rule(r"python -m dpo configs/smollm2/dpo.yaml", "parse", "hours"),
    Rule(r"python -m (sft|grpo|dpo|rlhf|rlhf\.reward_model) .*--dry-run", "run"),
    Rule(r"python -m (sft|grpo|dpo|rlhf|rlhf\.reward_model|alloy\.base|alloy\.evaluate) ", "parse", "a stage of a recipe: micro runs them all"),
]  # fmt: skip

MICRO = [
    (r"sweep \.\.\.", "sweep --reasoning A --chat B --alphas 0.1,0.5 --suites math,chat --out DIR"),
    (r"--alphas 0\.1:0\.9:0\.1", "--alphas 0.1,0.5"),
    (r"--groups attention,mlp,other --rounds 2", "--groups attention,other --rounds 1"),
    (r"--values 0\.1:0\.9:0\.2", "--values 0.1,0.9"),
    (r"--alpha-from DIR", "--alpha-from runs/micro/merge"),
    (r"--out \w+", "--out out/{number}"),
    (r"> \w+\.(jsonl|txt)", r"> out/{number}.\1"),
    (r"< in\.jsonl", "< in.jsonl"),
    (r"\bMODEL\b", "runs/micro/sft-3"),
    (r"judges RUN\b", "judges runs/micro/reward-model"),
    (r"--reasoning A --chat B", "--reasoning runs/micro/dpo --chat runs/micro/rlhf"),
    (r"--models A B C", "--models runs/micro/dpo runs/micro/rlhf runs/micro/grpo"),
    (r"--models +A B", "--models runs/micro/dpo runs/micro/rlhf"),
    (r"--base X", "--base runs/micro/sft-3"),
    (r"\b(sft|grpo|dpo|rlhf) CONFIG\b", r"\1 configs/micro/\1.yaml"),
    (r"configs/micro/sft\.yaml", "configs/micro/sft-1.yaml"),
    (r"\bRECIPE=\w+", "RECIPE=micro"),
    (r"\bRECIPE\b(?!=)", "micro"),
    (r"\b(demo|qwen3-8b|smollm2|nemotron-nano-9b-v2)\b", "micro"),
]
"""What stands for what in the commands that run: their micro form."""


def rule_of(command: Command) -> Rule | None:
    """The rule of a command; None where there is none, which is a failure."""
    found = next((rule for rule in RULES if re.match(rule.pattern, command.text)), None)
    if command.page in LITERAL and (found is None or found.kind not in ("skip", "serve")):
        return Rule("", "run")
    return found


def micro(command: Command, rule: Rule, number: int) -> str:
    """The command in its micro form; one of a literal page is left as it is."""
    if command.page in LITERAL:
        return command.text
    text = command.text
    for pattern, put in MICRO:
        text = re.sub(pattern, put.replace("{number}", str(number)), text)
    return f"{text} {rule.more}".strip()
