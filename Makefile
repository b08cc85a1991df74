# Every target sets up what it needs; `make demo`, `make test` and `make check` work in a fresh clone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/quickstart/addition.yaml
ARGS ?=

.PHONY: help setup setup-cuda env demo train eval check-recipe rehearse test test-all test-gpu gpu-report check format lock clean

help: ## show this list
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):[^#]*## /\1\t/' | expand -t 14

setup: ## install the CPU stack into .venv (about two minutes, once)
	@VENV=$(VENV) launch/setup.sh cpu

setup-cuda: ## install the CUDA stack into .venv instead
	@VENV=$(VENV) launch/setup.sh cuda

# Whichever stack is installed; the CPU one if none is.
env:
	@if [ -f $(VENV)/.rlvr-cuda ]; then VENV=$(VENV) launch/setup.sh cuda; else VENV=$(VENV) launch/setup.sh cpu; fi

demo: env ## a language model learns two-digit addition, in minutes, without a GPU
	@$(BIN)/rlvr train recipes/quickstart/addition.yaml --replace name=demo $(ARGS)

train: env ## make train RECIPE=recipes/... ARGS="key=value --resume"
	@$(BIN)/rlvr train $(RECIPE) $(ARGS)

eval: env ## make eval RECIPE=recipes/... ARGS="--model runs/NAME/export"
	@$(BIN)/rlvr eval $(RECIPE) $(ARGS)

check-recipe: env ## check a recipe and print what its numbers imply
	@$(BIN)/rlvr check $(RECIPE) $(ARGS)

rehearse: env ## two real steps of any recipe, with a tiny model, on this machine
	@$(BIN)/rlvr rehearse $(RECIPE) $(ARGS)

launch-%: env ## make launch-slurm RECIPE=recipes/... ARGS="--dry-run"; or launch-local, -ray, -k8s, -sky
	@$(BIN)/rlvr launch $(RECIPE) --to $* $(ARGS)

test: env ## the tests, without the long ones
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: env ## all tests
	@$(BIN)/python -m pytest $(ARGS)

test-gpu: env ## the tests of the CUDA paths, each with the reason if it is skipped
	@$(BIN)/python -m pytest tests/gpu -rs $(ARGS)

gpu-report: env ## what one GPU gives: phase times, transfer, MFU, memory, in ten minutes
	@$(BIN)/python benchmarks/gpu.py --output gpu.md $(ARGS)

check: env ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: env ## apply the formatter and the linter's fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: env ## resolve requirements/*.lock anew from setup.cfg
	@$(BIN)/uv pip compile -q setup.cfg --extra cpu --extra dev --override requirements/overrides-cpu.txt \
	  --universal --python-version 3.11 --no-annotate --no-header -o requirements/cpu.lock
	@$(BIN)/uv pip compile -q setup.cfg --extra cuda --extra dev \
	  --universal --python-version 3.11 --no-annotate --no-header -o requirements/cuda.lock
	@$(BIN)/uv pip compile -q setup.cfg --extra cluster --constraint requirements/cpu.lock \
	  --universal --python-version 3.11 --no-annotate --no-header | grep -vxFf requirements/cpu.lock >requirements/cluster.lock

clean: ## remove the environment and caches; runs/ stays
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
