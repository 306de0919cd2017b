# The whole developer interface. On a fresh machine `make demo` and `make test` are enough: both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup demo test test-all check bench bench-bootstrap docs assets screenshots

setup: $(READY)

# PIP_CONSTRAINT reaches what pip builds with, too.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/aligner demo

# Three workers on two cores, as half of their time is waiting, with a thread each, so that they do not get in the way.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 -m "not slow" --session-timeout 720 --cov --cov-report term

test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --cov --cov-report term

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/pyright --project .
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet && $(BIN)/python tools/sizes.py

bench: $(READY)
	for claim in $$(grep -l __main__ benchmarks/*.py); do $(BIN)/python "$$claim" --quick || exit 1; done

# The studies of bootstrapping, stacking and other ways: each goes on where it was interrupted, and prints its time.
bench-bootstrap: $(READY)
	for study in sft-dpo naive ways weak-to-strong; do \
	  $(BIN)/python benchmarks/bootstrap.py --study $$study || exit 1; done
	$(BIN)/python benchmarks/stacking.py
	$(BIN)/python benchmarks/other_ways.py --reward runs/upstreams/judge/model

docs: $(READY)
	$(BIN)/pytest tests/test_docs.py

# The two small checkpoints in src/aligner/assets, made again: about twenty minutes.
assets: $(READY)
	$(BIN)/python tools/make_assets.py

# Pictures of all pages, to look at.
screenshots: $(READY)
	$(BIN)/python tools/screenshots.py
