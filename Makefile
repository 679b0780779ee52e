# All the targets need git, make and Python 3.11 or newer; what else they use they set up themselves, in .venv and ./var.

# Ports of `make run`: make run FRONT_PORT=8010 BACK_PORT=8011
FRONT_PORT ?= 8000
BACK_PORT ?= 8001
# More for pytest or the benchmark: make test ARGS="tests/engine -k claim"
ARGS ?=

.PHONY: help run test lint format bench setup setup-run pin clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: setup-run ## start every shop on SQLite, with simulated pizza workers (FRONT_PORT=8000 BACK_PORT=8001)
	@.venv/bin/python scripts/run.py --front-port $(FRONT_PORT) --back-port $(BACK_PORT)

test: setup ## run the whole test suite (ARGS="tests/engine -k claim" for a part)
	@.venv/bin/python -m pytest -n 3 --dist worksteal $(ARGS)

lint: setup ## check format, lint rules and types
	@.venv/bin/ruff format --check
	@.venv/bin/ruff check
	@.venv/bin/mypy src tests scripts $(wildcard bench)

format: setup ## put the code into the house's format and mend what ruff can mend
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

bench: setup ## measure, beside the rivals; figures go to docs/benchmarks.md
	@.venv/bin/python -m bench $(ARGS)

setup: ## make .venv with all that development needs
	@scripts/setup dev

setup-run:
	@scripts/setup run

pin: setup ## renew constraints.txt with the newest versions that fit
	@.venv/bin/python scripts/pin.py

clean: ## remove .venv, caches and ./var (orders included)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist var
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
