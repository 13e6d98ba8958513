# `make demo` and `make test` need python3 (3.11 or later) with venv, and make. Nothing needs root, and
# a program of another project that is missing only means that its tests are skipped.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
PYTEST := $(BIN)/python -m pytest

# Where the demo listens: PORT_BASE + 25 and so on; without it, where the command does by default.
PORT_BASE ?=

# How much the slow tiers do; the tests' own defaults are a smoke of the same.
KILLS ?= 200
SEED ?= 1
SEEDS ?= 200
FUZZ_S ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test check style types layers papers format docs fuzz sim interop crash bench install constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' $(MAKEFILE_LIST)

install: $(VENV)/.with-posthouse ## the posthouse command, in .venv

demo: $(VENV)/.with-posthouse ## two servers on loopback with mail between them, until Ctrl-C
	@$(BIN)/posthouse demo $(if $(PORT_BASE),--port-base $(PORT_BASE))

# The tests run even where a check fails, so that one run tells everything.
test: $(VENV)/.with-dev ## every check and every test, then the reliability rows that no test names
	@failed=; $(MAKE) --no-print-directory --keep-going check || failed=1; \
	  $(PYTEST) -n $(WORKERS) -rs --rows || failed=1; \
	  if [ -n "$$failed" ]; then echo "something above failed" >&2; exit 1; fi

check: style types layers papers ## everything but the tests

style: $(VENV)/.with-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.with-dev ## mypy --strict
	$(BIN)/mypy

layers: $(VENV)/.with-dev ## who may import whom
	$(BIN)/lint-imports --no-logo

papers: $(VENV)/.with-dev ## RFC citations and change fragments
	$(BIN)/python -m tools.citations
	$(BIN)/python -m tools.changes

format: $(VENV)/.with-dev ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.with-docs ## the documentation as pages in site/
	$(BIN)/zensical build --clean

fuzz: $(VENV)/.with-dev ## mutated input for each parser, FUZZ_S seconds each
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_S) --seed $(SEED)

sim: $(VENV)/.with-posthouse ## whole servers in virtual time, broken by SEEDS seeds from SEED on
	$(BIN)/posthouse sim --seed $(SEED) --runs $(SEEDS)

interop: $(VENV)/.with-dev ## only the tests that talk to programs of other projects
	$(PYTEST) tests/interop -n $(WORKERS) -rs

crash: $(VENV)/.with-dev ## kill the server KILLS times under load and count the mail
	$(BIN)/python -m tests.crash.kill_loop --kills $(KILLS) --seed $(SEED)

bench: $(VENV)/.with-posthouse ## the workloads against Posthouse and its peers, in turns
	PATH="$(CURDIR)/$(BIN):$$PATH" bench/compare.sh

constraints: ## pin what a fresh environment gets today
	rm -rf build/pins
	$(PYTHON) -m venv build/pins
	build/pins/bin/pip install -q '.[dev,docs]' hatchling editables
	build/pins/bin/python -m tools.pins build/pins/bin/python

clean: ## remove what make made
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Posthouse needs Python 3.11 or later; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV) (once; some 80 MB)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Without build isolation, so that the build backend is pinned too.
$(VENV)/.with-posthouse: $(VENV)/.made pyproject.toml constraints.txt
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e '.[server]'
	@touch $@

# Some of the tests' libraries are made into wheels here, which setuptools needs `wheel` for.
$(VENV)/.with-dev: $(VENV)/.with-posthouse
	@$(PIP) setuptools wheel
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/.with-docs: $(VENV)/.with-posthouse
	@$(PIP) --no-build-isolation -e '.[docs]'
	@touch $@
