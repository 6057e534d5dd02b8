# The two commands of a newcomer: `make demo` and `make test`. Everything else is for developers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TRAINING_LAYERS := person,garment,pose,person_mask,parse,garment_mask,agnostic,agnostic_mask

export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help install demo test soak bundle lint types format lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv and install the locked versions (the other targets do it by themselves)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"tryon needs Python 3.11 or 3.12; {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@printf "Installing the locked packages into $(VENV), 2 to 4 minutes the first time "
	@(while sleep 5; do printf .; done) & dots=$$!; trap 'kill $$dots 2>/dev/null' EXIT INT TERM; \
		$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock && \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable . && echo ' done'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || \
		{ echo 'OpenCV needs two system libraries: apt-get install libgl1 libglib2.0-0' >&2; exit 1; }
	@touch $@

demo: $(STAMP)  ## the whole way, from nothing to a try-on over HTTP [PERSON=a.jpg GARMENT=b.jpg OUT=out/demo]
	@exec $(BIN)/tryon demo $(if $(OUT),--out $(OUT)) $(if $(PERSON),--person $(PERSON)) $(if $(GARMENT),--garment $(GARMENT))

test: $(STAMP)  ## the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup $(ARGS)

soak: $(STAMP)  ## the long ones at full size: nodes lost, processes killed, malformed requests; an hour and more
	TRYON_LOSSES=5 TRYON_KILLS=20 TRYON_BATCH=200 TRYON_ROUNDS=10 TRYON_FUZZ=2400 $(BIN)/python -m pytest -m '' \
		tests/test_node_loss.py tests/training/test_killed.py tests/serving/jobs/test_serve_killed.py tests/serving/test_fuzz.py $(ARGS)

bundle: $(STAMP)  ## train the bundle that comes with the package again, from nothing: two to three hours on two cores
	$(BIN)/tryon data synth --out out/default/train-raw --num 4096 --size 256x192 --seed 1 --set variety=0.5
	$(BIN)/tryon data annotate out/default/train-raw --out out/default/train --layers $(TRAINING_LAYERS)
	$(BIN)/tryon data synth --out out/default/test-raw --num 512 --size 256x192 --seed 20261
	$(BIN)/tryon data annotate out/default/test-raw --out out/default/test --layers $(TRAINING_LAYERS)
	$(BIN)/tryon train --plan plans/default.yaml --data out/default/train --val out/default/test --out out/default/bundle
	$(BIN)/tryon models pack out/default/bundle out/default/packed
	@echo "out/default/packed is what lies in platform/tryon/default_bundle"

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check platform jobs tests
	$(BIN)/ruff format --check platform jobs tests

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

format: $(STAMP)  ## ruff format and the fixes ruff can make by itself
	$(BIN)/ruff check --fix platform jobs tests
	$(BIN)/ruff format platform jobs tests

lock:  ## resolve pyproject.toml anew into requirements.lock
	rm -rf build/lock-venv && $(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/pip install --quiet torch==2.13.0 && build/lock-venv/bin/pip install --quiet --editable ".[dev]"
	build/lock-venv/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:  ## remove everything that was built or installed
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache platform/*.egg-info
