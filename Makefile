# Every target does all the set-up that it needs, once: the stamp says that `.venv` is complete.
#   PYTHON=     interpreter to make .venv with (default: the first of python3, python3.13, ... >= 3.11)
#   PIP_ARGS=   passed to pip install at set-up
#   PYTEST_ARGS= passed to pytest, e.g. make test PYTEST_ARGS="tests/optim -k adam"
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-ray lint format docs bench clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.downslope-ready
PYTHON ?=
PIP_ARGS ?=
PYTEST_ARGS ?=

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

venv: $(STAMP)  ## set up .venv (once; the other targets do it by themselves)

$(STAMP): pyproject.toml constraints.txt scripts/setup.py
	@python=$$(sh scripts/find_python.sh "$(PYTHON)") && "$$python" scripts/setup.py $(VENV) $(PIP_ARGS)

demo: $(STAMP)  ## a failing training run: fitted, diagnosed, repaired, proved
	@$(BIN)/python -m downslope demo

# One thread in each of the test processes: fastest on few cores. Only the plug-ins named here are loaded, so that
# an environment which lends its torch cannot change the tests.
PYTEST := -n auto --maxprocesses 8 --dist worksteal --disable-plugin-autoload -p xdist -p hypothesispytest

test: lint  ## the linters, then the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST) $(PYTEST_ARGS)

# Ray is 79 MB to load and 240 MB on the disk: it comes with the first call, and the other targets do without.
test-ray: $(STAMP)  ## install Ray, and kill workers, nodes and the head of clusters of it (5 minutes)
	@$(BIN)/python -c "import ray" 2>/dev/null || $(BIN)/python -m pip install --constraint constraints.txt ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --disable-plugin-autoload -m slow tests/tuning/test_many_machines.py $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff, pyright (strict on src), import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## write docs/concepts.md from docs/concepts.toml, and the limits in docs/symptoms from the code
	$(BIN)/python -m downslope.reporting.concepts docs/concepts.md
	$(BIN)/python -m scripts.symptoms

bench: $(STAMP)  ## the measurements under bench/, one after another
	@for file in bench/*.py; do [ -e "$$file" ] || continue; echo "== $$file"; $(BIN)/python "$$file" || exit 1; done
	@echo "== bench/diagnosis (a sample; all of it takes hours: bench/diagnosis/README.md)"
	@$(BIN)/python -m bench.diagnosis --half report --limit 60 --quiet

clean:  ## remove .venv and every cache
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
