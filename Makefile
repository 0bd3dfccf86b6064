# Two commands: `make demo` runs the whole loop on simulated data, `make test` passes the tests. Both set everything up first.
PYTHON ?= python3
ARGS ?=
WORKSPACE ?= demo-workspace
BIN := .venv/bin
LABELSTUDIO := .venv-labelstudio
TEMPLATE := $(LABELSTUDIO)/template
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_PYTHON_DOWNLOADS = never
export UV_NO_PROGRESS = 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: demo test trials check setup up down clean help

help:  ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup  ## the whole loop on a simulated laboratory (ARGS=--human, ARGS=--resume, WORKSPACE=folder)
	@$(BIN)/ctcml demo --workspace '$(WORKSPACE)' $(ARGS)

test: setup  ## style, types, architecture and all tests
	@.ci/install-postgres
	@.ci/check

trials: setup  ## the heavy trials, beyond the small sample of each in the tests, and the benches; prints their figures
	@$(BIN)/python -m pytest -m trial -o addopts="" tests
	@$(BIN)/ctcml bench intake
	@$(BIN)/ctcml bench cartridge
	@$(BIN)/ctcml bench train
	@$(BIN)/ctcml bench score
	@$(BIN)/ctcml bench counts
	@$(BIN)/ctcml bench discovery
	@$(BIN)/ctcml bench readings
	@$(BIN)/ctcml bench recount
	@$(BIN)/ctcml bench pages

check: test

up: setup  ## serve Label Studio, MLflow, Prefect and the dashboard on loopback (WORKSPACE=folder)
	@$(BIN)/ctcml up --workspace '$(WORKSPACE)'

down: setup  ## stop what `make up` started
	@$(BIN)/ctcml down --workspace '$(WORKSPACE)'

setup: $(BIN)/.ready $(LABELSTUDIO)/.ready  ## both virtual environments, the server's template, a browser
	@.ci/install-chromium

$(BIN)/.ready: pyproject.toml .ci/constraints.txt
	@echo "setting up .venv (the platform; about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "ctcml needs Python 3.11 or 3.12, $(PYTHON) is another; call make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint .ci/constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint .ci/constraints.txt --editable '.[browser,dev]'
	@touch $@

$(LABELSTUDIO)/.ready: .ci/constraints-labelstudio.txt $(BIN)/.ready
	@echo "setting up $(LABELSTUDIO) (the Label Studio server; about two minutes)"
	@$(PYTHON) -m venv --clear $(LABELSTUDIO)
	@$(BIN)/uv pip install --quiet --python $(LABELSTUDIO)/bin/python --requirement .ci/constraints-labelstudio.txt
	@$(BIN)/ctcml prepare-labelstudio $(LABELSTUDIO)
	@touch $@

clean:  ## remove the demo's workspace and both virtual environments
	@rm -rf .venv $(LABELSTUDIO) demo-workspace
