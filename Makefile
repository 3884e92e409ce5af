# Every command sets itself up: a bare machine with Python 3.11 is enough. `make` alone lists them.
PYTHON ?= python3.11
MINUTES ?= 1
VENV   := .venv
CODE   := src proof tests docs requirements examples
BIN    := $(VENV)/bin
# --progress-bar on: a newcomer watches three gigabytes arrive.
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --no-warn-script-location --no-deps

# The vLLM that everything is run with, and those that `make matrix` puts beside it.
NEWEST := 0.32
MINORS := 0.30 0.31 0.32 0.33
OTHER  := $(filter-out $(NEWEST),$(VLLM))
JUDGED := $(or $(VLLM),$(MINORS))

.DEFAULT_GOAL := help
.PHONY: help up demo bench chaos drain failover explore test check types unit docs format planted simulate fuzz-bytes fuzz-admin engine matrix frameworks ray contract load routers upstream monitoring site clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.engine ## the OpenAI API on port 8000: prefill and decode engines of a tiny model, and the router (UP="--decode 2")
	$(BIN)/kvlease up $(UP)

demo: $(VENV)/.engine $(VENV)/upstream/$(NEWEST)/tests ## real engines: a decoder killed, stalled, slow and busy; stock vLLM beside kvlease (6 min)
	$(BIN)/python -m proof demo $(DEMO)

bench: $(VENV)/.engine ## what a lease costs, beside vLLM's own mechanism in the same run (some 80 minutes; BENCH=--short: minutes)
	$(BIN)/python -m proof bench $(BENCH)

chaos: $(VENV)/.engine ## real engines: 40 faults of all kinds under traffic, every answer checked; kvlease, then stock
	$(BIN)/python -m proof chaos $(or $(CHAOS),--connector kvlease --connector stock)

drain: $(VENV)/.engine ## real engines: P drained and stopped 50 times under traffic, every answer checked (20 min)
	$(BIN)/python -m proof drain $(DRAIN)

failover: $(VENV)/.engine routers ## real engines: one of two Ds killed, stopped, drained, full under 16 streams; three routers (15 min)
	$(BIN)/python -m proof failover $(FAILOVER)

load: $(VENV)/.engine routers ## the router under load, beside vLLM's two, with fake engines: overhead, 500 streams, ten minutes with restarts (16 min)
	$(BIN)/python -m proof load $(LOAD)

# Fuzzing, planted bugs and simulation take one core each: two of them at a time save a minute and a half.
test: check ## everything: make check, all layers in short, the tests on real engines (under 20 min)
	@$(BIN)/pytest -q -n auto --maxprocesses 4 -m "long and not sim"
	@$(MAKE) --no-print-directory -j2 -Oline fuzz-bytes planted simulate
	@$(MAKE) --no-print-directory engine

check: $(VENV)/.dev $(VENV)/kubernetes.json ## format, lint, types, unit tests (under a minute)
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	@$(MAKE) --no-print-directory -j2 -Otarget types unit

# Beside each other, since mypy has one core for itself, and some tests wait.
types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev $(VENV)/kubernetes.json
	$(BIN)/pytest -q -n auto --maxprocesses 4 -m "not engine and not sim and not prometheus and not neighbours and not ray and not long"

planted: $(VENV)/.dev ## simulator and explorer find every bug that is planted in the code under test
	$(BIN)/pytest -q -n 2 --dist loadfile -m sim

# The same chance for everybody: what a new seed finds is seldom the fault of the change that is being tested.
test: export SIM = --seed 0
test: export FUZZ = --minutes 0.5 --seed 1

simulate: $(VENV)/.dev ## MINUTES (1) of simulated runs with faults, each of another seed
	$(BIN)/python -m proof simulate fuzz --minutes $(MINUTES) $(SIM)

explore: $(VENV)/.dev ## small worlds explored completely: every order of everything that can happen (5 min)
	$(BIN)/python -m proof explore

fuzz-bytes: $(VENV)/.fuzz ## MINUTES (1) of inputs that strangers could send, guided by the code that they reach
	$(BIN)/python -m proof fuzz-bytes $(or $(FUZZ),--minutes $(MINUTES))

fuzz-admin: $(VENV)/.schemathesis ## MINUTES (1) of requests of any kind to an operator's routes, drawn from their own description
	$(BIN)/python -m proof fuzz-admin $(or $(FUZZ),--minutes $(MINUTES))

engine: $(VENV)/.engine $(OTHER:%=$(VENV)/vllm-%/vllm) ## the tests on real vLLM engines and real NIXL (VLLM=0.31: the essential ones on that one)
	$(if $(OTHER),PYTHONPATH=$(CURDIR)/$(VENV)/vllm-$(OTHER) VLLM_TARGET_DEVICE=cpu) $(BIN)/pytest -m "$(if $(OTHER),essential,engine and not wide and not prometheus)" -v

matrix: $(VENV)/.engine routers frameworks ## the tests of rarer ways to run vLLM, and the essential ones with its other minors that kvlease supports (about 25 min)
	$(BIN)/pytest -m wide -v
	@for minor in $(filter-out $(NEWEST),$(MINORS)); do $(MAKE) --no-print-directory engine VLLM=$$minor || exit 1; done
	$(BIN)/pytest -q tests/contract

frameworks: $(VENV)/.frameworks $(VENV)/routers/.tools ## what Dynamo, Ray Serve LLM and other people's routers make of a lease (150 MB; seconds)
	$(BIN)/pytest -q tests/frameworks

# Its processes import vLLM one after the other, which takes most of the time.
ray: $(VENV)/ray/.made $(OTHER:%=$(VENV)/vllm-%/vllm) ## examples/ray as Ray Serve LLM runs it: D killed, kvlease, then stock (10 min; VLLM=0.30 or 0.31)
	PYTHONPATH=$(if $(OTHER),$(CURDIR)/$(VENV)/vllm-$(OTHER):)$(CURDIR)/$(VENV)/ray $(BIN)/pytest -m ray -v --disable-warnings $(RAY) tests/ray

contract: $(VENV)/.dev ## what kvlease would have to do for a vLLM, from its text, in seconds (VLLM=0.34; else those that are here)
	$(BIN)/python -m tests.contract $(VLLM)

upstream: $(VENV)/upstream/.tools $(patsubst %,$(VENV)/vllm-%/vllm,$(filter-out $(NEWEST),$(JUDGED))) ## vLLM's own tests of connectors, with kvlease in stock's place (VLLM=0.31: those of one minor; STOCK=1)
	@for minor in $(JUDGED); do \
		PYTHONPATH=$(CURDIR)/$(VENV)/vllm-$$minor $(BIN)/python -m tests.upstream.run $$minor $(if $(STOCK),--stock) $(UPSTREAM) || exit 1; \
	done

monitoring: $(VENV)/.dev $(VENV)/prometheus $(if $(ENGINES)$(PLAY),$(VENV)/.engine) ## dashboard and alerts in a real Prometheus (a minute); ENGINES=1: of real engines, too; PLAY=crash: pictures of one
	$(BIN)/pytest -q -m "prometheus$(if $(ENGINES),, and not engine)" tests/monitoring tests/realengines
	$(if $(PLAY),$(BIN)/python -m proof dashboard --play $(PLAY))

docs: $(VENV)/.dev ## rewrite the parts of the docs that come from the code
	$(BIN)/python -m docs.made

# Without --quiet, which would have it count no warnings.
site: $(VENV)/.site ## the docs as a site, in out/site (seconds)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "out/site/index.html; with search: $(BIN)/python -m http.server -d out/site"

format: $(VENV)/.dev ## rewrite the code in the project's format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean: ## remove what the commands above made
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@echo "== $(VENV): a virtual environment with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "== tools for make check (seconds)"
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-build-isolation --quiet -e .
	@touch $@

$(VENV)/.fuzz: requirements/fuzz.txt | $(VENV)/.dev
	@echo "== atheris for make fuzz-bytes (seconds, 35 MB)"
	$(PIP) -r requirements/fuzz.txt
	@touch $@

$(VENV)/.schemathesis: requirements/schemathesis.txt | $(VENV)/.dev
	@echo "== Schemathesis for make fuzz-admin (seconds, 10 MB)"
	$(PIP) -r requirements/schemathesis.txt
	@touch $@

$(VENV)/.site: requirements/site.txt | $(VENV)/.dev
	@echo "== mkdocs for make site (seconds)"
	$(PIP) -r requirements/site.txt
	@touch $@

$(VENV)/.frameworks: requirements/frameworks.txt | $(VENV)/.dev
	$(BIN)/python -m pip download --disable-pip-version-check --no-deps --dest $(VENV)/frameworks -r requirements/frameworks.txt
	@touch $@

$(VENV)/kubernetes.json: requirements/kubernetes.txt requirements/kubernetes.py | $(VENV)/.dev
	@echo "== the schemas of Kubernetes' API for make check (seconds, 22 MB)"
	$(BIN)/python requirements/kubernetes.py $@

$(VENV)/prometheus: | $(VENV)/bin/python
	@echo "== Prometheus and promtool for make monitoring (seconds, 100 MB)"
	$(BIN)/python requirements/prometheus.py $@

$(VENV)/vllm-%/vllm: | $(VENV)/.engine
	@echo "== vLLM $* beside the other one (a minute, 500 MB)"
	$(BIN)/python requirements/minor.py $* $(VENV)/vllm-$*

$(VENV)/ray/.made: requirements/ray.txt | $(VENV)/.engine
	@echo "== Ray Serve beside vLLM (seconds, 450 MB)"
	rm -rf $(VENV)/ray
	$(PIP) --target $(VENV)/ray -r requirements/ray.txt
	@touch $@

$(VENV)/upstream/.tools: requirements/upstream.txt | $(VENV)/.engine
	@echo "== what vLLM's tests need (a minute, 240 MB)"
	$(PIP) --target $(VENV)/upstream/tools --upgrade -r requirements/upstream.txt
	@touch $@

routers: $(VENV)/routers/.tools $(VENV)/upstream/$(NEWEST)/tests

$(VENV)/routers/.tools: requirements/routers.txt | $(VENV)/.dev
	@echo "== vllm-router and smg, to be put beside ours (seconds, 60 MB)"
	$(PIP) --target $(VENV)/routers --upgrade -r requirements/routers.txt
	@touch $@

$(VENV)/upstream/$(NEWEST)/tests: | $(VENV)/routers/.tools
	@echo "== vLLM's own tests, for its toy proxy (seconds, 40 MB)"
	$(BIN)/python -m tests.upstream.fetch $(NEWEST) $(VENV)/upstream/$(NEWEST) $(VENV)/routers

$(VENV)/.engine: requirements/engine.txt | $(VENV)/.dev
	@echo "== vLLM for the CPU and NIXL (about two minutes, 3 GB)"
	$(BIN)/python -m pip install --disable-pip-version-check torch==2.13.0
	$(PIP) -r requirements/engine.txt
	@touch $@
