# A fresh machine needs make and Python. With VENV=DIR on the command line, the environment in DIR
# is used as it is, and nothing is installed into it.

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest test-newest coverage lint docs clean

VENV = .venv
OUT = explained

# The first that runs and is recent enough: a name alone may be a shim for a version not installed.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& { echo $$python; break; }; done)

ifeq ($(origin VENV),file)
ENVIRONMENT := $(VENV)/.installed
endif
RUN = $(VENV)/bin/python -m

# The lower bounds in pyproject.toml, and the first and the last Python that it names.
OLDEST = torch==2.8.0 torchvision==0.23.0 captum==0.9.0
OLDEST_PYTHON ?= python3.10
NEWEST_PYTHON ?= python3.13

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(ENVIRONMENT) ## Install everything into .venv and explain a photo; the figure goes to explained/.
	$(VENV)/bin/captum-tgrad explain --out $(OUT)/

test: $(ENVIRONMENT) ## Run all tests and the examples in the docstrings.
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2

test-oldest: ## Run all tests on the oldest Python, torch and captum that are supported, in .venv-oldest.
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -e ".[test]" $(OLDEST)
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2

test-newest: ## Run all tests on the newest Python, torch and captum, in .venv-newest.
	$(NEWEST_PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --upgrade --upgrade-strategy eager -e ".[test]"
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2

coverage: $(ENVIRONMENT) ## Run all tests and check how much of the package they run.
	OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --cov --cov-report term:skip-covered

lint: $(ENVIRONMENT) ## Check style, formatting, types, spelling and dead code.
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) codespell_lib
	$(RUN) vulture

docs: $(ENVIRONMENT) ## Build the documentation, run every tutorial; the pages are in docs/_build/html.
	PATH="$(abspath $(VENV))/bin:$$PATH" $(RUN) sphinx -W --keep-going -b html docs docs/_build/html

clean: ## Remove the environment and everything that was built or drawn.
	rm -rf .venv .venv-oldest .venv-newest $(OUT) compared sanity-check docs/_build docs/generated docs/tutorials build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
	find captum_tgrad tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an installation that broke off is made again.
.venv/.installed: pyproject.toml setup.cfg
	@test -n "$(PYTHON)" || { echo "no Python 3.10 or later found: give one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -e ".[dev]"
	@# Tests compare with Quantus. It asks for opencv-python, which would replace the headless one.
	.venv/bin/python -m pip install --no-deps quantus==0.6.0
	@touch $@
