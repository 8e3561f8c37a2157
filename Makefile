# Everything one does with this repository. `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
CASE ?= data/cases/flux_port.yaml
# Two processes of one thread each: the models are tiny, and OpenMP threads that spin starve each other on a busy machine.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope
NBVAL := --nbval-lax --nbval-cell-timeout=180 --timeout=600 -p no:cacheprovider
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup investigate test thorough lint lab bench natural faults reliability fuzz models lock licences clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf 'make %-12s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.stamp ## make .venv from requirements.lock, whydiff installed editable

$(VENV)/.stamp: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later was not found; set PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

# whydiff exits 1 where the sides differ: that is an answer, and only 2 is trouble.
investigate: setup ## why does the port's picture differ? (CASE=... for another case)
	@$(BIN)/whydiff investigate $(CASE) || test $$? -eq 1

# Practice draws another bug each time; tests/browser plays it with a fixed seed.
test: setup lint ## ruff, pytest, then every notebook by nbval
	$(PYTEST) $(NBVAL) --ignore=notebooks/practice tests notebooks

thorough: setup ## the tests that `make test` leaves out, so that it stays below ten minutes
	$(PYTEST) -m thorough tests

lint: setup ## ruff over code and notebooks
	$(BIN)/ruff check

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=. $$(test "$$(id -u)" = 0 && echo --allow-root) notebooks

bench: setup ## measure speed and memory beside the alternatives (WRITE=1 puts the tables into docs/performance.md), then false alarms
	@for name in one_pass streaming search_cost memory recorder_cost start headless; do echo "== $$name"; $(BIN)/python tests/bench/$$name.py $(if $(WRITE),--write); done
	$(BIN)/python tests/bench/false_alarms.py

natural: setup ## differences nobody planted: the small models under other versions of diffusers (installs 350 MB under reports/)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/natural/natural_differences.py

faults: setup ## plant known bugs and count how often the right cause is named (JOBS=2; takes less than an hour)
	OMP_NUM_THREADS=1 $(BIN)/whydiff faults --jobs $(or $(JOBS),2) --out reports/faults

reliability: setup ## kill 200 recordings, record every kind of pipeline in every way, and say what was lost or changed
	OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/killed.py 200 0
	OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/observed.py

fuzz: setup ## fuzz every reader for FUZZ_SECONDS=600 in all (installs atheris); findings lie in reports/fuzz/found
	$(BIN)/python -m pip install --quiet "atheris>=3"
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py $(or $(FUZZ_SECONDS),600) $(FUZZ_TARGETS)

models: setup ## train the two small models again (see data/training)
	$(BIN)/python data/training/train_vae.py
	$(BIN)/python data/training/train_flow.py
	$(BIN)/python data/training/make_wan.py

lock: setup ## write requirements.lock from what is installed in .venv
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' \
	  | grep -viE '^(nvidia-|cuda-|triton|atheris)'; } > requirements.lock.part && mv requirements.lock.part requirements.lock
	$(BIN)/python docs/licences.py

licences: setup ## write docs/licences.md: what every locked package says of its licence
	$(BIN)/python docs/licences.py

clean: ## remove reports and caches; .venv stays
	rm -rf reports .pytest_cache .ruff_cache .hypothesis build
