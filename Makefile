# Two commands matter: `make demo` and `make test`. Both set up the environment first; a second call starts at once.
#
# PYTHON=python3.12 picks the interpreter. pip's own settings (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, pip.conf) are kept.

SHELL := bash
INSTALLED := .venv/.installed
THREADS := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2}

.PHONY: demo test lint setup clean

demo: setup
	@bash scripts/demo.sh

test: setup
	$(THREADS) .venv/bin/python -m pytest

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pyright --level error

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

# Keeps .venv, which takes longest to get back, and data/ and runs/, which may hold your own work.
clean:
	rm -rf demo build *.egg-info .pytest_cache .ruff_cache
	find vidpara stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
