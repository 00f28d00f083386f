# Every target sets itself up; `make demo` and `make test` are the two that matter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ENGINE ?=
SIM    ?= verilator
JOBS   ?= auto

export NOMUL_SIM := $(SIM)
export NOMUL_ENGINE := $(ENGINE)

.PHONY: setup demo test sim verilog report bench lint clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(READY)
	$(BIN)/pytest -n $(JOBS)

clean:
	rm -rf build
