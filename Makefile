# One line each; every target makes its own .venv first. PYTHON=python3.12 make test picks another Python.
PYTHON ?= python3
BIN := .venv/bin
# Two files of tests at a time, of a thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all check bench
demo: .venv/ready ; $(BIN)/geoloc demo
test: .venv/dev-ready ; $(PYTEST)
test-all: .venv/dev-ready ; $(PYTEST) -m "slow or not slow"
check: .venv/dev-ready ; $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
bench: .venv/dev-ready ; @for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || failed="$$failed $$bench"; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

.venv/ready: pyproject.toml ; $(PYTHON) -m venv .venv && $(BIN)/pip install -q -e . && touch $@
.venv/dev-ready: .venv/ready ; $(BIN)/pip install -q -e ".[dev]" && touch $@
