# One command per job; each sets up what it needs, and is quick the second time.
#
#   make PYTHON=/path/to/python3.13 test    to choose the interpreter (3.11 or newer)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Asked only when the environment is made. python3 first, then any newer one by its own name.
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$candidate" -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo "$$candidate"; break; }; done; true)

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
# The project itself: editable, with the build backend of the lock, so that nothing is resolved or built apart.
INSTALL_PROJECT := $(PIP_INSTALL) --no-deps --no-build-isolation --editable .

RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev
BENCH_READY := $(VENV)/.ready-bench

.PHONY: help demo test check generate bench toxiproxy setup lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(RUN_READY) ## KV plugins in processes of their own: killed, frozen, restarted; no call lost (30 s)
	@PYTHONPATH=examples/kv:examples/kv/gen exec $(BIN)/python examples/kv/demo.py

test: $(DEV_READY) ## all tests; ARGS='-k name' passes arguments on to pytest
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: simulate mutants

simulate: $(DEV_READY) ## the simulations in virtual time with a thousand seeds (15-30 min); SEED=7 for one of them
	@SEEDS=$${SEEDS:-1000} $(BIN)/python -m pytest tests/simulation $(ARGS)

MUTANTS_READY := $(VENV)/.ready-mutants

mutants: $(MUTANTS_READY) ## would the tests notice? mutation tests of the machines (10-60 min); ARGS='retry bulkhead'
	@$(BIN)/python tools/mutants.py $(ARGS)

$(MUTANTS_READY): requirements/mutants.txt | $(DEV_READY)
	@$(PIP_INSTALL) --require-hashes -r requirements/mutants.txt
	@touch $@

CHECKS := check-format check-lint check-mypy check-pyright check-imports check-generated
.PHONY: $(CHECKS)

check: $(CHECKS) ## format, lint, types (mypy, pyright), import arrows, generated code; `make -k check` goes on

check-format: $(DEV_READY)
	$(BIN)/ruff format --check .

check-lint: $(DEV_READY)
	$(BIN)/ruff check .

check-mypy: $(DEV_READY)
	$(BIN)/mypy

check-pyright: $(DEV_READY)
	$(BIN)/pyright

check-imports: $(DEV_READY)
	$(BIN)/lint-imports --no-logo

check-generated: $(DEV_READY)
	@fresh="$$(mktemp -d)"; trap 'rm -rf "$$fresh"' EXIT; status=0; \
	compare() { \
		$(BIN)/connectplugin generate "$$1" --out "$$fresh/$$2" >/dev/null; \
		diff -ru --exclude=__pycache__ "$$2" "$$fresh/$$2" || status=1; \
	}; \
	compare proto connectplugin/_gen; \
	compare interceptors/proto interceptors/connectplugin_interceptors/_gen; \
	compare chaos/proto chaos/connectplugin_chaos/_gen; \
	compare examples/kv/proto examples/kv/gen; \
	compare tests/protos tests/gen; \
	if [ $$status = 0 ]; then echo "generated code: up to date"; \
	else echo "generated code differs from the .proto files: run 'make generate' and commit" >&2; fi; \
	exit $$status

generate: $(DEV_READY) ## write all generated code anew from the .proto files
	$(BIN)/connectplugin generate proto --out connectplugin/_gen
	$(BIN)/connectplugin generate interceptors/proto --out interceptors/connectplugin_interceptors/_gen
	$(BIN)/connectplugin generate chaos/proto --out chaos/connectplugin_chaos/_gen
	$(BIN)/connectplugin generate examples/kv/proto --out examples/kv/gen
	$(BIN)/connectplugin generate tests/protos --out tests/gen
	$(BIN)/connectplugin-chaos list --claims > chaos/CLAIMS.md
	$(BIN)/python -m connectplugin_chaos.report.model > chaos/connectplugin_chaos/report/report.schema.json

bench: $(BENCH_READY) ## what the chain costs per call, as ratios, beside a floor, other libraries and grpc.aio (2 min)
	@PYTHONPATH=examples/kv/gen exec $(BIN)/python -m benchmarks $(ARGS)

TOXIPROXY := .tools/bin/toxiproxy-server

toxiproxy: $(TOXIPROXY) ## build toxiproxy v2.12.0, which the chaos harness drives, with Go 1.24 or newer (1-2 min)

# `-C` first; `-o` is relative to it. Without the hashes of go.sum the build stops.
$(TOXIPROXY): tools/toxiproxy/go.mod tools/toxiproxy/go.sum
	GOTOOLCHAIN=local CGO_ENABLED=0 go build -C tools/toxiproxy -mod=readonly -trimpath \
		-ldflags '-s -w -X github.com/Shopify/toxiproxy/v2.Version=2.12.0' \
		-o ../../$(TOXIPROXY) github.com/Shopify/toxiproxy/v2/cmd/server
	@touch $@

# SCENARIO='C1 A4' names what to run; ARGS passes the rest on: ARGS='--minus budget --seeds 7,11'.
CHAOS := exec $(BIN)/connectplugin-chaos run
.PHONY: chaos chaos-smoke chaos-full

chaos: $(DEV_READY) $(TOXIPROXY) ## break network and processes on purpose: the core scenarios (10 min)
	@$(CHAOS) $(if $(SCENARIO),$(SCENARIO),--tier core) $(ARGS)

chaos-smoke: $(DEV_READY) $(TOXIPROXY) ## the same, the most telling ones (2 min)
	@$(CHAOS) --tier smoke $(ARGS)

chaos-full: $(DEV_READY) $(TOXIPROXY) ## the same, all of them
	@$(CHAOS) --tier full $(ARGS)

.PHONY: chaos-sabotage

chaos-sabotage: $(DEV_READY) $(TOXIPROXY) ## our stack broken on purpose: does the harness notice? (2 min)
	@$(CHAOS) --sabotage all $(ARGS)

setup: $(DEV_READY) ## the whole environment, to work on the project

lock: ## resolve the lock files anew from pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found: set PYTHON=..." >&2; exit 1; }
	test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv; }
	build/lock/bin/uv pip compile $(LOCK_OPTIONS) --group build --output-file requirements/run.txt pyproject.toml
	build/lock/bin/uv pip compile $(LOCK_OPTIONS) --group dev --extra codegen --extra chaos \
		--constraints requirements/run.txt --output-file requirements/dev.txt pyproject.toml
	build/lock/bin/uv pip compile $(LOCK_OPTIONS) --constraints requirements/dev.txt \
		--output-file requirements/mutants.txt requirements/mutants.in
	build/lock/bin/uv pip compile $(LOCK_OPTIONS) --constraints requirements/dev.txt \
		--output-file requirements/bench.txt requirements/bench.in

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

clean: ## remove the environment and everything that tools left behind
	rm -rf $(VENV) .tools build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "make: no usable Python 3.11 or newer found (with venv and pip; on Debian that is the package" \
			"python3-venv): install one, or say make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "make: $(PYTHON) is too old or has no venv module; Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)" >&2
	@$(PYTHON) -m venv $(VENV)

$(RUN_READY): requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing what running needs (requirements/run.txt)" >&2
	@$(PIP_INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(BENCH_READY): requirements/bench.txt | $(DEV_READY)
	@echo "installing what the benchmarks measure beside, and draw with (requirements/bench.txt)" >&2
	@$(PIP_INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

$(DEV_READY): requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing what development needs (requirements/dev.txt)" >&2
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL_PROJECT)
	@touch $(RUN_READY) $@
