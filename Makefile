# Two commands matter: `make demo` and `make test`. Each sets up everything it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COVERED ?= tests
JOBS ?= $(shell nproc)
SETUP := $(VENV)/.installed
DEV_SETUP := $(VENV)/.installed-dev
# Without the longest module, which takes minutes by itself.
SHAPED_TESTS := $(addprefix tests/unit/,certify data device engine mapping montecarlo onnx_io search twin \
	twin_trials/test_near_ties.py \
	$(addprefix training/test_,authors_score.py devices.py interval_bound.py methods.py objective.py)) \
	--deselect tests/unit/certify/test_soundness.py --deselect tests/unit/search/test_ensemble.py
NATIVE_SOURCES := $(shell find native -type f)

# Benchmarks are held to what the package has, not to full annotations.
UNCHECKED := type-arg no-untyped-def no-untyped-call misc no-any-return import-not-found var-annotated arg-type type-var union-attr

.DEFAULT_GOAL := help
# What takes more than ten seconds by itself, or starts processes; `make test` runs it.
SLOW_UNIT_TESTS := certify/test_soundness.py search/test_ensemble.py training/test_equivalent_tolerance.py \
	test_mlflow_logging.py test_pytest_plugin.py test_shapes.py certificate/test_extras.py \
	cluster/test_job_queue.py cluster/test_spread.py cluster/test_workers.py engine/test_opening_peak.py \
	twin/test_library.py
.PHONY: help check coverage demo test test-native test-shapes lint lint-native format docs reference bench reports samples wheel-check clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(SETUP): $(VENV)/bin/python pyproject.toml constraints.txt $(NATIVE_SOURCES)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(DEV_SETUP): $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	touch $@

demo: $(SETUP) ## Certify the digits network that is shipped with the package
	$(BIN)/cimrobust demo --out out/demo

test: $(DEV_SETUP) ## Run the Python tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: $(DEV_SETUP) ## Run the quick unit tests alone
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal tests/unit $(addprefix --ignore=tests/unit/,$(SLOW_UNIT_TESTS))

test-shapes: $(DEV_SETUP) ## Run unit tests with the shapes and types of all annotations checked
	CIMROBUST_CHECK_SHAPES=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(SHAPED_TESTS)

coverage: $(DEV_SETUP) ## Measure which lines the Python tests run (takes twice as long as `make test`)
	rm -rf out/coverage && mkdir -p out/coverage
	$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist worksteal $(COVERED)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --show-missing --skip-covered

test-native: $(DEV_SETUP) ## Run the C++ tests under the address and undefined-behaviour sanitizers
	PATH="$(CURDIR)/$(BIN):$$PATH" native/test.sh

lint: lint-native $(DEV_SETUP) ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests/benchmarks $(BIN)/mypy --explicit-package-bases $(addprefix --disable-error-code ,$(UNCHECKED)) tests/benchmarks
	$(BIN)/lint-imports

lint-native: $(DEV_SETUP) ## Check layout and mistakes of the C++ code
	PATH="$(CURDIR)/$(BIN):$$PATH" native/lint.sh

format: $(DEV_SETUP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	PATH="$(CURDIR)/$(BIN):$$PATH" native/lint.sh --fix

docs: $(DEV_SETUP) ## Build the docs in out/docs and check their links
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs out/docs

reference: $(DEV_SETUP) ## Write the reference pages again from the code
	$(BIN)/python docs/generate.py

bench: $(DEV_SETUP) ## Measure the performance goals (minutes)
	$(BIN)/python -m pytest -s tests/benchmarks/bench_help.py tests/benchmarks/bench_programming.py
	$(BIN)/python tests/benchmarks/bench_trials.py
	$(BIN)/python native/bench/bench_kernel.py

reports: $(SETUP) ## Make the example certificates again
	$(BIN)/cimrobust demo --out out/reports/digits_cnn
	$(BIN)/cimrobust analyze samples/breast_cancer_mlp.onnx --data samples/breast_cancer_mlp.toml \
		--policy samples/policies/strict.toml --out out/reports/breast_cancer_mlp
	for name in digits_cnn breast_cancer_mlp; do mkdir -p reports/$$name && cp out/reports/$$name/certificate.* reports/$$name/; done

samples: $(DEV_SETUP) ## Train the sample networks again
	$(BIN)/python samples/train_samples.py

wheel-check: ## Build the wheel, install it where there is no compiler, run the demo (minutes)
	$(PYTHON) .ci/check_wheel.py

clean: ## Remove everything that was built
	rm -rf $(VENV) build dist out
