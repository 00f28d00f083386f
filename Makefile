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

.PHONY: setup demo test sim verilog report fuzz bench lint clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/nomul check tlmm --layer model.layers.0.mlp.down_proj --tokens 32 --set tables=9 --set fill_units=9 --set rows=4
	$(BIN)/nomul report tlmm --target xcup --set tables=9 --set fill_units=9 --set rows=4

test: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup

sim: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup sim

verilog: $(READY)
	for engine in $$($(BIN)/nomul engines --json | $(BIN)/python -c 'import json, sys; found = json.load(sys.stdin); print(*found["engines"], *found["units"])'); \
	do $(BIN)/nomul verilog $$engine -o build/verilog; done

report: $(READY)
	$(BIN)/nomul report tlmm --target xcup
	$(BIN)/nomul report tlmm --target ecp5 --set rows=4 --set banks=1

fuzz: $(READY)
	NOMUL_FUZZ_OCTETS=1000000 $(BIN)/pytest -n $(JOBS) sim/test_serial.py

bench: $(READY)
	$(BIN)/python -m benchmarks build/bench.json

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build
