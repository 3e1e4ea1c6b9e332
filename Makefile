# Two commands matter: `make demo` (see it work) and `make test` (see it checked).
# Everything is installed into .venv; a stamp in there says what for, so a second `make` installs nothing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak bench bench-setup clean

PYTHON ?= python3
APP ?= 1
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -qq --progress-bar off

# An interpreter that no longer starts (an upgraded system, a copied folder) makes every stamp a lie.
$(shell [ ! -e .venv ] || $(PY) -m pip --version >/dev/null 2>&1 || rm -f .venv/.installed .venv/.installed-test)

help:
	@echo 'make demo         install, run the recipes tone and smalltalk, open the app (APP=0: without the app)'
	@echo 'make test         install what tests need; lint, types, tests'
	@echo 'make soak         inject faults for about an hour: every proof at its full size'
	@echo 'make bench        print every benchmark, one JSON line a figure'
	@echo 'make bench-setup  install the peers that benchmarks compare with, into .venv-peers'
	@echo 'make clean        remove .venv, .venv-peers and caches (workspaces stay)'

demo: .venv/.installed
	$(PY) -m llmops run tone
	$(PY) -m llmops run smalltalk
	@[ '$(APP)' = 0 ] || $(PY) -m llmops app --tab chat

test: .venv/.installed-test
	@echo 'lint'
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check .
	@echo 'types'
	@$(PY) -m mypy --no-error-summary
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		echo 'no chromium here: the browser tests will be skipped (Debian: apt-get install chromium)'
	@$(PY) -m pytest

soak: .venv/.installed
	$(PY) -m llmops prove --size soak

bench: .venv/.installed
	@for file in tests/benchmarks/[a-z]*.py; do $(PY) -m tests.benchmarks.$$(basename "$$file" .py); done

bench-setup: .venv-peers/.installed

# A folder left by an installation that was cut short is used again if its pip answers, and made anew if not.
define environment
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $(1); $(PYTHON) -m venv $(1); }
endef

.venv/.installed: pyproject.toml constraints.txt
	$(call environment,.venv)
	@echo 'installing llmops and its libraries into .venv (some minutes the first time)'
	@$(PIP) --constraint constraints.txt --editable .
	@touch $@

.venv/.installed-test: .venv/.installed
	@echo 'installing what tests need into .venv'
	@$(PIP) --constraint constraints.txt --editable '.[test,lint]'
	@touch $@

.venv-peers/.installed: tests/benchmarks/peers.txt
	$(call environment,.venv-peers)
	@echo 'installing peers into .venv-peers (some minutes the first time)'
	@.venv-peers/bin/python -m pip --disable-pip-version-check install -qq --progress-bar off \
		--requirement tests/benchmarks/peers.txt
	@touch $@

clean:
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
