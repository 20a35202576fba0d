# Tallyard's commands. `make help` lists them. Each installs what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Paths may have letters that the locale's encoding lacks.
export PYTHONUTF8 := 1

# Version managers install launchers for Pythons that are missing, so each is tried first. Of a
# virtual environment, the interpreter that it was made with is meant: the environment may go.
FOUND := $(shell for each in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.14 python3 python); do \
	"$$each" -c 'import sys; sys.version_info < (3, 11) or print(sys._base_executable)' 2>/dev/null \
	| grep . && break; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALL = @"$(FOUND)" -m ops.install
CLIENTS := $(basename $(notdir $(wildcard tests/clients/*.in)))

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: environment ## Install what is missing, start everything and show its URLs (Ctrl-C stops it)
	@exec $(BIN)/tallyard up

# The rooms that decide: unit tests must reach COVERED_MIN percent of the lines of each.
COVERED := rules flows btql spans
COVERED_MIN := 80

.PHONY: check
check: environment-dev ## Lint, types, import contracts, fast tests (about a minute)
	@$(MAKE) static
	@$(BIN)/python -m pytest -q -n logical tests/properties tests/architecture
	@$(BIN)/python -m pytest -q -n logical $(COVERED:%=--cov=%) --cov-report= tests/unit
	@for room in $(COVERED); do \
		reached=$$($(BIN)/coverage report --include="$$room/*" --format=total \
			--fail-under=$(COVERED_MIN)) && echo "$$room: $$reached % of its lines" \
		|| { echo "$$room: $$reached" >&2; exit 1; }; done

.PHONY: test
test: environment-test ## Lint, types, import contracts, all tests but the long ones
	@$(MAKE) static
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

.PHONY: test-long
test-long: environment-test ## The long tests: many kills, every attack in every sandbox
	@$(BIN)/python -m pytest -q -n auto --dist worksteal -m long

# What needs no test to run: four programs, two at a time.
.PHONY: static
static:
	@$(MAKE) --jobs=2 --output-sync=target lint types contracts imports

.PHONY: lint
lint:
	@$(BIN)/ruff check .

.PHONY: types
types:
	@$(BIN)/mypy

.PHONY: contracts
contracts:
	@$(BIN)/lint-imports --no-logo

.PHONY: imports
imports:
	@$(BIN)/deptry --no-ansi .

.PHONY: bench
bench: environment-dev ## Measure speed beside the baselines (table and JSON)
	@$(BIN)/python -m benchmarks

.PHONY: bench-growth
bench-growth: environment-dev ## Measure one project at 10 thousand, 1 million and 3 million rows
	@$(BIN)/python -m benchmarks.growth

.PHONY: clean
clean: ## Delete all data and everything that was installed
	@if [ -e "$${TALLYARD_DATA_DIR:-.tallyard}" ]; then \
		$(MAKE) environment && $(BIN)/tallyard clean --yes; fi
	@rm -rf $(VENV) $(VENV)-scorers .cache .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks hold hashes but no addresses, so any index or mirror can serve them.
COMPILE = .cache/uv/*/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

.PHONY: lock
lock: python ## Compile the lock files again from pyproject.toml (keeps versions that still fit)
	$(INSTALL) uv
	@$(COMPILE) --group setup -o requirements-setup.txt
	@$(COMPILE) pyproject.toml --group build -o requirements.txt
	@$(COMPILE) pyproject.toml --group build --group dev -c requirements.txt -o requirements-dev.txt
	@$(COMPILE) --group scorers -c requirements.txt -o requirements-scorers.txt
	@for each in $(CLIENTS); do $(COMPILE) tests/clients/$$each.in -o tests/clients/$$each.txt; done

# Each installs what is missing of it. With nothing to do, that takes a tenth of a second.
.PHONY: environment
environment: python
	$(INSTALL) product

.PHONY: environment-dev
environment-dev: python
	$(INSTALL) dev

.PHONY: environment-test
environment-test: python
	$(INSTALL) tests

.PHONY: python
python:
	@[ -n "$(FOUND)" ] || { \
		echo "Tallyard needs Python 3.11 or newer, and there is none: install it" \
		"(on Debian and Ubuntu: apt install python3 python3-venv)," \
		"or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
