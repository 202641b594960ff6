# Two commands do all the set-up on a machine with Python 3.11+ and make: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := train,weights,quantize,openvino,litert-build,ncnn-build,tensorrt-rtx,demo,sign,parquet,huggingface,clip,tune

.PHONY: quickstart test check coverage api fuzz pairs survive load serve versions students arm64 mutate sbom audit clean

quickstart: $(VENV)/.installed
	$(BIN)/edgepress run --recipe examples/quickstart.yaml

# In two processes; `pytest FILE` alone runs in one. A process that dies fails the run at once.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --max-worker-restart=0

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Lines and branches that no test runs, and the share that some test does.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

api: $(VENV)/.installed-dev
	$(BIN)/python docs/make_api.py

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzzing

# Every teacher with every student; `make test` tries each of them once.
pairs: $(VENV)/.installed-dev
	EDGEPRESS_TEST_PAIRS=all $(BIN)/python -m pytest tests/compress/test_distill_pairs.py

survive: $(VENV)/.installed-dev
	EDGEPRESS_TEST_KILLS=20 $(BIN)/python -m pytest tests/compress/test_checkpoint_kills.py
	$(BIN)/python -m tests.surviving

load: $(VENV)/.installed-dev
	$(BIN)/python -m tests.loading

serve: $(VENV)/.installed-dev
	$(BIN)/python -m tests.serving runs/quickstart

# Which versions of the runtimes, Pythons, lower bounds and releases of TensorRT-RTX open the sample's engines and answer
# alike, each in an environment of its own.
versions: $(VENV)/.installed
	$(BIN)/python -m benchmarks.versions runs/quickstart --data examples/clipart-sample --into $(VENV)/versions
	$(BIN)/python -m benchmarks.pythons runs/quickstart --data examples/clipart-sample --into $(VENV)/versions
	$(BIN)/python -m benchmarks.rtx_releases runs/quickstart --into $(VENV)/versions

# What `edgepress students` knows; it goes on where it was interrupted, and takes hours.
students: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.students examples/clipart-sample --into $(VENV)/students
	$(BIN)/python -m benchmarks.students examples/clipart-sample --into $(VENV)/students --write

# The sample's CPU engines on emulated ARM processors; root user of a Debian with qemu 10 and mmdebstrap.
arm64: $(VENV)/.installed-dev
	$(BIN)/python -m tests.arm64 runs/quickstart --into $(VENV)/arm64 --record benchmarks/records/arm64.json

# Mutation testing goes on where it was interrupted; `rm -r mutants` begins again.
mutate: $(VENV)/.installed-dev $(VENV)/mutating/.installed
	PYTHONPATH="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" OMP_NUM_THREADS=1 \
		$(VENV)/mutating/bin/python -m tests.mutating

# What is installed, as a CycloneDX list, and what is known against it; the second asks PyPI's advisories.
sbom: $(VENV)/.installed-dev $(VENV)/tools/.installed
	$(VENV)/tools/bin/cyclonedx-py environment $(BIN)/python --output-file sbom.json

audit: $(VENV)/.installed-dev $(VENV)/tools/.installed
	$(VENV)/tools/bin/pip-audit --strict --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

$(VENV)/tools/.installed: | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/tools
	$(VENV)/tools/bin/pip install --disable-pip-version-check --quiet 'cyclonedx-bom>=7' 'pip-audit>=2.9'
	touch $@

$(VENV)/mutating/.installed: constraints.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/mutating
	$(VENV)/mutating/bin/pip install --disable-pip-version-check --quiet --constraint constraints.txt 'mutmut>=3.8,<4'
	touch $@

clean:
	rm -rf $(VENV) runs build mutants *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgepress trains on Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --ignore-requires-python onnx2tf==2.6.9
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[$(EXTRAS),dev]'
	touch $@
