# `make` alone lists the targets. PYTHON chooses the interpreter (3.11 or newer) of a new .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
RUN    := runs/demo
TORCH  := $(shell grep '^torch==' constraints.txt)

# Spinning OpenMP threads slow torch 10-50x as soon as another process wants the same core.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup test lint docs demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the pinned dependencies and likewise itself (editable)
	@$(BIN)/python -c "import importlib.util as u; u.find_spec('torchvision') and __import__('torchvision')" \
	2> /dev/null || { echo "torchvision in $(VENV) does not fit this torch, and is not needed: \
	$(BIN)/python -m pip uninstall torchvision"; exit 1; }

# torch goes first and alone, so that a machine whose pip offers a CPU build of it gets that one.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e '.[dev]'
	@touch $@

# A process per core, each with one thread: threads of several processes would get in each other's way.
test: setup ## run the tests (the slow ones: .venv/bin/python -m pytest -m slow)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: setup ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup ## build the documentation as a site, in build/docs; a warning is an error
	$(BIN)/zensical build --strict --clean

demo: setup ## train the nano generator for a few minutes, and show what changed
	@if [ -f $(RUN)/recipe.yaml ]; then $(BIN)/likewise train --resume $(RUN); \
	else $(BIN)/likewise train stickers-nft-measured-tdw --run-dir $(RUN); fi
	$(BIN)/likewise evaluate $(RUN)

clean: ## remove .venv, caches and builds; runs/ and outputs/ stay
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache build dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
