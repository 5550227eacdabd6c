# make demo | test | lint ...; each target sets up the environment it needs,
# and the extras of requirements/ that it needs.
STACK ?= onedl
PYTEST_ARGS ?=
EXTRAS ?=

VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
RUN := $(VENV)/bin/python
SETUP := @bash tools/misc/setup_env.sh '$(STACK)'
# a thread each: what is tested is too small for two
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all docs lint format clean

help: ## list the targets
	@echo 'usage: make TARGET [STACK=onedl|openmmlab] [PYTHON=python3.11]'
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

env: ## create or update the environment, e.g. EXTRAS='export notebook'
	$(SETUP) $(EXTRAS)

demo: env ## train and evaluate a small detector on generated images
	@$(RUN) tools/demo.py

test: ## run the fast tests, e.g. PYTEST_ARGS='-k ba2m -x -n0'
	$(SETUP) tests analysis export notebook
	@$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: ## run the slow tests as well
	$(SETUP) tests analysis export notebook
	@$(PYTEST) $(PYTEST_ARGS)

docs: ## build the documentation into docs/_build; warnings are errors
	$(SETUP) docs
	@$(RUN) -m sphinx -q -W --keep-going -c docs . docs/_build

lint: ## check style, types and which room may import which
	$(SETUP) lint
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

format: ## apply the style
	$(SETUP) lint
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

clean: ## remove build products and caches; environments and results stay
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .mypy_cache
