PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Memory that is free again goes back to the system; see the README.
LEAN := MALLOC_ARENA_MAX=2 ARROW_DEFAULT_MEMORY_POOL=system
# What a change breaks first. The others load warehouses in every way, and take half an hour.
QUICK := tests/api tests/reading tests/rows tests/sandbox tests/loading/test_state.py \
	tests/loading/test_turns.py tests/loading/test_dialects.py $(addprefix tests/test_, \
	pages.py proof.py settings.py source.py tenants.py times.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo run backfill plan verify status snapshot models report test check oldest destinations dbt wheel orchestrators dagster airflow prefect beside bench format lock clean

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/ready ## Create the environment in .venv from requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Load a sandbox twice, ask it three questions and write a report
	$(BIN)/flowiq demo

run: setup ## Sync the configured tenant: make run ARGS="--full-refresh"
	$(LEAN) $(BIN)/flowiq sync $(ARGS)

backfill: setup ## Load a range: make backfill ARGS="--from 2026-01-01 --to 2026-02-01"
	$(LEAN) $(BIN)/flowiq backfill $(ARGS)

plan: setup ## Say what a run would cost, for one request
	$(BIN)/flowiq plan $(ARGS)

verify: setup ## Compare the warehouse with the API: make verify ARGS="--from-last-sync"
	$(BIN)/flowiq verify $(ARGS)

models: setup ## Make the models anew: views that answer questions
	$(BIN)/flowiq models $(ARGS)

status: setup ## Say what the warehouse holds, without a request
	$(BIN)/flowiq status $(ARGS)

report: setup ## Write flowiq_report.html: make report ARGS="--days 30 --with-contacts"
	$(BIN)/flowiq report $(ARGS)

snapshot: setup ## Copy the DuckDB file, for readers who may keep it open while syncs run
	$(BIN)/flowiq snapshot $(ARGS)

test: setup ## Run the quick two thirds of the tests
	$(BIN)/pytest $(QUICK)

check: setup ## Format, lint, types and all tests, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

oldest: setup ## Run the core of the tests against the lowest supported dlt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt \
		--editable '.[test]'
	.venv-oldest/bin/pytest $(addprefix tests/loading/test_, plain_dlt.py state.py kill.py idle.py) \
		tests/test_proof.py tests/test_disappearance.py

dbt: setup demo ## Build the dbt package on the demo's data, in an environment of its own
	test -x .venv-dbt/bin/dbt || { $(PYTHON) -m venv .venv-dbt && .venv-dbt/bin/pip install --quiet \
		--disable-pip-version-check 'dbt-core<1.12' dbt-duckdb dbt-postgres; }
	cd dbt && DBT_SEND_ANONYMOUS_USAGE_STATS=false ../.venv-dbt/bin/dbt --quiet build --profiles-dir .

destinations: ## Load every destination that there is a server or library for, in .venv-destinations
	$(PYTHON) -m venv .venv-destinations
	.venv-destinations/bin/pip install --quiet --disable-pip-version-check --constraint tests/destinations.txt \
		--editable '.[destinations,test]'
	.venv-destinations/bin/pytest tests/loading/test_destinations.py

wheel: setup ## Install the wheel into an empty environment, and run its demo from another folder
	rm -rf build/wheel .venv-wheel
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet --disable-pip-version-check build/wheel/*.whl
	cd build/wheel && ../../.venv-wheel/bin/flowiq demo

orchestrators: dagster airflow prefect ## Run the examples in the real Dagster, Airflow and Prefect

dagster airflow prefect: setup
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-$@
	$(BIN)/uv pip install --quiet --python .venv-$@ --requirement examples/$@/requirements.txt --editable '.[postgres]' pytest
	PYTHONDONTWRITEBYTECODE= .venv-$@/bin/python -m pytest --override-ini addopts=-ra --override-ini filterwarnings=default examples/$@

beside: setup ## Ask whether the package installs beside each orchestrator on every Python
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	for name in dagster airflow prefect; do for python in 3.10 3.11 3.12 3.13; do \
		$(BIN)/uv pip compile --quiet --python-version $$python --output-file /dev/null \
			pyproject.toml examples/$$name/requirements.txt || exit 1; \
		echo "$$name on Python $$python"; done; done

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
	rm -rf $(VENV) .venv-oldest .venv-wheel .venv-dbt .venv-destinations .venv-dagster .venv-airflow .venv-prefect .demo dbt/target dbt/logs .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
