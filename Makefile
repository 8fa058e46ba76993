# What a developer and CI run, in the same words. `make` alone lists it.
#
#   make demo                     the whole chain on a drawn sample set, and a running service
#   make demo DATA=my/photos      the same with your photographs, one folder per landmark
#   make test                     all set-up, then the tests

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3

# The demo's own choices: DATA, RECIPE, WEIGHTS (a safetensors file of the backbone), PORT.
DEMO    := .demo
DATA    ?= $(DEMO)/data
RECIPE  ?= trainer/recipes/$(if $(filter $(DEMO)/data,$(DATA)),demo,photos).yaml
WEIGHTS ?=
PORT    ?= 8000

# The benchmarks' own: the embedder of the demo, unless another is named.
EMBEDDER ?= $(DEMO)/embedder
PICTURES ?= 20000
STORE    ?= $(DEMO)/store

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test test-all test-full bench-answers bench-attacks bench-build bench-gallery bench-growth bench-heads bench-judgement bench-overload bench-peers bench-rebuild bench-service rehearsal gpu-check check format format-check lint types imports lock docker audit sbom

help:  ## list these verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 22

# Set-up: once, and again only when what is locked or declared has changed.

setup: $(VENV)/.installed  ## make .venv with all that tests and benchmarks need

$(VENV)/.installed: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.installed-demo

# What the demo runs: training and serving. After `make setup` there is nothing left to install.
$(VENV)/.installed-demo: requirements/train.txt requirements/service.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --require-hashes -r requirements/train.txt -r requirements/service.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Cairn needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one, for example: make setup PYTHON=python3.12"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# The demo: every stage is a command that could be typed.

demo: $(VENV)/.installed-demo demo-stop  ## train, index, serve and ask, in five minutes (DATA=my/photos for yours)
	rm -rf $(DEMO)/run $(DEMO)/embedder $(DEMO)/store
ifeq ($(DATA),$(DEMO)/data)
	rm -rf $(DEMO)/data
	$(BIN)/cairn-train draw --out $(DATA)
endif
	$(BIN)/cairn-train train --recipe $(RECIPE) --data "$(DATA)" --out $(DEMO)/run $(if $(WEIGHTS),--weights "$(WEIGHTS)")
	$(BIN)/cairn-train export $(DEMO)/run --out $(DEMO)/embedder
	$(BIN)/cairn-index build --embedder $(DEMO)/embedder --data "$(DATA)" --store $(DEMO)/store --thumbnails 256 $(if $(filter $(DEMO)/data,$(DATA)),,--max-unreadable 0.1)
	@if [ -f "$(DATA)/recognition_solution_v2.1.csv" ]; then set -x; \
	  $(BIN)/cairn-index evaluate --store $(DEMO)/store --embedder $(DEMO)/embedder --data "$(DATA)"; fi
	$(BIN)/python demo.py start --store $(DEMO)/store --embedder $(DEMO)/embedder --data "$(DATA)" --state $(DEMO) --port $(PORT)

demo-stop:  ## stop the demo's service
	@$(PYTHON) demo.py stop --state $(DEMO)

# Tests and checks.

# In as many processes as there are cores; those that measure time or load the machine, alone.
PARALLEL := -n auto --dist loadfile

test: setup  ## the tests but for the slow ones
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not full and not serial"
	$(BIN)/python -m pytest -m "not slow and serial"

test-all: setup  ## every test, but for whole sizes of those that also run smaller
	$(BIN)/python -m pytest $(PARALLEL) -m "not full and not serial"
	$(BIN)/python -m pytest -m serial

test-full: setup  ## those whole sizes: 200 galleries swapped, 2,000 mutated pictures, 450 histories
	$(BIN)/python -m pytest $(PARALLEL) -m full

check: lint types imports format-check  ## everything but the tests

format: setup  ## put imports and code into shape
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

format-check: setup
	$(BIN)/ruff format --check .

lint: setup  ## ruff
	$(BIN)/ruff check .

types: setup  ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy demo.py

imports: setup  ## the import directions, with import-linter
	$(BIN)/lint-imports

# Benchmarks: each ends with one line of JSON.

bench-build: setup  ## whether the stages of a build overlap (EMBEDDER=DIR, DATA=my/photos)
	$(BIN)/python benchmarks/build.py --embedder "$(EMBEDDER)" $(if $(filter $(DEMO)/data,$(DATA)),--out $(DEMO)/bench-build,--data "$(DATA)")

bench-rebuild: setup  ## what a rebuild costs beside a build (EMBEDDER=DIR, PICTURES=20000)
	$(BIN)/python benchmarks/rebuild.py --embedder "$(EMBEDDER)" --out $(DEMO)/bench-rebuild --pictures $(PICTURES)

bench-heads: setup  ## time and memory of the heads at 81,313 landmarks, beside another library's
	$(BIN)/python benchmarks/heads.py

# Of the counts of Google Landmarks v2.
SCALE ?= 1.0

rehearsal: setup  ## the whole chain at the counts of GLDv2, with tiny drawn pictures (SCALE=0.1)
	$(BIN)/python benchmarks/rehearsal.py --scale $(SCALE) --out $(DEMO)/rehearsal-$(SCALE)

gpu-check: setup  ## everything that runs on an NVIDIA GPU, in eight minutes
	$(BIN)/python benchmarks/gpu_check.py --out $(DEMO)/gpu-check

# Vectors of the gallery: the clean pictures of GLDv2; 4132914 are all of its training pictures.
ROWS ?= 1580470
# Of each load on the service.
SECONDS ?= 30

bench-gallery: setup  ## galleries as large as GLDv2 against faiss.IndexFlatIP (ROWS=4132914 for all of it)
	$(BIN)/python benchmarks/gallery.py --rows $(ROWS)

# Vectors of the gallery that grows.
GROWN_ROWS ?= 1000000

bench-growth: setup  ## what a large gallery writes to grow and to shrink (GROWN_ROWS)
	$(BIN)/python benchmarks/growth.py --out $(DEMO)/bench-growth --rows $(GROWN_ROWS)

bench-service: setup  ## the service under load, against its bound and a plain endpoint (ROWS, WEIGHTS, SECONDS)
	$(BIN)/python benchmarks/throughput.py --rows $(ROWS) --seconds $(SECONDS) $(if $(WEIGHTS),--weights "$(WEIGHTS)")

bench-peers: setup $(DEMO)/peers/.installed  ## the service beside mosec, LitServe and a plain endpoint (ROWS, WEIGHTS, SECONDS)
	$(BIN)/python benchmarks/peers.py --rows $(ROWS) --seconds $(SECONDS) --peers $(DEMO)/peers $(if $(WEIGHTS),--weights "$(WEIGHTS)")

# The peers have versions of FastAPI of their own; all else is that of the tests.
$(DEMO)/peers/.installed: $(VENV)/.installed
	$(BIN)/python -m venv $(DEMO)/peers
	$(DEMO)/peers/bin/pip install --quiet mosec==0.9.8 litserve==0.2.19
	cd $(VENV)/lib/python3.*/site-packages && pwd > $(abspath $(DEMO))/peers/lib/$$(basename $$(dirname $$PWD))/site-packages/cairn.pth
	touch $@

bench-overload: setup  ## five times more than the service can do (ROWS, WEIGHTS)
	$(BIN)/python benchmarks/overload.py --rows $(ROWS) $(if $(WEIGHTS),--weights "$(WEIGHTS)")

bench-attacks: setup  ## hostile clients beside others (SECONDS of each attack)
	$(BIN)/python benchmarks/attacks.py --seconds $(SECONDS) $(if $(WEIGHTS),--weights "$(WEIGHTS)")

bench-judgement: setup  ## what distractors and calibration gain (STORE=DIR, EMBEDDER=DIR, DATA=my/photos)
	$(BIN)/python benchmarks/judgement.py --store "$(STORE)" --embedder "$(EMBEDDER)" --data "$(DATA)"

bench-answers: setup  ## what better use of the same vectors gains (WEIGHTS=FILE of mobilenetv2_100, DATA=my/photos)
	$(BIN)/python benchmarks/answers.py --data "$(DATA)" --weights "$(WEIGHTS)" --out $(DEMO)/bench-answers

# Releases.

# Keeps the versions that are locked already; UPGRADE=--upgrade takes the newest.
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header --quiet --constraint requirements/constraints.txt $(UPGRADE)

lock: setup $(BIN)/uv  ## write requirements/*.txt anew from pyproject.toml
	$(LOCK) --extra dev --output-file requirements/dev.txt
	for extra in "service --extra otel --extra heic" "service-gpu --extra otel --extra heic" "train --extra heic"; do \
	  $(LOCK) --extra $$extra --constraint requirements/dev.txt --output-file requirements/$${extra%% *}.txt || exit 1; done

$(BIN)/uv: | $(BIN)/python
	$(BIN)/python -m pip install uv

# Each tool in an environment of its own; both ask a package index.
audit: $(BIN)/uv  ## look the locked packages up in the database of known vulnerabilities
	@for lock in dev service service-gpu train; do echo "requirements/$$lock.txt"; \
	  $(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes -r requirements/$$lock.txt || failed=1; \
	done; exit $${failed:-0}

SBOM ?= dist/sbom

sbom: $(BIN)/uv  ## write what the images are made of as CycloneDX documents (SBOM=DIR)
	@mkdir -p "$(SBOM)"
	for lock in service service-gpu train; do \
	  $(BIN)/uv tool run --from cyclonedx-bom cyclonedx-py requirements requirements/$$lock.txt \
	    --pyproject pyproject.toml --output-reproducible --output-file "$(SBOM)/$$lock.cdx.json" || exit 1; done

docker:  ## build the images of service and trainer (docker-compose.yml tells how to run them)
	docker build -f docker/service.Dockerfile -t cairn-service .
	docker build -f docker/trainer.Dockerfile -t cairn-trainer .
