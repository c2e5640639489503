PYTHON ?= python3
BIN := .venv/bin

BENCH ?=
REF ?= main
K ?=

.PHONY: report test lint types bench bench-compare clean

report: .venv/ready
	$(BIN)/stability suite=default

test: lint types
	$(BIN)/pytest --numprocesses logical --dist worksteal

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/ready
	$(BIN)/mypy

bench: .venv/ready
	mkdir -p runs/benchmarks
	$(BIN)/pytest tests/benchmarks --benchmark-enable --benchmark-columns=min,median,iqr,rounds \
	  --benchmark-json=runs/benchmarks/$$(date +%Y-%m-%d_%H%M%S).json $(BENCH)

bench-compare: .venv/ready
	$(BIN)/stability bench pair '$(REF)' -k '$(K)' $(BENCH)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
