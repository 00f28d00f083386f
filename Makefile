# Every target sets itself up; `make demo` and `make test` are the two that matter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ENGINE ?=
SIM    ?= verilator
JOBS   ?= auto
NOMUL_FUZZ_CONFIGS  ?= 1000
NOMUL_FUZZ_MACHINES ?= 100

# Simulators and results that are kept: what `make clean` removes.
export NOMUL_CACHE ?= $(CURDIR)/build/cache
export NOMUL_SIM := $(SIM)
export NOMUL_ENGINE := $(ENGINE)

.PHONY: bench-fullscale setup demo check test test-rtl test-synth sim sim-routed verilog report fuzz bench forms lint clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/nomul generate --backend rtl --prompt "ROMEO:" --tokens 40
	$(BIN)/nomul check tlmm --layer model.layers.0.mlp.down_proj --tokens 32 --set tables=9 --set fill_units=9 --set rows=4
	$(BIN)/nomul report tlmm --target xcup --set tables=9 --set fill_units=9 --set rows=4

# Before each commit: format, lint, types, and the tests that neither simulate nor synthesise nor take seconds each.
check: lint
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not bench and not synth and not slow"

test-rtl: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m bench

test-synth: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m synth

test: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup

sim: $(READY)
	$(BIN)/pytest -n $(JOBS) --dist loadgroup sim

# The netlist in the iCEBreaker's bitstream, placed and routed, over its serial line: minutes.
sim-routed: $(READY)
	NOMUL_ROUTED=board $(BIN)/pytest sim/test_board_engine.py -k routed

verilog: $(READY)
	for engine in $$($(BIN)/nomul engines --json | $(BIN)/python -c 'import json, sys; found = json.load(sys.stdin); print(*found["engines"], *found["units"])'); \
	do $(BIN)/nomul verilog $$engine -o build/verilog; done

report: $(READY)
	$(BIN)/nomul report --all

fuzz: $(READY)
	NOMUL_FUZZ_OCTETS=1000000 $(BIN)/pytest -n $(JOBS) sim/test_serial.py
	NOMUL_FUZZ_CASES=2000 $(BIN)/pytest tests/test_cli_fuzz.py
	$(BIN)/python -m nomul.sim.fuzz configurations $(NOMUL_FUZZ_CONFIGS)
	$(BIN)/python -m nomul.sim.fuzz machines $(NOMUL_FUZZ_MACHINES)

# What every target's own arithmetic costs over the portable form, at all sizes of the report: two hours of one core.
forms: $(READY)
	$(BIN)/python -m benchmarks.forms

bench: $(READY)
	$(BIN)/python -m benchmarks.guard
	$(BIN)/python -m benchmarks build/bench.json

# A model of 0.73 billion parameters in simulated RTL: hours; resumes from its file.
bench-fullscale: $(READY)
	$(BIN)/python -m benchmarks.fullscale build/fullscale.json

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build
