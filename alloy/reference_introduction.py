"""What stands above the tables of docs/configuration.md."""

INTRODUCTION = """# Configuration

This page is written from the code (`make docs`); a test fails when the two differ.

A stage's config is one YAML file. A key that is not here is refused, with the nearest one that is; so is a value outside its rule, with file and line. What is **needed** has no default. `null` is YAML for none. The whole config of a stage, with every default written out:

    python -m sft configs/micro/sft-1.yaml --dry-run

## Changing a config

On the command line, `key.sub=value` replaces one setting, as often as you like. The value is read as YAML; an item of a list is addressed by its number, from 0.

    python -m sft configs/micro/sft-1.yaml --dry-run optim.learning_rate=1e-4 data.sources.0.rows=50 lora.rank=8

For a whole recipe, the stage's name stands before the key, and `seed=N` is for all stages:

    python -m alloy run micro sft-1.optim.learning_rate=1e-4 seed=1 --runs runs/other

In a file, `extends: other.yaml` (a path relative to the file) takes that file with changes. Mappings are merged key by key; anything else, lists too, is replaced. A file that is extended may itself extend another.

    extends: sft-1.yaml
    seed: 1
    train: {max_steps: 400}          # the other keys of train stay
    data: {sources: [{path: rows/mine.jsonl}]}

## Where a stage's parents come from

A stage starts from `model` (a Hub name or a folder) or from `parent` (the run folder of another stage). In a recipe neither is written down: `needs` in `pipeline.yaml` fills in `parent`, or the other fields that name a stage (`reward_model`, `reasoning`, `chat`, `models`). `output` is `runs/<recipe>/<stage>`, from where the file is and what it is called.
"""
