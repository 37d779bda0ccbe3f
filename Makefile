.DEFAULT_GOAL := help
.PHONY: help course test test-browser test-slurm bench bench-store bench-widgets check-gpu torture sweep long lab doctor store clean

PYTHON ?= python3
BIN := .venv/bin

help:                ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

course: .venv/ready  ## set up, run all notebooks on the cpu lane, show the results
	$(BIN)/python -m trc_lib course --lane cpu

test: .venv/ready    ## set up, run the unit tests, compare every notebook with its stored outputs, work the widgets in a browser
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 tests --ignore tests/browser --ignore tests/slurm
	$(BIN)/python -m pytest --nbval notebooks
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python -m pytest -rs tests/slurm

test-browser: .venv/ready  ## work every control of every widget in a real browser (as root it installs Debian's chromium)
	$(BIN)/python -m pytest tests/browser

test-slurm: .venv/ready  ## send grids of runs to a real Slurm on this machine (as root it installs Debian's slurm and munge)
	$(BIN)/python -m pytest -rs tests/slurm

bench-widgets: .venv/ready  ## measure from key press to new picture in a real browser
	$(BIN)/python -m tests.benchmarks.bench_widgets

bench: .venv/ready   ## measure teacher, training and inference, each against its rivals (about 10 minutes, on a quiet machine)
	$(BIN)/python -m tests.benchmarks.bench

bench-store: .venv/ready  ## measure time, memory and disk of 1e5, 1e6 and 1e7 problems in shards
	$(BIN)/python -m tests.benchmarks.bench_store

check-gpu: .venv/ready  ## on a machine with a GPU: compare it with the CPU, train the gpu lane, write data/results/gpu.json
	$(BIN)/python -m tests.benchmarks.check_gpu

torture: .venv/ready ## kill, damage, misuse and starve it, and count what it survives (about half an hour, as root for all of it)
	$(BIN)/python -m tests.torture

sweep: .venv/ready   ## train all rivals of chapters 6 to 8 with five seeds (about 4 hours; stopped runs go on)
	$(BIN)/python -m trc_lib sweep
	$(BIN)/python -m trc_lib sweep --study bounded
	$(BIN)/python -m trc_lib sweep --study van_der_pol

long: .venv/ready    ## train the best network that is shipped (about 4 minutes)
	$(BIN)/python -m trc_lib generate --out data/long
	$(BIN)/python -m trc_lib train --data data/long --out data/long --proportional --objective rms --cycle-weight 1 --final-weight 0.3 --epochs 20

lab: .venv/ready     ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

doctor: .venv/ready  ## check that all that the course needs is here
	$(BIN)/python -m trc_lib doctor

store: .venv/ready   ## restart and run all notebooks, and store their outputs in place
	cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False *.ipynb solutions/*.ipynb

clean:            ## remove the environment, the runs and all generated data
	rm -rf .venv runs data/smoke data/cpu data/gpu data/training data/long data/sweep data/bounded data/van_der_pol data/lqr_dataset data/*.npz *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12")'
	@echo "installing into .venv: takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,browser,export]'
	touch $@
