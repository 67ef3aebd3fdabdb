# make train, make test: each sets up what it needs (.venv, locked packages) and is quick again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# "auto": two processes for each processor and two more (tests/conftest.py).
PARALLEL := -n auto

.PHONY: help setup train test test-all test-clusters lint ready kernels bytecode chaos lock clean

help:
	@echo "make train [ARGS=\"--workers 4\"]  train on this machine"
	@echo "make test                        lint, then every feature's tests: some minutes"
	@echo "make test-all                    the same with the long soaks: what CI runs"
	@echo "make test-clusters               with engines for many machines: Ray, where it is installed"
	@echo "make lint                        ruff and mypy"
	@echo "make chaos                       ten minutes of real faults; the bits must not change"
	@echo "make lock                        choose package versions anew"

setup: $(STAMP)

# uv where it is present, else venv and pip. The stamp is made last: a broken set-up starts again.
$(STAMP): requirements.lock
	@if command -v uv >/dev/null 2>&1; then \
		echo "setting up $(VENV) with uv"; \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
	else \
		echo "setting up $(VENV) with pip (a minute or two, once)"; \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r requirements.lock; \
	fi
	@touch $(STAMP)

train: setup
	@$(BIN)/python scripts/train.py $(ARGS)

test: ready
	@$(BIN)/python -m pytest $(PARALLEL) -m "not soak and not cluster" $(ARGS)

test-all: ready
	@$(BIN)/python -m pytest $(PARALLEL) -m "not cluster" $(ARGS)

# One after the other: each starts a cluster on this machine. What is missing is told and skipped.
test-clusters: ready
	@$(BIN)/python -m pytest -m cluster $(ARGS)

lint: setup
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && $(BIN)/mypy

# Two things on two processors: each test process would wait for the kernels, and compile all tests.
ready: setup
	@$(MAKE) --no-print-directory --jobs=2 lint kernels bytecode

kernels: setup
	@MICROGPT_COMPILED_DIR=$(CURDIR)/.compiled $(BIN)/python -c \
		"import microgpt; microgpt.train('embedded', steps=100)" > /dev/null

# Of a clone that is new: the test processes begin at once, and find what one has made before them.
bytecode: setup
	@[ -d tests/__pycache__ ] || $(BIN)/python -m pytest --quiet --collect-only > /dev/null

chaos: setup
	@$(BIN)/python scripts/chaos.py $(ARGS)

lock:
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
		--no-emit-index-url --no-header --upgrade --quiet -o requirements.lock
	@sed -i '1i # Made by "make lock": exact versions and hashes of every package, for every platform.' \
		requirements.lock

clean:
	rm -rf $(VENV) .compiled .mypy_cache .pytest_cache .ruff_cache .hypothesis
