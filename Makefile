# `make` alone is the gate, as CI runs it. Every target sets up what it needs by itself.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS)

# Images of containers forbid it, and then each process that a test starts compiles keepfit anew.
export PYTHONDONTWRITEBYTECODE :=

# Tests side by side have all cores: threads of one training would wait, at work, for another's.
test story coverage: export OMP_NUM_THREADS ?= 1

ifneq ($(shell command -v uv),)
install = uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable $(1)
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable $(1)
endif

define venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "keepfit needs Python 3.11 or newer; say which with make PYTHON=…" >&2; exit 1; }; \
test -x $(BIN)/python || $(PYTHON) -m venv .venv
endef

.DEFAULT_GOAL := check
.PHONY: help setup demo test lint check bench story stress coverage format clean

check: lint test ## all that CI checks: format, lint, types, floors, tests

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev ## a virtual environment in .venv with all that the others need

demo: .venv/.demo ## a year of flights, in some minutes
	@$(BIN)/keepfit demo $(ARGS)

test: .venv/.dev ## all tests; ARGS="-k ledger" picks some
	@$(PYTEST) -q $(ARGS)

lint: .venv/.dev ## format, lint, types and floors
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

story: .venv/.dev ## the long lives
	@$(PYTEST) tests/stories $(ARGS)

# One after the other: what is timed has the machine to itself.
stress: .venv/.dev ## a hundred swaps under load, as quick as without, and a hundred kills
	@KEEPFIT_STRESS=100 $(BIN)/python -m pytest -n 0 tests/stories/test_stress.py $(ARGS)

coverage: .venv/.dev ## the tests, and what they leave out
	@$(PYTEST) -q --cov --cov-report=term $(ARGS)

bench: .venv/.dev ## the benchmarks, beside other tools; ARGS="drift --quick" picks and shrinks
	@$(BIN)/python benchmarks/run.py $(ARGS)

format: .venv/.dev ## rewrite the code as lint wants it
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

clean: ## remove .venv and what the tools left
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

# The demo needs less than the tests, so that the first look comes sooner. Stamps make a
# set-up happen once, and again only when what it was made from changes.
.venv/.demo: pyproject.toml constraints.txt
	@$(venv)
	@echo "setting up .venv for the demo …" >&2
	@$(call install,".[demo]")
	@touch $@

.venv/.dev: pyproject.toml constraints.txt
	@$(venv)
	@echo "setting up .venv for development …" >&2
	@$(call install,".[dev]")
	@touch .venv/.demo $@
