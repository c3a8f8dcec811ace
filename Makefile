# Two commands matter: `make demo` and `make test`. Each makes its environment in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo
SOURCES = $(shell find lnqtools man -type f -not -name '*.pyc')
SCRIPTS = $(wildcard examples/*.sh examples/*/*.sh examples/*/*/*.sh) examples/slurm/task.sbatch \
	$(wildcard tests/*.sh tests/slurm/*.sh) containers/install.sh .ci/run
ABLATION ?= ablation
STUDY = examples/ablation/results/study
SEEDS ?= 1
RECIPE ?= examples/ablation/miniature/recipe.toml

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.NOTPARALLEL:
.PHONY: help demo ablation test test-fast coverage mutants slurm-test torture lint man docs completions \
	bench release lowest gpu-test gpu-bench gpu-wheels clean

help:
	@echo "make demo   train and judge a model on synthetic CTs, in $(DEMO)/"
	@echo "make ablation  thirteen models on synthetic CTs, in $(ABLATION)/ (SEEDS=1,"
	@echo "            RECIPE=FILE), table and verdicts into $(STUDY)"
	@echo "make test   lint and all tests, and what of the domain they covered"
	@echo "make test-fast  the tests that train or run no network"
	@echo "make coverage  the tests of the domain alone, and what they covered"
	@echo "make mutants  faults put into the domain, and which of them its tests notice (an hour);"
	@echo "            NAMES='labels metrics' picks rooms"
	@echo "make slurm-test  the ablation's workflow on a Slurm of this machine, where one is installed"
	@echo "make torture  bad inputs, kills, faults and load (two hours), and the page"
	@echo "            docs/reliability.md; NAMES='faults load' picks"
	@echo "make lint   style, types, spelling, shell scripts, man pages"
	@echo "make man    render the man pages into build/man"
	@echo "make docs   the site of README, docs, man pages and docstrings, into build/docs/site"
	@echo "make completions  write what shells complete the options with, into completions/"
	@echo "make bench  measure against other packages, side by side, into build/bench (an hour;"
	@echo "            NAMES='crop pseudolabel' picks)"
	@echo "make release  what a release has to pass: sdist and wheel, the fast tests against the wheel"
	@echo "            alone (half an hour, build/release); prints the tag's text, and tags nothing"
	@echo "make lowest  the fast tests with the least versions that setup.cfg allows, in build/lowest"
	@echo "make gpu-test  all that a GPU does, in ten minutes, and a table of it in build/gpu;"
	@echo "            DEVICE=cpu rehearses it, NAMES='anatomy or killed' picks"
	@echo "make gpu-bench  seconds per batch and per case on a GPU, beside nnU-Net's"
	@echo "make gpu-wheels WHEELS=DIR  what both need on a machine without network, in parts to carry,"
	@echo "            for the Python of PYTHON_THERE=3.12;"
	@echo "            there: make gpu-test WHEELS=DIR, beside the torch of PYTHON"
	@echo "make clean  remove the environment and what was built"

# Python compiles what is imported, and not the other half of 18 000 files. It must keep what it
# compiled, or each of some thousand starts does it again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt

$(VENV)/.packages: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[all]'
	@touch $@

# At once, and not after .packages: that would build and look up everything twice.
$(VENV)/.developing: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@rm -rf build/lib
	$(INSTALL) '.[all,dev]'
	@touch $(VENV)/.packages $@

# A plain install, not an editable one: what is tested is what users get.
$(VENV)/.installed: $(VENV)/.packages $(SOURCES)
	@rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall .
	@touch $@

demo: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh $(DEMO)

# snakemake comes with what tests need.
ablation: $(VENV)/.developing $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" nice examples/ablation/miniature/run.sh -n $(SEEDS) \
		-r $(RECIPE) $(ABLATION)
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/ablation/miniature/collect.sh $(ABLATION) $(STUDY)
	@cat $(STUDY)/tables.md $(STUDY)/claims.tsv

PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
COVERAGE = --cov --cov-report=term
DOMAIN = $(addprefix tests/,anatomy comparison components dicom files images labels metrics \
	phantom) \
	$(wildcard tests/test_properties*.py) tests/test_storage.py

# What the domain's own tests cover is measured; in all others that would only take time.
test: lint $(VENV)/.installed
	$(PYTEST) $(COVERAGE) $(DOMAIN)
	$(PYTEST) $(addprefix --ignore=,$(DOMAIN))

test-fast: $(VENV)/.developing $(VENV)/.installed
	$(PYTEST) -m "not slow"

coverage: $(VENV)/.developing $(VENV)/.installed
	$(PYTEST) $(COVERAGE) $(DOMAIN)

mutants: $(VENV)/.developing $(VENV)/.installed
	$(BIN)/python -m tests.mutants $(NAMES)

slurm-test: $(VENV)/.developing $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/slurm/run.sh build/slurm

$(VENV)/.fuzz: $(VENV)/.developing
	$(INSTALL) '.[all,fuzz]'
	@touch $@

torture: $(VENV)/.fuzz $(VENV)/.installed
	$(BIN)/python -m torture $(NAMES)

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/snakefmt --check examples/ablation/Snakefile
	$(BIN)/hadolint containers/Containerfile
	$(BIN)/shellcheck --external-sources $(SCRIPTS)
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning man/man*/*; \
	else echo "mandoc is not installed: the man pages were not linted"; fi

man:
	@command -v mandoc >/dev/null || { echo "make man needs mandoc (apt-get install mandoc)"; exit 1; }
	mandoc -T lint -W warning man/man*/*
	@mkdir -p build/man
	@for page in man/man*/*; do mandoc -T html -O style=mandoc.css "$$page" > build/man/$$(basename "$$page").html; done
	@echo "build/man"

# panoptica asks for older versions than ours of what it shares with us, and runs with these.
$(VENV)/.bench: $(VENV)/.developing
	$(INSTALL) '.[all,bench]'
	$(INSTALL) --no-deps panoptica
	@touch $@

bench: $(VENV)/.bench $(VENV)/.installed
	$(BIN)/python -m bench $(NAMES)

# What is committed, in environments of its own: it tags nothing and uploads nothing.
release: lint
	PYTHON=$(PYTHON) tests/release.sh build/release

# uv finds them: numpy is the least that all others take, too. PYTHON picks the interpreter.
lowest:
	rm -rf build/lowest build/lib build/bdist.*
	$(PYTHON) -m venv build/lowest/tools
	build/lowest/tools/bin/python -m pip install --quiet uv
	$(PYTHON) -m venv build/lowest/venv
	build/lowest/tools/bin/uv pip install --quiet --python build/lowest/venv \
		--resolution lowest-direct '.[all,test]'
	build/lowest/venv/bin/python -m pytest --numprocesses 2 --dist worksteal -m "not slow"

# Beside the torch that is there, from wheels in WHEELS; without these, in the environment of tests.
DEVICE ?= cuda
WHEELS ?=
GPU_VENV = build/gpu/venv
GPU_PYTHON = $(if $(WHEELS),$(GPU_VENV),$(VENV))/bin/python

$(GPU_VENV)/.packages: $(if $(WHEELS),$(shell find $(WHEELS) -name '*.whl' 2>/dev/null))
	rm -rf $(GPU_VENV)
	$(PYTHON) -m venv $(GPU_VENV)
	@$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --no-compile $^
	$(PYTHON) -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' \
		>"$$(echo $(GPU_VENV)/lib/python3*/site-packages)/torch.pth"
	@touch $@

GPU_READY = $(if $(WHEELS),$(GPU_VENV)/.packages,$(VENV)/.developing $(VENV)/.installed)

gpu-test: $(GPU_READY)
	$(GPU_PYTHON) -m tests.gpu --device $(DEVICE) $(if $(NAMES),-k '$(NAMES)')

gpu-bench: $(GPU_READY)
	$(GPU_PYTHON) -m bench.gpu --device $(DEVICE)

gpu-wheels: $(VENV)/.developing
	$(if $(WHEELS),,$(error name a folder: WHEELS=DIR))
	$(BIN)/python -m tests.gpu.wheels $(WHEELS) $(if $(PYTHON_THERE),--python $(PYTHON_THERE))

clean:
	rm -rf $(VENV) build $(DEMO) $(ABLATION) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# What shells complete with, one file a tool: they look for it by the command's name.
completions: $(VENV)/.installed
	$(BIN)/python -m tests.completions completions

# The site of README, docs, man pages and docstrings; it opens from disk.
docs: $(VENV)/.developing
	@command -v mandoc >/dev/null || { echo "make docs needs mandoc (apt-get install mandoc)"; exit 1; }
	$(BIN)/python -m tests.site build/docs/pages
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going build/docs/pages build/docs/site
	@echo "build/docs/site/index.html"
