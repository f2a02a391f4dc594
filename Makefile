# Each target first makes a virtual environment with the dependencies, once.
.PHONY: train test test-all test-gpu correctness lint docs lowest next lock sbom
# Some containers forbid the compiled files, without which each of the hundreds of processes of the tests compiles the package.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
PYTEST ?=
LOWEST = tests/checkpoint/test_format.py tests/commands/test_push.py tests/commands/test_export.py tests/commands/test_upscale.py tests/report/test_history.py

train: .venv/ready   ## train a GAN on digits, a minute or two
	.venv/bin/gan train

test: .venv/dev      ## the tests without the slow ones
	.venv/bin/python -m pytest $(PYTEST)

test-all:            ## every test
	$(MAKE) test PYTEST='-m ""'

test-gpu: .venv/dev  ## the tests that need a CUDA GPU, then a table of speeds, in eight minutes at most
	.venv/bin/python benchmarks/gpu.py --out docs/results/gpu.json

correctness: .venv/dev ## the tables of docs/correctness.md: each quantity beside its value by other code
	GAN_CORRECTNESS=docs/correctness.md .venv/bin/python -m pytest -n0 -m "" tests/correctness

lint: .venv/dev      ## style, format, types, and imports that run downward only
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

docs: .venv/dev      ## the documentation, site/index.html; a broken link or anchor fails
	.venv/bin/python -m sphinx --quiet --fresh-env --write-all --fail-on-warning --keep-going docs site

# The other packages, those that the lowest ones need among them, are those of .venv.
lowest: .venv/dev    ## tests with the lowest versions that pyproject.toml allows; WITHOUT='torch torchvision' keeps those
	rm -rf .venv/lowest
	.venv/bin/python -m venv --without-pip .venv/lowest
	.venv/bin/python docs/dependencies.py lowest $(WITHOUT) > .venv/lowest/versions.txt
	.venv/bin/python -m pip --python .venv/lowest/bin/python install --quiet --no-deps --requirement .venv/lowest/versions.txt
	.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo .venv/lowest/lib/python*/site-packages)/rest.pth
	.venv/lowest/bin/python -m pytest $(LOWEST)

next: .venv/dev      ## the command line's tests with Hydra's next release before it is one; they may fail
	rm -rf .venv/next
	.venv/bin/python -m pip install --quiet --pre --no-deps --target .venv/next 'hydra-core>=1.4.0rc1,<1.5' 'omegaconf>=2.4.1rc1,<2.5'
	PYTHONPATH=.venv/next .venv/bin/python -m pytest -W ignore tests/cli/test_train.py tests/cli/test_overrides.py

lock: .venv/dev      ## constraints.txt, the versions installed, and the table of their licences
	.venv/bin/python docs/dependencies.py

sbom: .venv/dev      ## sbom.json, the software bill of materials (CycloneDX)
	.venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --short-PURLs --output-file sbom.json .venv/bin/python

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: type make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable .
	touch .venv/ready

.venv/dev: .venv/ready
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	touch .venv/dev
