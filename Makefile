# make demo | test | lint ...; each target sets up the environment it needs.
STACK ?= onedl
PYTEST_ARGS ?=

VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
RUN := $(VENV)/bin/python
# a thread each: what is tested is too small for two
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all docs lint format clean

help: ## list the targets
	@echo 'usage: make TARGET [STACK=onedl|openmmlab] [PYTHON=python3.11]'
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

env: ## create or update the virtual environment of the stack
	@bash tools/misc/setup_env.sh '$(STACK)'

demo: env ## train and evaluate a small detector on generated images
	@$(RUN) tools/demo.py

test: env ## run the fast tests, e.g. PYTEST_ARGS='-k ba2m -x -n0'
	@$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-all: env ## run the slow tests as well
	@$(PYTEST) $(PYTEST_ARGS)

docs: env ## build the documentation into docs/_build; warnings are errors
	@$(RUN) -m sphinx -q -W --keep-going -c docs . docs/_build

lint: env ## check style, types and which room may import which
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

format: env ## apply the style
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

clean: ## remove build products and caches; environments and results stay
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .mypy_cache
