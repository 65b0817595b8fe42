PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := $(BIN)/python -m benchmarks
DEMO_DIR ?= build/demo
# Tests and demo must not depend on who runs them.
export PYTHONHASHSEED := 0
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: help setup demo test lint parity bench bench-quick clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## .venv with every pinned dependency (the other targets call it)

$(READY): setup.cfg pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	@touch $@

demo: $(READY) ## both stacks trained on simulated data, beside popularity, EASE and the oracle; two indexes; top-10 side by side
	$(BIN)/python -m benchmarks.demo --workdir=$(DEMO_DIR)

# Two processes: a test uses one core, and a file's fixtures are made once.
test: $(READY) lint ## everything that must hold, in under 15 minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY) ## ruff, mypy, and the arrows between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy retrieval_contract tfrs_models torch_reference benchmarks parity_tests
	$(BIN)/lint-imports

parity: $(READY) ## the parity ladder, trained quality on MovieLens 100K (rung 7) included
	$(BIN)/python -m pytest parity_tests -m "quality or not quality"

# What takes longer than that is run by hand: `negatives` without --quick, `quality`, `serving_latency` with a million
# candidates, `serving_load`, every preset, the second data set of `sweeps`, and whatever a script keeps for --full.
bench: $(READY) ## every benchmark in under 40 minutes on 2 cores: raw lines under benchmarks/results, then the report
	$(BENCH).evaluation_speed
	$(BENCH).train_throughput
	$(BENCH).index_frontier
	$(BENCH).compression
	$(BENCH).scale
	$(BENCH).sweeps --dataset=ml-100k
	$(BENCH).presets --preset=simulated --preset=movielens_100k
	$(BENCH).input_pipeline --quick
	$(BENCH).serving_latency --quick
	$(BENCH).negatives --quick --seconds=8
	$(BENCH).report --write README.md

bench-quick: $(READY) ## the same on small data, in under 5 minutes
	$(BENCH).evaluation_speed --quick
	$(BENCH).train_throughput --quick
	$(BENCH).index_frontier --quick
	$(BENCH).compression --quick
	$(BENCH).scale --quick
	$(BENCH).sweeps --quick
	$(BENCH).presets --quick
	$(BENCH).input_pipeline --quick --most=1000000
	$(BENCH).serving_latency --quick --candidates=20000
	$(BENCH).negatives --quick --seconds=2
	$(BENCH).report --write README.md

clean: ## remove the environment and everything built
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
