# Two commands matter: `make demo` and `make test`. Both set up .venv first when it is missing or out of date.
# Another interpreter: make demo PYTHON=python3.12      More tests arguments: make test ARGS="tests/cli -x"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq -c constraints.txt
# Small matmuls on two threads collapse when two test workers share two cores; tests never reach for the network.
QUIET_MACHINE := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format bench docs site parity mutation setup

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.runtime ## Run a whole study offline; the last line is the path of its report.
	@$(BIN)/preflab demo $(ARGS)

test: $(VENV)/.dev ## Run the tests.
	@$(QUIET_MACHINE) $(BIN)/python -m pytest -n 2 $(ARGS)

test-slow: $(VENV)/.dev ## Run the tests that take minutes.
	@$(QUIET_MACHINE) $(BIN)/python -m pytest -n 2 -m slow --timeout 3600 $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types, import directions and generated docs; no tests.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev ## Format the code and fix what ruff can fix.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## Write the generated pages again.
	@$(BIN)/python docs/generate.py

site: ## Build the documentation as a site into site/.
	@test -x .venv-site/bin/zensical || { $(PYTHON) -m venv .venv-site && .venv-site/bin/python -m pip install -qq zensical==0.0.73; }
	@.venv-site/bin/zensical build --clean --strict

bench: $(VENV)/.runtime .venv-parity/.ready ## Measure training speed beside TRL; a real model: make bench ARGS="engine --model FOLDER --data FILE".
	@$(BIN)/python -m benchmarks.run $(ARGS)

parity: .venv-parity/.ready ## Compute the peers' values in the tests again, with the peers themselves.
	@.venv-parity/bin/python parity/check.py .venv-parity/trl-0.24

mutation: $(VENV)/.dev ## Change the methods' code in thousands of ways and count the changes no test sees; an hour.
	@$(PIP) --group mutation
	@$(QUIET_MACHINE) $(BIN)/mutmut run --max-children 2 || true
	@$(BIN)/mutmut results

setup: $(VENV)/.dev ## Make .venv with everything a developer needs.

# torch comes first and pinned: resolved as somebody's dependency it is the newest CUDA build, several gigabytes.
$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"preflab needs Python 3.11 or newer, found {v.major}.{v.minor}; try: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): torch (about 200 MB) ..."
	@$(PIP) torch
	@echo "Setting up $(VENV): preflab and what it needs ..."
	@$(PIP) -e .
	@touch $@

# --group needs a newer pip than Python 3.11 brings along.
$(VENV)/.dev: $(VENV)/.runtime
	@echo "Setting up $(VENV): test and lint tools ..."
	@$(PIP) --upgrade pip
	@$(PIP) --group dev
	@touch $@

# An environment of its own: TRL is no dependency. Of the older version only the source is read.
.venv-parity/.ready: Makefile
	@test -x .venv-parity/bin/python || $(PYTHON) -m venv .venv-parity
	@echo "Setting up .venv-parity: torch and trl 1.16.0 ..."
	@.venv-parity/bin/python -m pip install -qq -c constraints.txt torch
	@.venv-parity/bin/python -m pip install -qq -c constraints.txt trl==1.16.0 peft
	@.venv-parity/bin/python -m pip install -qq --no-deps --upgrade --target .venv-parity/trl-0.24 trl==0.24.0
	@touch $@
