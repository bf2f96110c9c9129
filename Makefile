# Needs make and Python 3.11 or newer. Everything else is installed into this folder: uv into .tools,
# the packages into .venv. Nothing of yours is changed.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.9
PYTHON ?= $(shell command -v python3 || command -v python)
BIN := .venv/bin

# A uv on the PATH serves if it is recent enough for our lock file; else the pinned one is our own.
UV := $(shell $(PYTHON) -c 'import re, subprocess, sys; \
	said = subprocess.run(["uv", "--version"], capture_output=True, text=True).stdout; \
	sys.exit(tuple(map(int, re.search(r"(\d+)\.(\d+)", said).groups())) < (0, 12))' 2>/dev/null \
	&& command -v uv || echo .tools/uv/bin/uv)

export UV_PROJECT_ENVIRONMENT := .venv
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# Compiled modules are kept: the tests start Python hundreds of times, and each start would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up test test-clients check audit fmt docs bench clean setup

help: ## List what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup ## Run the whole system on this machine, until Ctrl-C
	@exec $(BIN)/tokentide up $(ARGS)

# Many tests wait, for a time-out or for a process to start: other workers have the cores meanwhile, so there
# are more of them than cores. Files begin in their order, in which those that take long are not the last.
test: setup ## Run every test (ARGS="tests/unit -k merge" for some)
	@exec $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-clients: setup ## Test with Claude Code and SDKs from npm (needs Node.js)
	cd tests/clients && npm ci --no-audit --no-fund --loglevel error && node node_modules/@anthropic-ai/claude-code/install.cjs
	@exec $(BIN)/pytest tests/clients $(ARGS)

check: setup audit ## Lint, format, types, and what is known to be insecure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive libs/common/src services/*/src cli/src

audit: setup ## Look for known vulnerabilities of dependencies (needs the network)
	$(BIN)/python tests/audit_dependencies.py $(UV)

fmt: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Write the generated pages of docs/reference
	$(BIN)/python docs/generate.py

bench: setup ## Measure every performance target
	@exec $(BIN)/python benchmarks/run.py $(ARGS)

clean: ## Remove everything that make has put into this folder
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build tests/clients/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(filter .tools/%,$(UV))
	@$(UV) sync --locked --quiet --python $(PYTHON)

.tools/uv/bin/uv: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tokentide needs Python 3.11 or newer")'
	@rm -rf .tools/uv
	@$(PYTHON) -m venv .tools/uv
	@.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
