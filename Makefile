# make demo | make test | make lint | make docs | make lab | make dashboard | make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint docs lab dashboard pretrained clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## Train and evaluate the surrogate on the bundled sample (about 8 minutes)
	@$(BIN)/seaice-lab pipeline

test: $(VENV)/ready-test  ## Run the tests
	@$(BIN)/python -m pytest -n auto

lint: $(VENV)/ready-test  ## Check style, names and limits of the code, and its formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

docs: $(VENV)/ready-docs  ## Build the documentation, docs/_build/html; a few minutes, offline
	@$(BIN)/python docs/pages.py $(GALLERY)
	@$(BIN)/typer seaice_lab.cli utils docs --name seaice-lab --title "Command line" --output docs/command_line.md
	@rm -rf docs/api
	@$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html
	@echo "open docs/_build/html/index.html"

lab: $(VENV)/ready  ## Open JupyterLab in notebooks/
	@$(BIN)/jupyter lab notebooks

dashboard: $(VENV)/ready  ## Open the dashboard for the runs in runs/
	@mkdir -p runs
	@$(BIN)/seaice-lab dashboard --show

pretrained: $(VENV)/ready  ## Train the bundled networks again, on the sample (2 to 3 hours); replaces them
	@$(BIN)/seaice-lab prepare stores/sample.zarr
	@rm -rf data/pretrained/sample data/pretrained/ensemble runs/pretrained_one_step
	@$(BIN)/seaice-lab train data/pretrained/sample --config data/pretrained/sample.yaml
	@$(BIN)/seaice-lab train runs/pretrained_one_step --config data/pretrained/ensemble_one_step.yaml
	@$(BIN)/seaice-lab train data/pretrained/ensemble --config data/pretrained/ensemble.yaml
	@$(BIN)/seaice-lab calibrate data/pretrained/ensemble

clean:  ## Remove the environment; runs/ and stores/ stay
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Creating $(VENV) failed; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/ready: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	@$(INSTALL) -e ".[test]"
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready
	@$(INSTALL) -e ".[docs]"
	@touch $@
