"""Completions that move the policy a second: Alloy's GRPO beside `trl grpo`.

The same model, prompts, group size, batch, steps, seeds, learning rate, loss and outcome (1 or 0, nothing
shaped), on the same machine, in turn. A completion counts when its advantage is not 0. Time is what TRL's
trainer, which both sides are, logs as the steps' own; Alloy's profile of the prompts is added to it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.outcome import parser, ratio_interval, tell

GROUP, PROMPTS, MICRO, RATE, LIMIT = 8, 16, 64, 2e-4, 80
OPTIONS = {"max_operand": 6, "multiply": 0.05}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, help="a policy; the demo's sft-3 when not given")
    arguments.add_argument("--tasks", type=int, default=200)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--seeds", type=int, default=3)
    given = arguments.parse_args()
    model = given.model or demo_policy()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            sides = {}
            for name in ("ours", "trl") if seed % 2 == 0 else ("trl", "ours"):
                run = ours if name == "ours" else trl
                sides[name] = run(model, Path(folder) / f"{name}-{seed}", seed, given)
            found.append(sides)
    ratio, low, high = ratio_interval([rate(sides["ours"]) / rate(sides["trl"]) for sides in found])
    result: dict[str, Any] = {"ratio_to_trl": ratio, "ratio_to_trl_interval": [low, high]}
    for name in ("ours", "trl"):
        mine = [sides[name] for sides in found]
        result[f"{name}_useful_per_second"] = sum(rate(m) for m in mine) / len(mine)
        result[f"{name}_useful_share"] = sum(m["useful"] / m["completions"] for m in mine) / len(mine)
        result[f"{name}_seconds"] = [m["seconds"] for m in mine]
        result[f"{name}_reward_first"] = [m["first"] for m in mine]
        result[f"{name}_reward_last"] = [m["last"] for m in mine]
    result["ours_profile_seconds"] = [sides["ours"]["profile"] for sides in found]
    tell(
        "GRPO: completions with an advantage, a second",
        [
            "system",
            "useful a second",
            "useful share",
            "seconds",
            "of them profile",
            "reward, first and last steps",
        ],
        [
            [
                f"{name}, seed {seed}",
                f"{rate(side):.1f}",
                f"{100 * side['useful'] / side['completions']:.0f}%",
                f"{side['seconds']:.0f}",
                f"{side['profile']:.0f}",
                f"{side['first']:.2f} to {side['last']:.2f}",
            ]
            for seed, sides in enumerate(found)
            for name, side in sorted(sides.items())
        ],
        result,
        given.json,
    )


def rate(side: dict[str, float]) -> float:
    return side["useful"] / side["seconds"]


def demo_policy() -> Path:
    command = [sys.executable, "-m", "alloy", "run", "demo", "--stage", "sft-3"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return Path("runs/demo/sft-3/model")


def ours(model: Path, folder: Path, seed: int, given: Any) -> dict[str, float]:
    import yaml

    config = {
        "environments": {"math": {"tasks": given.tasks, "options": OPTIONS}},
        "rollout": {"max_completion_tokens": LIMIT, "refills": 2},
        "prompts_per_step": PROMPTS,
        "group_size": GROUP,
        "curriculum": {"rollouts": 4},
        "optim": {"learning_rate": RATE, "scheduler": "constant", "warmup_ratio": 0.0},
        "train": {"max_steps": given.steps, "per_device_batch_size": MICRO},
        "logging": {"every_steps": 1, "tensorboard": False},
        "seed": seed,
    }
    folder.mkdir(parents=True)
    (folder / "grpo.yaml").write_text(yaml.safe_dump(config))
    run(
        [
            sys.executable,
            "-m",
            "grpo",
            str(folder / "grpo.yaml"),
            f"parent={model}",
            f"output={folder / 'run'}",
        ],
        # A profile of its own every time.
        {"ALLOY_CACHE": str(folder / "cache")},
    )
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "reward" in row]
    profile = json.loads((folder / "run" / "profile.json").read_text())["seconds"]
    return {
        **summary(rows, [row["completions/with_advantage"] for row in rows]),
        "seconds": sum(row["step_time"] for row in rows) + profile,
        "profile": profile,
    }


def trl(model: Path, folder: Path, seed: int, given: Any) -> dict[str, float]:
    from alloy.environments.registry import make_environment
    from alloy.policy import load_tokenizer
    from alloy.template import encode_prompt

    tokenizer = load_tokenizer(model)
    rows = []
    for task in make_environment("math", OPTIONS).tasks("train", given.tasks, seed):
        ids = encode_prompt(tokenizer, task.messages, task.tools, True)
        text = tokenizer.decode(ids)
        assert tokenizer(text)["input_ids"] == ids, "TRL would see another prompt"
        rows.append({"prompt": text, "gold": task.gold["answer"], "end": tokenizer.eos_token_id})
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model_name_or_path": model, "dataset_name": folder / "data", "reward_funcs": "bench.grpo_reward.outcome",
        "output_dir": folder / "run", "num_generations": GROUP, "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": PROMPTS * GROUP // MICRO, "max_steps": given.steps, "max_completion_length": LIMIT,
        "temperature": 1.0, "learning_rate": RATE, "lr_scheduler_type": "constant", "beta": 0.0, "loss_type": "dapo",
        "epsilon": 0.2, "epsilon_high": 0.28, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "seed": seed,
        "logging_steps": 1, "report_to": "none", "save_strategy": "steps", "save_steps": given.steps, "disable_tqdm": True,
        "dtype": "float32",
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("trl")), "grpo"]
    run([*command, *(part for key, value in settings.items() for part in (f"--{key}", str(value)))], {})
    state = json.loads((folder / "run" / f"checkpoint-{given.steps}" / "trainer_state.json").read_text())
    logged = [row for row in state["log_history"] if "reward" in row]
    return {
        **summary(logged, [1 - row["frac_reward_zero_std"] for row in logged]),
        "seconds": sum(row["step_time"] for row in logged),
        "profile": 0.0,
    }


def summary(rows: list[dict[str, float]], useful_shares: list[float]) -> dict[str, float]:
    per_step = PROMPTS * GROUP
    tenth = max(1, len(rows) // 10)
    return {
        "useful": sum(useful_shares) * per_step,
        "completions": float(len(rows) * per_step),
        "first": sum(row["reward"] for row in rows[:tenth]) / tenth,
        "last": sum(row["reward"] for row in rows[-tenth:]) / tenth,
    }


def run(command: list[str], environment: dict[str, str]) -> None:
    given = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(Path.cwd()),
        **environment,
    }
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command[:4])}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )


if __name__ == "__main__":
    main()
