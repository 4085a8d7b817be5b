# The verbs of this repository. `make` alone lists them; each sets up all that it needs.

PYTHON ?= python3.11
# Where pip takes torch from besides its usual index: the wheel index that pytorch.org's install selector prints,
# for a CPU build (…/whl/cpu) or one for a CUDA release (…/whl/cu130). Empty: whatever pip offers by itself.
TORCH_INDEX ?=
# Further arguments for the command behind a target, for example: make loadtest ARGS='--users 64'
ARGS ?=
# Docker's compose plugin where it is installed, else the docker-compose program (1.29 or later).
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup build models demo serve loadtest bench test lint check format up down test-compose clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip 25.1 is the first that installs dependency groups; the stamp makes set-up a matter of milliseconds afterwards.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --group dev
	@touch $@

setup: $(READY) ## make .venv with all pinned dependencies

build: $(READY) ## train, prove and publish the models that have no version yet
	$(PY) -m tools.export --missing $(ARGS)

# What other targets need of it: ARGS is theirs then.
models: $(READY)
	@$(PY) -m tools.export --missing

demo: $(READY) ## the whole way: train, export, serve, classify, load-test; last line is JSON
	@$(PY) -m tools.demo $(ARGS)

serve: models ## serve the repository on 127.0.0.1:8000 (HTTP), 8001 (gRPC), 8002 (metrics)
	@$(PY) -m tools.serve $(ARGS)

loadtest: models ## load-test every model over HTTP and gRPC; report in build/loadtest
	@$(PY) -m tools.serve --http-port 0 --grpc-port 0 --metrics-port 0 --run "$(PY) -m loadtest.run $(ARGS)"

bench: build ## served inferences per second beside the in-process limit
	@$(PY) -m tools.bench_backend $(ARGS)

# The long files first, as they are listed: at the end many short ones keep both processes busy.
test: models ## run the whole suite against a real tritonserver
	$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY) ## ruff format, ruff, mypy --strict
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

check: $(READY) ## find what is wrong with the model repository, without a server
	@$(PY) -m tools.check $(ARGS)

format: $(READY) ## let ruff rewrite what it can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

up: ## docker compose: build, serve, prometheus, grafana
	PUID=$${PUID:-$$(id -u)} PGID=$${PGID:-$$(id -g)} $(COMPOSE) up --build --detach $(ARGS)

# All profiles, or a server that `make up` did not choose would stay behind.
down: ## stop what `make up` started; the models stay
	COMPOSE_PROFILES=cpu,gpu,locust,router $(COMPOSE) down --remove-orphans $(ARGS)

test-compose: $(READY) ## bring the compose stack up, try it over both protocols, bring it down
	COMPOSE='$(COMPOSE)' $(PY) -m pytest tests/compose $(ARGS)

clean: ## remove what was built: models, checkpoints, data, the environment
	rm -rf build data $(VENV) model_repository/*/[0-9]* model_repository/*/.held model_repository/*/configs/cpu.pbtxt
