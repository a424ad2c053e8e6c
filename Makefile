# Two commands set up everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11 or newer and make, nothing else; all goes into the checkout.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test check format bench soak clients convergence crash fuzz model model-policies proto lock clean

help:
	@echo "make demo     a shared to-do list in two browser tabs, on an embedded Postgres"
	@echo "make test     every test: unit, integration, interop with the stock npm client"
	@echo "make check    lint, types, import directions, and the fast tests"
	@echo "make bench    the benchmarks, as ratios; writes docs/benchmarks.md"
	@echo "make soak     2,000 clients that come, go and write for SOAK_SECONDS (1,800), compared with Postgres at the end"
	@echo "make fuzz     hostile tokens and keys for FUZZ_SECONDS (600)"
	@echo "make crash    kills service and Postgres CRASHES (50) times while clients write"
	@echo "make clients  three stock clients with random shapes for CLIENTS_SECONDS (300)"
	@echo "make convergence  clients and SQL sessions that write to the same rows, CONVERGENCE_OPERATIONS (100,000) times"
	@echo "make model    random shapes, SQL and connections against Postgres' own answers, for MODEL_STEPS (200,000)"
	@echo "make model-policies  the same with roles, policies and claims that change, for MODEL_STEPS (200,000)"
	@echo "make clean    removes what the other targets made"

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Python packages: installing"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: .venv/.installed
	@$(BIN)/python scripts/node_setup.py

demo: install
	@exec $(BIN)/leyden demo

# Tests that measure times come first, when nothing else runs.
TEST_PROCESSES ?= 2
test: install
	@status=0; $(BIN)/python -m pytest -m alone || status=1; \
	    $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not alone" || status=1; exit $$status

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	FUZZ_SHARE_SECONDS=4 $(BIN)/python -m pytest tests/unit

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# FIGURES="sending latency" measures these alone, and leaves the page as it is; PROFILES=DIR keeps profiles of the services.
bench: .venv/.installed
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(FIGURES) $(if $(PROFILES),--profiles $(PROFILES))

# SOAK_CLIENTS=N takes other than 2,000. The exit status says whether it held.
SOAK_SECONDS ?= 1800
soak: .venv/.installed
	@SOAK_SECONDS=$(SOAK_SECONDS) PYTHONPATH=tests $(BIN)/python -m benchmarks.soak

# FUZZ_SEED=N repeats a run, FUZZ_TARGET=NAME keeps to one entrance, FUZZ_CASE=NAME tries the case of a finding again.
FUZZ_SECONDS ?= 600
fuzz: .venv/.installed
	@PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED)) \
	    $(if $(FUZZ_TARGET),--target $(FUZZ_TARGET)) $(if $(FUZZ_CASE),--case $(FUZZ_CASE))

# Three stock clients against random changes. CLIENTS_SEED=N draws the same steps again.
CLIENTS_SECONDS ?= 300
clients: install
	@CLIENTS_SECONDS=$(CLIENTS_SECONDS) $(if $(CLIENTS_SEED),CLIENTS_SEED=$(CLIENTS_SEED)) \
	    $(BIN)/python -m pytest tests/interop/test_random_shapes.py -s

# CONVERGENCE_SEED=N draws the same writes again.
CONVERGENCE_OPERATIONS ?= 100000
CONVERGENCE_SECONDS ?= 300
convergence: install
	@CONVERGENCE_OPERATIONS=$(CONVERGENCE_OPERATIONS) CONVERGENCE_SECONDS=$(CONVERGENCE_SECONDS) $(if $(CONVERGENCE_SEED),CONVERGENCE_SEED=$(CONVERGENCE_SEED)) \
	    $(BIN)/python -m pytest -s tests/integration/test_convergence.py tests/interop/test_stock_convergence.py

# CRASH_SEED=N repeats the choice of moments and victims.
CRASHES ?= 50
crash: install
	@CRASHES=$(CRASHES) $(BIN)/python -m pytest tests/interop/test_crashes.py -s

# Several at once, as each waits most of the time. MODEL_SEED=N repeats what one of them drew, though not the moments at
# which things happen.
MODEL_STEPS ?= 200000
MODEL_WORKERS ?= $(if $(MODEL_SEED),1,4)
model: .venv/.installed
	@seq $(MODEL_WORKERS) | MODEL_STEPS=$$(($(MODEL_STEPS) / $(MODEL_WORKERS))) \
	    $(if $(MODEL_SEED),MODEL_SEED=$(MODEL_SEED)) xargs -P $(MODEL_WORKERS) -I WORKER \
	    $(BIN)/python -m pytest -s -p no:cacheprovider --basetemp=.pytest_tmp/WORKER tests/integration/test_shapes_model.py

model-policies: .venv/.installed
	@seq $(MODEL_WORKERS) | POLICIES_MODEL_STEPS=$$(($(MODEL_STEPS) / $(MODEL_WORKERS))) \
	    $(if $(MODEL_SEED),POLICIES_MODEL_SEED=$(MODEL_SEED)) xargs -P $(MODEL_WORKERS) -I WORKER \
	    $(BIN)/python -m pytest -s -p no:cacheprovider --basetemp=.pytest_tmp/WORKER tests/integration/test_policies_model.py

# The generated protocol classes are checked in; a test regenerates and compares them.
proto: .venv/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I src/leyden/satellite \
	    --python_out=src/leyden/satellite --mypy_out=src/leyden/satellite satellite.proto

lock: .venv/.installed
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra dev --no-emit-index-url \
	    --no-emit-find-links --no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv node_modules .leyden .pytest_cache .pytest_tmp .mypy_cache .ruff_cache .hypothesis .import_linter_cache build
	rm -rf src/leyden/demo/page src/leyden.egg-info
