# `make run` needs only Python (3.11 or newer) and make. Everything else sets itself up and says so.
VENV ?= .venv
BIN := $(VENV)/bin
export VENV

.DEFAULT_GOAL := help
.PHONY: help run test check lint format bench bench-js soak protocol clean system npm

help:
	@echo "make run     start a node with the order board (ARGS=... go to syncd serve in place of --demo)"
	@echo "make test    set up and run every test, with coverage gates"
	@echo "make check   format, lint, types, floors, then make test"
	@echo "make format  rewrite the sources in the house's format"
	@echo "make bench   measure speed and memory (results in bench/results)"
	@echo "make bench-js  measure the JavaScript client, against its limits"
	@echo "make protocol  rewrite the tables of SPEC.md, the vectors and the TypeScript types"
	@echo "make soak    the long tests: minutes to hours"

run:
	@scripts/venv.sh run
	@key=$${SYNCD_API_KEY:-$$(scripts/dev_key.sh)}; \
	echo "API key, for another terminal: export SYNCD_API_KEY=$$key"; \
	SYNCD_API_KEY=$$key exec $(BIN)/syncd serve $(or $(ARGS),--demo)

system:
	@scripts/system_packages.sh

# The browser driver of the end-to-end tests and the tools of the JavaScript client; npm only when a lock changed.
npm: tests/e2e/node_modules/.stamp clients/js/node_modules/.stamp

%/node_modules/.stamp: %/package-lock.json | system
	@echo "Installing the npm packages of $*"
	@cd $* && npm ci --silent --no-audit --no-fund
	@touch $@

test: system npm
	@scripts/venv.sh dev
	@$(BIN)/python -m scripts.run_tests

lint:
	@scripts/venv.sh dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m scripts.lint_async
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test

format:
	@scripts/venv.sh dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench:
	@scripts/venv.sh bench
	$(BIN)/python -m bench $(ARGS)

bench-js: npm
	cd clients/js && npm run --silent bench

soak: system npm
	@scripts/venv.sh dev
	$(BIN)/python -m pytest tests -m soak -s -o faulthandler_timeout=0 $(ARGS)

protocol:
	@scripts/venv.sh run
	$(BIN)/python -m scripts.make_vectors
	$(BIN)/python -m scripts.make_traces
	$(BIN)/python -m scripts.spec_tables
	$(BIN)/python -m scripts.ts_types

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/e2e/node_modules clients/js/node_modules clients/js/dist
