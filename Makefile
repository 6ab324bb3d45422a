# Everything runs from a fresh clone with Python 3.11 or newer: no database, no keys, no Docker.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

.PHONY: install demo test test-hosts test-web test-examples test-scale fire lint docs help bench bench-calls bench-web bench-runs lock clean

# uv itself comes from the package index, pinned with its hash.
$(UV): requirements-uv.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	@touch $(UV)

$(VENV)/.demo: $(UV) requirements-demo.lock pyproject.toml
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements-demo.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.all: $(UV) requirements.lock pyproject.toml
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

install: $(VENV)/.all  ## .venv with every extra that can share one environment

demo: $(VENV)/.demo  ## analyse the sample bill, without a key
	LLM_COMMON_STATE_DIR=$${LLM_COMMON_STATE_DIR:-.cache/demo} $(BIN)/llm-common demo

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint  ## every check: style, types, layers, tests, coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term

test-hosts: $(VENV)/.all  ## what a host sees: submodule, plain pip, poetry, wheel, fresh clones
	$(BIN)/python -m pytest -m hosts --timeout 600 tests/hosts

test-web: $(VENV)/.all  ## a real browser, kills on a site of 2,000 pages, a comparison with crawl4ai (about two minutes)
	$(BIN)/python -m pytest -m web --timeout 600 tests/crawling tests/cli tests/integrations

test-examples: $(VENV)/.all  ## two hosts on their whole way to the library, under load, and the plan's figures
	$(BIN)/python -m pytest -m examples --timeout 600 -s tests/examples

test-scale: $(VENV)/.all  ## kills, crashes and faults for two minutes, a rolling deploy, 10,000 rows, a million rows of a table, the enrichment of 478 people
	$(BIN)/python -m pytest -m scale --timeout 900 -s tests/scale tests/enrichment

fire: $(VENV)/.all  ## money under fire: eight processes, kills, an outage; the ledger beside the invoice
	$(BIN)/python -m pytest -m fire --timeout 600 -s tests/fire

docs: $(VENV)/.all  ## the documentation as a site, in site/
	$(BIN)/mkdocs build --strict

help: $(VENV)/.all  ## write the commands' help texts into docs/cli.md
	$(BIN)/python scripts/cli_help.py

bench: bench-calls bench-web bench-runs  ## everything that is measured beside the peers (about 27 minutes)

bench-calls: $(VENV)/.all  ## import time, calls beside the peers, 1,000 streams, 100,000 calls, a rollout (about ten minutes)
	$(BIN)/python scripts/import_time.py
	$(BIN)/python scripts/peers.py
	$(BIN)/python scripts/endurance.py
	$(BIN)/python scripts/rollout_bench.py

bench-web: $(VENV)/.all  ## searches from the cache, extraction, crawls, 2,000 pages by browser (about 15 minutes)
	$(BIN)/python scripts/extract_bench.py
	$(BIN)/python scripts/search_bench.py
	$(BIN)/python scripts/crawl_bench.py
	$(BIN)/python scripts/browser_bench.py

bench-runs: $(VENV)/.all  ## 10,000 rows beside the ideal time, small steps beside a queue written by hand (two minutes)
	mkdir -p .cache
	$(BIN)/python scripts/runs_bench.py .cache/runs_bench.json

lock: $(UV)  ## resolve again, with hashes and without an index address
	sh scripts/lock.sh $(UV)

clean:
	rm -rf $(VENV) .cache site .coverage* .pytest_cache .ruff_cache
