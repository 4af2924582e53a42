.DEFAULT_GOAL := help
.PHONY: help setup venv gvisor demo serve test test-fast fuzz check bench chaos lock

# The newest of these that is at least 3.11; say `make PYTHON=… setup` for another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; exit; }; \
	done; echo python3)
VENV := .venv/bin

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make ready what is missing: .venv, a Docker engine, the runner image
	@$(PYTHON) -m scripts.setup

venv: ## Make .venv ready alone, without Docker
	@$(PYTHON) -m scripts.setup --only venv

gvisor: ## Install gVisor and register it with the engine (Debian or Ubuntu, as root)
	@$(PYTHON) -m scripts.setup --gvisor

demo: setup ## Run the code review workflow on a real file and watch it
	@$(VENV)/python -m sandgraph demo

serve: setup ## Start the platform on http://127.0.0.1:8000, data in ./data
	@$(VENV)/sandgraph serve

# Syncs of a disk take a third of the tests' time, and no test pulls a plug: their files are in memory where there is room.
IN_MEMORY := $(shell free=$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }'); \
	[ -w /dev/shm ] && [ "$${free:-0}" -gt 2000000 ] && echo TMPDIR=/dev/shm)

# Tests start a hundred Pythons: none of them compiles anew what was compiled before, whatever the environment says.
PYTEST := PYTHONDONTWRITEBYTECODE= $(VENV)/python -m pytest

# What shares neither an engine nor the clock with others runs side by side, then the rest one by one.
test: setup ## Run every test, against the real Docker engine and a real PostgreSQL server
	@$(PYTHON) -m scripts.setup --only postgres
	@$(IN_MEMORY) $(PYTEST) -m "not docker and not compose and not chaos and not fuzz" -n 2
	@$(PYTEST) -m "docker or compose or chaos"

# A third of its time is waiting: three processes keep two cores busy.
test-fast: venv ## Run a minute of the tests that need neither Docker nor PostgreSQL, but for the crash matrix
	@$(IN_MEMORY) SANDGRAPH_FAST_TESTS=1 $(PYTEST) -m "not docker and not compose and not chaos and not fuzz and not postgres" -n 3

fuzz: venv ## Have schemathesis ask a platform for everything, open and with keys
	@$(PYTEST) -m fuzz

check: venv ## Lint, formatting, types, and who imports whom
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports

# How long (0 is one round), with which seed (a fresh one), and whether with containers.
MINUTES ?= 10
SEED ?=
DOCKER ?=

chaos: $(if $(DOCKER),setup,venv) ## Kill platforms at every boundary for MINUTES, DOCKER=1 with containers
	@$(VENV)/python -m scripts.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(DOCKER),--docker)

bench: setup ## Print the benchmarks as ratios
	@$(VENV)/python bench/run.py

# Pins with hashes and without addresses, so that any mirror of the package index serves them.
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: ## Pin the dependencies anew from pyproject.toml (needs uv)
	@$(LOCK) --extra postgres --extra otel --output-file requirements.lock pyproject.toml
	@$(LOCK) --extra dev --output-file requirements-dev.lock pyproject.toml
	@echo hatchling | $(LOCK) --no-annotate --constraint requirements-dev.lock --output-file requirements-build.lock -
