# Every target sets up what it needs: `make demo` and `make test` work on a machine with Python and make alone.
# All paths are relative, so that `make -C "/any path" test` works; `make constraints` resolves, and `make bench-lake`
# what it compares with, nothing else does.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough and can make environments; name another with `make PYTHON=… test`.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c '$(SUITABLE)' >/dev/null 2>&1 && echo "$$python" && break; done)
PIP := .venv/bin/python -m pip --disable-pip-version-check --no-input --quiet
TESTS ?=
ARGUMENTS ?=
MESSAGE ?=

# An environment holds absolute paths, so one that came along in a copied folder is made anew: the stamps name the place.
PLACE := $(shell pwd -P | cksum | cut -d ' ' -f 1)
LOCKED := .venv/.locked-$(PLACE)
READY := .venv/.ready-$(PLACE)
PEERS := .venv-bench/.ready-$(PLACE)

# Or each of the programs that the tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick soak mutants faces revision digests lint types check bench bench-lake notebooks docs wheel constraints clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'

# The stamps are written last: an interrupted set-up leaves none, and the next run starts afresh.
$(LOCKED): constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(SUITABLE)' || { \
		echo "medalion needs Python 3.11 or newer with its venv module, and found none." >&2; \
		echo "Install one (on Debian and Ubuntu with python3-venv), or name it: make PYTHON=/path/to/python3 …" >&2; \
		exit 1; }
	@echo "Setting up .venv with $$("$(PYTHON)" --version): a minute or two, the first time only."
	@rm -rf .venv
	@"$(PYTHON)" -m venv .venv
	@$(PIP) install --no-deps --only-binary :all: --require-hashes -r constraints.txt
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## Run the main job on real data that ships in wheels; leaves medalion-data/
	.venv/bin/medalion demo

test: $(READY)  ## Run every test, with branch coverage (make test TESTS=tests/tree/test_layout.py for a part)
	.venv/bin/python -m pytest --numprocesses 2 --cov --cov-report term $(TESTS)

quick: $(READY)  ## Run the tests that need neither PostgreSQL nor long
	.venv/bin/python -m pytest --numprocesses 2 --quick $(TESTS)

soak: $(READY)  ## Run the tests of ledger and lake at length: 100,000 steps, 700 kills, 10 minutes of all at once
	MEDALION_EXAMPLES=1 MEDALION_LEDGER_STEPS=6 MEDALION_RACE_SECONDS=30 MEDALION_KILLS=200 .venv/bin/python -m pytest \
		tests/machines/test_fold_machine.py tests/machines/test_ledger_machine.py tests/machines/test_trading_races.py tests/machines/test_trading_faults.py
	MEDALION_EXAMPLES=1 MEDALION_LAKE_STEPS=75 MEDALION_SOAK_SECONDS=600 MEDALION_KILLS=500 .venv/bin/python -m pytest \
		tests/machines/test_lake_machine.py tests/machines/test_lake_faults.py tests/machines/test_lake_soak.py
	MEDALION_OPENINGS=100 MEDALION_FLIPS=120 .venv/bin/python -m pytest \
		tests/oltp/embedded/test_opening_again.py tests/store/test_server_comes_back.py tests/olap/test_proof.py
	MEDALION_EXAMPLES=4 .venv/bin/python -m pytest \
		tests/bars/test_kept_histories.py tests/ingest/test_sources.py tests/olap/test_narrow.py

mutants: $(READY)  ## Switch off each rule of the store's protocol, and show that a test notices (ARGUMENTS=12 for rule 12)
	.venv/bin/python -m tests.machines.mutants $(ARGUMENTS)

faces: $(READY)  ## Write the store's typed faces anew from its services and repositories
	.venv/bin/python -m tools.faces

revision: $(READY)  ## Write a revision of the schema from what classes and datasets say (make revision MESSAGE="…")
	@test -n "$(MESSAGE)" || { echo 'Say what changes: make revision MESSAGE="accounts have a colour"' >&2; exit 1; }
	.venv/bin/python -m tools.revisions $(MESSAGE)

digests: $(READY)  ## Note what the newest revision makes, once it was edited
	.venv/bin/python -m tools.revisions

lint: $(READY)  ## Check style with ruff
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(READY)  ## Check types with mypy, strictly
	.venv/bin/mypy

check: lint types test  ## All of the above

bench: $(READY)  ## Measure reads and writes, and compare with the limits
	.venv/bin/python -m benchmarks

# Whatever cannot be installed here is left out, and its rows say so.
$(PEERS): $(READY) pyproject.toml
	@echo "Setting up .venv-bench with the peers of the lake: a minute or two, the first time only."
	@rm -rf .venv-bench
	@.venv/bin/python -m venv .venv-bench
	@.venv-bench/bin/python -m pip --disable-pip-version-check --no-input --quiet install --editable .
	@for peer in $$(.venv/bin/python -c 'import tomllib; \
			print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])'); do \
		.venv-bench/bin/python -m pip --disable-pip-version-check --no-input --quiet install "$$peer" \
			|| echo "$$peer cannot be installed." >&2; \
	done
	@touch $@

bench-lake: $(READY) $(PEERS)  ## Compare the lake with its peers; writes docs/benchmarks.md (ARGUMENTS=--small to try)
	.venv/bin/python -m benchmarks.lake $(ARGUMENTS)

notebooks: $(READY)  ## Run every notebook again, in place
	.venv/bin/jupyter execute --inplace notebooks/*.ipynb

docs: $(READY)  ## Build the site of guides and reference into build/docs; a warning is an error
	.venv/bin/python -m sphinx -W --keep-going --quiet docs build/docs

wheel: $(READY)  ## Build the wheel and the source distribution into dist/
	.venv/bin/python -m hatchling build

constraints: $(READY)  ## Resolve the newest versions into constraints.txt
	$(PIP) install "uv>=0.9"
	.venv/bin/python -m uv pip compile --quiet --universal --upgrade --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11 --only-binary :all: \
		--extra dev --extra docs --output-file constraints.txt pyproject.toml

clean:  ## Remove what the other targets made, but for medalion-data/
	rm -rf .venv .venv-bench build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
