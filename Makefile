# Two commands matter: `make demo` and `make test`. Both set up the environment first; a second call starts at once.
#
# PYTHON=python3.12 picks the interpreter. pip's own settings (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, pip.conf) are kept.

SHELL := bash
INSTALLED := .venv/.installed

.PHONY: demo test lint setup clean

demo: setup
	@bash scripts/demo.sh

# One thread and one process a core: most tests are the simulator or small tensors, which more threads do not hasten.
test: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

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
