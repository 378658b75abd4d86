# `make help` lists the targets; a machine needs only make and Python 3.10 to 3.13 with venv.
#
# pip installs the torch build that its index offers, which on Linux may be the large CUDA one. For
# the CPU build, put it there first: `python3 -m venv .venv`, then `.venv/bin/pip install
# torch==2.13.0 --index-url URL` with the URL of PyTorch's CPU wheels. The pin accepts both builds.

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
# Files as wholes, since tests of one share what is dear to make, in the order of tests/conftest.py.
SHARE = -n $(JOBS) --dist loadfile --no-loadscope-reorder
BIN = .venv/bin
INSTALLED = .venv/.installed
TOOLS = .venv/.tools
OLDEST = .venv-oldest

.DEFAULT_GOAL = help
.PHONY: help install train test fast fast-oldest lint format docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

install: $(TOOLS) ## install the package and its tools into .venv

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[video]'
	@touch $@

# Apart, since training needs none of the peers, oracles and clusters that the tests compare with.
$(TOOLS): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[check,docs,test]'
	@touch $@

train: $(INSTALLED) ## train NTKMTL on MT10, quick preset; ARGS='--seed 4' overrides and adds
	$(BIN)/train_mt10 --method ntkmtl --seed 3 --config mt10_quick --precision auto $(ARGS)

test: $(TOOLS) ## run all tests, JOBS=2 files at a time
	$(BIN)/python -m pytest $(SHARE) tests

fast: $(TOOLS) ## run the tests that take seconds
	$(BIN)/python -m pytest $(SHARE) tests -m 'not slow'

# Old releases use what newer ones of their own dependencies, which are not held back, deprecate.
fast-oldest: $(TOOLS) ## run them on the oldest versions admitted; ARGS, see scripts.lower_bounds
	test -x $(OLDEST)/bin/python || $(BIN)/python -m venv $(OLDEST)
	$(BIN)/python -m scripts.lower_bounds $(ARGS) > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install -c $(OLDEST)/constraints.txt -e '.[test]'
	$(OLDEST)/bin/python -m pytest $(SHARE) tests -m 'not slow' \
		-W ignore::DeprecationWarning

lint: $(TOOLS) ## check style, format, types, import layers and the links of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs: $(TOOLS) ## show the documentation site, anew whenever a page changes
	$(BIN)/mkdocs serve

format: $(TOOLS) ## format the code and sort the imports
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## measure the cost of an update into bench_update.json
	$(BIN)/python -m scripts.benchmarks.update --json bench_update.json

clean: ## remove caches and build outputs; runs and .venv stay
	rm -rf build dist site ./*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache bench_update.json
	find mtrl_ntk scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
