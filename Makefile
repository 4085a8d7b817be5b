# The tasks of this repository. `make` alone lists them; each installs what it needs first.

PYTHON ?= python3.11
# An additional wheel index for torch, as printed by pytorch.org's install selector: for a CPU build (…/whl/cpu) or
# a CUDA release (…/whl/cu130). Empty: pip's own choice.
TORCH_INDEX ?=
# Arguments for the command behind a target, for example: make loadtest ARGS='--users 64'
ARGS ?=
# Docker's compose plugin if it is installed, else the docker-compose program (1.29 or later).
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
LM := $(VENV)/.ready-lm
PIP_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup lm build models demo demo-lm serve loadtest reports bench test test-gpu wheel lint check format up down test-compose clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip 25.1 is the first to install dependency groups. With the stamp file, later runs take milliseconds.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --group dev
	$(PY) -m tools.serve --compile
	@touch $@

$(LM): $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --group lm-export
	@touch $@

lm: $(LM) ## add what language models need to .venv (0.5 GB)

setup: $(READY) ## create .venv with all pinned dependencies

build: $(READY) ## train, prove and publish the models that have no version yet
	$(PY) -m tools.export --missing $(ARGS)

# For other targets, whose ARGS are not meant for the export.
models: $(READY)
	@$(PY) -m tools.export --missing

demo: $(READY) ## train, export, serve, verify, classify and load-test; the last line is JSON
	@$(PY) -m tools.demo $(ARGS)

demo-lm: $(LM) ## export, serve, ask and load-test a language model; the last line is JSON
	@$(PY) -m tools.demo --language smollm2 $(ARGS)

serve: models ## serve the repository on 127.0.0.1:8000 (HTTP), 8001 (gRPC), 8002 (metrics), a page to try it on 8007
	@$(PY) -m tools.serve --web-port 8007 $(ARGS)

loadtest: models ## load-test every classifier over HTTP and gRPC; report in build/loadtest
	@$(PY) -m tools.serve --http-port 0 --grpc-port 0 --metrics-port 0 --run "$(PY) -m loadtest.swarm $(ARGS)"

reports: $(READY) ## an index of all reports in build/; prints its address
	@$(PY) -m loadtest.reports $(ARGS)

bench: build ## served inferences per second beside the in-process limit
	@$(PY) -m tools.bench backend $(ARGS)

# In the order listed, long files first: at the end many short ones keep both processes busy.
test: models $(LM) ## run the whole suite against a real tritonserver
	$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# WHEELS=FOLDER makes an environment of those wheels and the host's own torch; without it that of `make setup` is used.
test-gpu: $(if $(WHEELS),,$(READY)) ## what needs a GPU; figures in build/gpu.json (DEVICE=cpu rehearses it)
	tests/gpu/run.sh $(WHEELS)

wheel: $(READY) ## build the wheel `triton-repo` into build/wheel
	$(PY) -m hatchling build --target wheel --directory build/wheel

lint: $(READY) ## ruff format, ruff, mypy --strict
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

check: $(READY) ## check the model repository, without a server
	@$(PY) -m tools.check $(ARGS)

format: $(READY) ## format and fix the code with ruff
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

up: ## docker compose: build, serve, Prometheus, Grafana
	PUID=$${PUID:-$$(id -u)} PGID=$${PGID:-$$(id -g)} $(COMPOSE) up --build --detach $(ARGS)

# All profiles: otherwise a server that `make up` did not choose would keep running.
down: ## stop what `make up` started; the models stay
	COMPOSE_PROFILES=cpu,gpu,gpu-lm,locust,router,tracing $(COMPOSE) down --remove-orphans $(ARGS)

test-compose: $(READY) ## start the compose stack, test it over both protocols, stop it
	COMPOSE='$(COMPOSE)' $(PY) -m pytest tests/compose $(ARGS)

clean: ## remove everything built: models, checkpoints, data, the environment
	rm -rf build data $(VENV) model_repository/*/[0-9]* model_repository/*/.held model_repository/*/configs/cpu.pbtxt
