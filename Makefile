# make demo | make test | make lab | make dashboard | make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lab dashboard pretrained clean
.DEFAULT_GOAL := help

help:  ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## Train and evaluate the surrogate on the bundled sample (about 8 minutes)
	@$(BIN)/seaice-lab pipeline

test: $(VENV)/ready-test  ## Pass the tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup

lab: $(VENV)/ready  ## Open JupyterLab in notebooks/
	@$(BIN)/jupyter lab notebooks

dashboard: $(VENV)/ready  ## Browse the runs in runs/ in the browser
	@mkdir -p runs
	@$(BIN)/seaice-lab dashboard --show

pretrained: $(VENV)/ready  ## Train the network that ships with the project anew
	@$(BIN)/seaice-lab prepare stores/sample.zarr
	@rm -rf data/pretrained/sample
	@$(BIN)/seaice-lab train data/pretrained/sample --config data/pretrained/sample.yaml

clean:  ## Remove the environment and everything that was made
	rm -rf $(VENV) runs stores

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Creating $(VENV) failed; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/ready: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	@$(INSTALL) -e ".[test]"
	@touch $@
