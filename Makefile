.DEFAULT_GOAL := help
.PHONY: help setup demo serve check test coverage chaos lint bench lock clean

PYTHON ?= python3
# how many processes share the tests, a file at a time: much of the time a test waits
WORKERS ?= 6
PYTEST = $(BIN)/python -m pytest
# files in the order of their names, for the long ones of chaos and conformance come first
SHARED = -n $(WORKERS) --dist loadscope --no-loadscope-reorder
BIN := .venv/bin
# the tests start some hundred processes, each of which would compile all modules anew
unexport PYTHONDONTWRITEBYTECODE
READY := .venv/.ready

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv from the locked, hash-checked requirements

$(READY): locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: set PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: setup ## run the main job end to end, against a simulated sender
	$(BIN)/resultsink demo

serve: setup ## run the receiver on :8000
	$(BIN)/resultsink serve

check: lint ## lint, and the quick tests: those of the receiver that need no database
	RESULTSINK_TEST_DATABASES=sqlite $(PYTEST) $(SHARED) --quick tests/receiver tests/test_*.py

test: setup ## run all tests, on SQLite and on Postgres (RESULTSINK_TEST_DATABASES=sqlite: on one)
	$(PYTEST) $(SHARED)

coverage: setup ## the same, with branch coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

chaos: setup ## kill, stop, cut off, fill up and mislead it for much longer than `make test` does
	CHAOS_KILLS=100 $(PYTEST) tests/chaos

lint: setup ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## measure, as ratios within one run; BENCH=--quick tries it, BENCH=--full takes hours
	$(BIN)/python -m benchmarks $(BENCH)

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header

lock: setup ## write the locks anew: run (what users need), dev (beside it), build (the wheel)
	$(COMPILE) pyproject.toml --extra postgres -o locks/run.txt
	$(COMPILE) pyproject.toml --group dev -o locks/dev.txt
	$(COMPILE) locks/build.in -o locks/build.txt

clean: ## remove what setup and the tools made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
