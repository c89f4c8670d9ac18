# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
# What is fetched and built on the way is three times what is installed, and is not left in anybody's home.
UV_CACHE := $(VENV)/.uv-cache
UV := UV_CACHE_DIR=$${UV_CACHE_DIR:-$(UV_CACHE)} $(VENV)/bin/uv
NATIVE := pipeline/ledger/_fold
EXIT ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak proof weeks check bench gen lock clean

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready ## Make the virtual environment with every dependency, pinned and checked by hash

$(VENV)/.ready: requirements.lock requirements-uv.lock pyproject.toml setup.py $(NATIVE).c
	@command -v python3 >/dev/null || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv"; exit 1; }
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(UV) pip install --quiet --python $(PY) --require-hashes -r requirements.lock
	rm -f $(NATIVE).*.so # of other source, should no compiler be found now
	$(UV) pip install --quiet --python $(PY) --no-deps --reinstall-package spillway --editable .
	rm -rf $(UV_CACHE)
	@touch $@

demo: setup ## Start everything, send a month of real flights through both doors, print the verdict (EXIT=1 stops afterwards)
	$(VENV)/bin/spillway demo $(if $(EXIT),--exit) $(ARGS)

test: setup ## Run the tests, but for those of soak and proof
	$(PY) -m pytest $(ARGS)

soak: setup ## Run the tests that take longer: every process killed under load, three seeds; a whole outage; canary, ledger, Spark, console live; ...
	$(PY) -m pytest -m slow $(ARGS)

proof: setup ## Prove the alerts: pages on a live stack, watchers that hang, 100,000 escalations, outages at any phase, weeks without a page
	$(PY) -m pytest -m proof $(ARGS)

weeks: setup ## A hundred simulated healthy weeks through the real rules (hours; goes on where it was stopped)
	$(PY) -m alerts.proof weeks --weeks 100 --jobs 2 --done .cache/weeks.jsonl $(ARGS)

check: setup ## Format, lint, types, layers, schema
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pipeline.schema.lint

bench: setup ## Measure, as ratios within one run
	$(PY) -m loadtests.bench $(ARGS)

gen: setup ## Make the stubs of every language from proto/
	$(PY) -m pipeline.schema.compile
	$(PY) clients/generate.py

lock: ## Resolve pyproject.toml again into the lock files
	$(UV) pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
	echo "uv==$$($(VENV)/bin/uv --version | cut -d' ' -f2)" | $(UV) pip compile --quiet --generate-hashes --no-emit-index-url - -o requirements-uv.lock

clean: ## Remove what was installed and what local stacks left (not your events elsewhere)
	rm -rf $(VENV) .cache .spillway build *.egg-info $(NATIVE).*.so
