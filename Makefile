# make demo   from nothing to a bundle and a page    make test   the tests    make check   format, lint, types, layers
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# ONNX Runtime reports its use to its maker unless this is set.
export ORT_DISABLE_TELEMETRY := 1
# One thread a test process: two that spin for the same cores take many times as long.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
EXTRAS := train,export,tune,openvino,litert,executorch,dev

.PHONY: setup demo test coverage check bench docs format clean

setup: $(STAMP)

# Torch goes first and pinned: otherwise another package may pull gigabytes of CUDA builds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(STAMP)

demo: setup
	$(BIN)/edgevit run digits-vit-tiny

test: setup
	$(TEST)

# Apart: tracing makes the tests take half as long again.
coverage: setup
	$(TEST) --cov --cov-report term --cov-fail-under 90

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/readme_commands.py --check
	$(BIN)/python tests/latency_docs.py --check

bench: setup
	$(BIN)/python tests/benchmarks/against_plain_recipes.py

docs: setup
	$(BIN)/python tests/readme_commands.py
	$(BIN)/python tests/latency_docs.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .coverage*
