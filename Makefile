# Two front doors; each makes what it needs first: a virtual environment with the dependencies, once.
.PHONY: train test test-gpu lint
PYTHON ?= python3
PYTEST ?=

train: .venv/ready   ## a GAN learns digits in about a minute
	.venv/bin/gan train

test: .venv/dev      ## all tests; PYTEST='-m "not slow"' leaves out the long ones
	.venv/bin/python -m pytest $(PYTEST)

test-gpu: .venv/dev  ## the tests that need a CUDA GPU, then a small table of speeds
	timeout 300 .venv/bin/python -m pytest -n0 -m gpu $(PYTEST)
	timeout 180 .venv/bin/gan bench speed 'models=[mlp,dcgan]' 'data=[synthetic]' 'tuned=[]' repeats=2 device=cuda

lint: .venv/dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: type make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable .
	touch .venv/ready

.venv/dev: .venv/ready
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	touch .venv/dev
