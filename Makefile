# Two commands do everything on a machine with Python 3.11 (or newer) and make:
#   make demo    make test
# Each target installs what it needs into .venv, once; it is reinstalled when pyproject.toml or
# constraints.txt change. OMICLLM_DATA, if set, tells tests and benchmarks where larger data lie.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo_output
PYTEST_ARGS ?=
# A given interpreter first (make PYTHON=...), then python3.11, then whatever is new enough.
PYTHON ?=
PYTHONS := $(PYTHON) python3.11 python3 python3.12 python3.13

# Threads: no more than the machine has, and no more than help on small work.
OMP_NUM_THREADS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 4 ] && n=4; echo $$n)
export OMP_NUM_THREADS
# The tests run in as many processes, each on one thread.
TESTS := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(OMP_NUM_THREADS) --dist worksteal
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1

INPUTS := pyproject.toml constraints.txt src/omicllm/_version.py
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: help demo test test-all lint format docs bench weights wheel clean
.DELETE_ON_ERROR:

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(BIN)/python:
	@for p in $(PYTHONS); do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$p"; "$$p" -m venv $(VENV); exit 0; \
	  fi; \
	done; echo "Python 3.11 or newer was not found (looked for: $(PYTHONS))." >&2; exit 1

# One stamp for the plain package, and one for each extra: .venv/.installed-test
$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	@echo "installing omicllm into $(VENV) (the first time takes some minutes)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(INSTALL) -e '.[$*]'
	@touch $@

# Extras with parts that not every machine can install (a compiler, R); their tests skip without.
BRIDGES := $(VENV)/.tried-spagcn $(if $(shell command -v R),$(VENV)/.tried-r)
$(VENV)/.tried-%: $(VENV)/.installed
	@$(INSTALL) -e '.[$*]' || echo "the extra '$*' could not be installed: its tests will skip"
	@touch $@

demo: $(VENV)/.installed ## gene embeddings of the bundled section; figures and an h5ad in demo_output/
	$(BIN)/python tutorials/demo.py $(OUT)

test: $(VENV)/.installed-test $(BRIDGES) ## the fast test suite
	$(TESTS) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-test $(BRIDGES) ## all tests, with the long ones on real data
	$(TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## the documentation, warnings as errors, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@ls docs/_build/html/_images/*.png >/dev/null # the pages have their figures

bench: $(VENV)/.installed ## every benchmark; each prints its table
	@failed=""; for script in benchmarks/bench_*.py; do \
	  [ -e "$$script" ] || continue; \
	  echo "== $$script"; $(BIN)/python "$$script" || failed="$$failed $$script"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

weights: $(VENV)/.installed ## train the model that comes with the package
	$(BIN)/python benchmarks/make_sigel_weights.py

wheel: $(BIN)/python ## the wheel, in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) build dist demo_output docs/_build docs/_generated docs/api/generated docs/tutorials
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks tutorials docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
