# Every target sets up what it needs in .venv; on a fresh machine only Python 3.11+ and make are required.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE := $(VENV)/.docs

.PHONY: demo test check lint docs browser scripts reliability bounds benchmark-quick clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[cohort,disk,leiden,parquet,slurm,spatialdata]"
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev
	touch $(READY)

demo: $(READY)        ## domains of a simulated cortex, no download: figure, report and result in ./demo
	$(BIN)/stmfg demo -o demo --overwrite

# A file stays on one worker, so that what its tests share is made once; one thread each, as the workers share the cores.
test: $(READY)        ## all tests, offline
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(READY)        ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test      ## what a change must pass

$(SITE): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --group docs
	touch $(SITE)

docs: $(SITE)         ## the site, in docs/_build; runs the code on its pages, and every warning is an error
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

reliability: $(READY) ## hostile input, crashes, many runs, threads, licences; figures in reliability/results.md
	$(BIN)/python -m reliability

bounds: $(READY)      ## the tests with the lowest and the newest versions that pyproject.toml admits
	$(BIN)/python -m reliability.bounds lowest
	$(BIN)/python -m reliability.bounds newest

scripts:              ## the report's JavaScript, checked by ESLint
	@command -v npx >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }
	npx --yes eslint@9 --config tests/eslint.config.mjs src/stmfg/report/templates

browser:              ## Debian's Chromium and its driver, for the report's browser tests
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }

# One seed of three fast peers, the floor and ours; environments of the peers are made on the way.
benchmark-quick: $(READY)   ## needs annotated data in $STMFG_DATA, see docs/benchmark.md
	STMFG_DATA="$${STMFG_DATA:-../shared/data}" $(BIN)/python benchmarks/accuracy.py --seeds 1 \
	  --methods floor default cellcharter nichepca banksy -o benchmarks/results/quick/accuracy.tsv

clean:
	rm -rf $(VENV) benchmarks/.envs docs/_build docs/generated docs/jupyter_execute demo dist .mypy_cache .ruff_cache .pytest_cache
