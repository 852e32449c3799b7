# The menu. `make demo` and `make test` are all a newcomer needs.
RECIPE ?= demo
VENV := .venv
PY := $(VENV)/bin/python
RUN = $(PY) -m alloy run $(RECIPE)
# The lock follows the machine: an NVIDIA driver that answers takes the CUDA one.
LOCK := requirements/$(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu).txt
STAMP := $(VENV)/.installed
export PYTHONPATH := $(CURDIR)
export HF_HUB_OFFLINE ?= $(if $(filter %/cpu.txt,$(LOCK)),1,0)

.PHONY: help setup demo test test-distributed chaos check docs docs-check bench sft grpo dpo rlhf merge evaluate report status plan clean

help: ## This menu
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## Install what is needed into .venv, once

# torch comes first and with its own dependencies: the CPU build needs none, the CUDA build brings its
# libraries. Everything else is pinned in the lock, complete, and resolved beforehand (--no-deps).
$(STAMP): $(LOCK)
	@command -v python3.11 >/dev/null || { echo "Python 3.11 is needed: install it, then run make again."; exit 2; }
	test -x $(PY) || python3.11 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(LOCK))"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r $(LOCK)
	@touch $@

demo: setup ## The whole pipeline on a model built from scratch, on two cores
	$(PY) -m alloy run demo
	$(PY) -m alloy report runs/demo

test: setup ## All tests
	$(PY) -m pytest

test-distributed: setup ## Every training stage in two CPU processes: DDP, ZeRO-2, ZeRO-3, killed, told to end, resumed
	$(PY) -m pytest tests/distributed tests/survival -m distributed

chaos: setup ## Micro killed KILLS times at random moments, then compared with a run that nobody disturbed
	$(PY) -m tests.chaos --kills $(or $(KILLS),100)

check: setup ## Lint, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: setup ## Write docs/configuration.md from the configs
	$(PY) -m alloy.reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

docs-check: setup ## Run every command of README.md and docs/, the long ones in their micro form
	$(PY) tests/docs/check.py

bench: setup ## Measure beside the peers; WORKBENCH=DIR names WorkBench's files
	for name in packing preparation sft_throughput blend_memory verifiers grpo tool_rollouts rollouts budget merge; do $(PY) -m bench.$$name || exit 1; done
	@$(if $(findstring cuda,$(LOCK)),$(PY) -m bench.gpu,echo "bench.gpu is left out: no NVIDIA driver answers")
	@$(if $(WORKBENCH),$(PY) -m bench.tool_verdicts --data $(WORKBENCH),echo "bench.tool_verdicts is left out: name the folder with WorkBench's files, WORKBENCH=DIR")

sft grpo dpo rlhf merge: setup ## One kind of stage of a recipe: make sft RECIPE=smollm2
	$(RUN) --package $@

evaluate: setup ## The evaluation stage of a recipe, with what it needs
	$(RUN) --package alloy

report: setup ## One HTML file of a recipe's run
	$(PY) -m alloy report runs/$(notdir $(RECIPE))

plan: setup ## What a recipe would take: steps, tokens, memory, hours; nothing is run
	$(PY) -m alloy plan $(RECIPE)

status: setup ## What is finished, stale, missing
	$(PY) -m alloy status $(RECIPE)

clean: ## Remove run folders and caches, not the installation
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache
