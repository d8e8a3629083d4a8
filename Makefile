# Every target makes the environment that it needs; nothing has to be done before it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# No screen is needed: Slicer's views draw through EGL, Qt into memory.
HEADLESS := env -u DISPLAY VTK_DEFAULT_OPENGL_WINDOW=vtkEGLRenderWindow QT_QPA_PLATFORM=offscreen

.PHONY: setup demo demo-real test lint types bench bench-batch pictures model prognosis-model clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[development]'
	touch $(READY)

demo: $(READY)
	rm -rf build/demo
	$(HEADLESS) $(BIN)/reactkd demo --output build/demo

demo-real: $(READY)
	rm -rf build/demo-real
	$(HEADLESS) $(BIN)/reactkd demo --real --output build/demo-real

test: $(READY)
	$(HEADLESS) $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python Testing/benchmarks/pipeline.py
	$(BIN)/python Testing/benchmarks/backends.py
	$(BIN)/python Testing/benchmarks/lowdose.py
	$(BIN)/python Testing/benchmarks/radiomics.py
	$(HEADLESS) $(BIN)/python Testing/benchmarks/panel.py

# Batches: overhead, scaling, 100,000 rows, killed workers; then 500 cases with faults injected.
bench-batch: $(READY)
	$(BIN)/python Testing/benchmarks/batch.py
	$(BIN)/python Testing/benchmarks/batch_soak.py

# Pictures in docs/pictures: the module, its report (with Chromium and pdftoppm), and the demos
# (those of make demo and make demo-real, as they were last run).
pictures: $(READY)
	$(HEADLESS) $(BIN)/python Testing/harness/panel_pictures.py docs/pictures
	$(BIN)/python Testing/harness/demo_pictures.py build/demo build/demo-real docs/pictures

# Distils the shipped liver model anew: about an hour of two cores; goes on where it was stopped.
STUDY := --config training/configs/studies/small.json --work build/study
model: $(READY)
	$(BIN)/python -m training reproduce $(STUDY) --method REACT-KD
	rm -rf build/package
	$(BIN)/python -m training export $(STUDY) --method REACT-KD --package build/package/hcc-grade3-simulated \
	  --attribution "Simulated patients; no patient data."

# Trains the shipped model of prognosis anew, on simulated patients: hours of two cores; goes on where it was
# stopped.
PROGNOSIS := --config training/configs/prognosis/simulated.json --work build/prognosis
prognosis-model: $(READY)
	$(BIN)/python -m training prognosis-reproduce $(PROGNOSIS)
	rm -rf build/package
	$(BIN)/python -m training prognosis-export $(PROGNOSIS) --seed 1 --package build/package/prognosis-simulated \
	  --attribution "Simulated patients; no patient data."

clean:
	rm -rf $(VENV) build
