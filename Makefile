PYTHON ?= python3
BIN := .venv/bin

.PHONY: report test lint types clean

report: .venv/ready
	$(BIN)/stability suite=default

test: lint types
	$(BIN)/pytest --numprocesses logical

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/ready
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
