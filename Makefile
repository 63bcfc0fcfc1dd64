PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Memory that is free again goes back to the system; see the README.
LEAN := MALLOC_ARENA_MAX=2 ARROW_DEFAULT_MEMORY_POOL=system

.DEFAULT_GOAL := help
.PHONY: help setup demo run plan verify test check oldest bench format lock clean

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## Create the environment in .venv from requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Load a sandbox twice and ask it three questions
	$(BIN)/python pipelines/demo.py

run: setup ## Sync the configured tenant: make run ARGS="--full-refresh"
	$(LEAN) $(BIN)/python pipelines/flowiq_pipeline.py $(ARGS)

plan: setup ## Say what a run would cost, for one request
	$(BIN)/python pipelines/flowiq_pipeline.py --plan $(ARGS)

verify: setup ## Compare the warehouse with the API: make verify ARGS="--from-last-sync"
	$(BIN)/python pipelines/flowiq_verify.py $(ARGS)

test: setup ## Run the tests
	$(BIN)/pytest

check: setup ## Format, lint, types and tests, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

oldest: setup ## Run the core of the tests against the lowest supported dlt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt \
		--editable '.[test]'
	.venv-oldest/bin/pytest tests/loading/test_plain_dlt.py tests/loading/test_state.py

bench: setup ## Measure it beside its peers (about half an hour): make bench ARGS="--only peers"
	$(BIN)/python benchmarks/bench.py $(ARGS)

format: setup ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## Write requirements.lock anew, for every supported Python
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --upgrade \
		--generate-hashes --custom-compile-command 'make lock' \
		--output-file requirements.lock pyproject.toml

clean: ## Remove the environment, the caches and the demo's data
	rm -rf $(VENV) .venv-oldest .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
