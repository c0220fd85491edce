# Everything runs in one environment of its own, made by the first target that needs it.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.captum_tgrad-installed

# Tests run in several processes; more threads than cores would only get in each other's way.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## Explain the sample picture: a figure and a map in explained/
	OMP_NUM_THREADS= $(BIN)/captum-tgrad explain --out explained

test: $(INSTALLED)  ## Run the tests and the examples of the documentation
	$(BIN)/python -m pytest -n auto

lint: $(INSTALLED)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and everything that was made
	rm -rf $(VENV) build dist explained *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml setup.cfg
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
