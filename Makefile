# Thin names over the real commands.
PYTHON ?= python3
VENV   ?= .venv
ENV    ?= math
ARGS   ?=
BIN     = $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup dev train test test-fast check nano bench-kernel clean

setup: $(VENV)/.installed            ## a virtual environment with the package, CPU build of torch
dev: $(VENV)/.installed-dev          ## the same with everything for development

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

train: setup                         ## make train ENV=math ARGS="method=gkd steps=40"
	$(BIN)/agentdistill train env=$(ENV) $(ARGS)

test: dev                            ## the whole suite but the nightly campaigns
	$(BIN)/python -m pytest --tier ci $(ARGS)

test-fast: dev                       ## under three minutes
	$(BIN)/python -m pytest --tier fast $(ARGS)

check: dev                           ## what a pull request must pass besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

nano: setup                          ## make the embedded models again (about ten minutes)
	$(BIN)/agentdistill nano build --env $(ENV)

# The peers live in an environment of their own. liger-kernel comes without its dependencies: one of them is triton, which the CPU does not need.
PEERS = tests/benchmarks/.venv
$(PEERS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -c constraints.txt -e . trl==1.16.0 accelerate datasets
	$(PEERS)/bin/pip install -q --no-deps liger-kernel==0.8.5
	touch $@

bench-kernel: $(PEERS)/.installed    ## the learner's kernel beside TRL's and Liger's; see docs/kernel.md
	$(PEERS)/bin/python tests/benchmarks/bench_kernel.py --table runs/kernel-table.md $(ARGS)

clean:
	rm -rf $(VENV) $(PEERS) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
