.DEFAULT_GOAL := help
.PHONY: help course test test-fast test-browser test-slurm test-oldest test-newest bench compare bench-store bench-widgets check-gpu torture sweep long publish lab site doctor store clean

PYTHON ?= python3
TORCH = auto
BIN := .venv/bin

# What the tools would leave in HOME and /tmp stays here, and goes with `make clean`.
CACHE := $(CURDIR)/.cache
export TMPDIR := $(CACHE)/tmp
export XDG_CACHE_HOME := $(CACHE)
export MPLCONFIGDIR := $(CACHE)/matplotlib
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export npm_config_cache := $(CACHE)/npm
export PIP_NO_CACHE_DIR := 1
export UV_NO_CACHE := 1
unexport PYTHONPATH PYTHONHOME

# An environment whose Python was upgraded or removed is not ready.
$(shell test ! -e .venv/ready || .venv/bin/python -c '' 2>/dev/null || rm -f .venv/ready .venv/ready-test)

help:                ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

course: .venv/ready  ## set up, run all notebooks on the cpu lane, show the results
	$(BIN)/python -m trc_lib course --lane cpu

# Two processes of one thread each: two of two would take turns on two cores.
test test-fast: export OMP_NUM_THREADS := 1
test: test-fast      ## run all tests: the fast ones, the integration tests, every notebook against its stored outputs, and the system tests (a browser, a Slurm, torture)
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/integration
	$(BIN)/python -m pytest -n 2 --nbval notebooks
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -rs tests/system

test-fast: .venv/ready-test  ## run ruff and the unit tests (three to four minutes)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

test-browser: .venv/ready-test  ## work every control of every widget in a real browser (as root it installs Debian's chromium)
	$(BIN)/python -m pytest tests/system/browser

test-slurm: .venv/ready-test  ## send grids of runs to a real Slurm on this machine (as root it installs Debian's slurm and munge)
	$(BIN)/python -m pytest -rs tests/system/slurm

test-oldest: RESOLUTION := lowest-direct  ## run the unit and integration tests with the oldest versions that pyproject.toml allows (with PyTorch for CUDA: 3 GB to download, 7 GB of disk)
test-newest: RESOLUTION := highest  ## run the unit and integration tests with the newest versions that it allows (as large); another Python: make test-newest PYTHON=python3.13
test-oldest test-newest: | .cache/tmp
	$(PYTHON) -m venv --clear .venv-$@
	.venv-$@/bin/pip install --quiet uv
	.venv-$@/bin/uv pip install --quiet --system-certs --python .venv-$@ --resolution $(RESOLUTION) -e '.[test,browser,export,dev]'
	.venv-$@/bin/python -m pytest -n 2 --dist worksteal tests/unit
	.venv-$@/bin/python -m pytest -n 2 --dist worksteal tests/integration

bench-widgets: .venv/ready-test  ## measure from a finger's move to the new picture, and one refinement in JavaScript, in a real browser
	$(BIN)/python -m tests.benchmarks.bench_widgets

bench: .venv/ready-test  ## measure teacher, training and inference, each against its rivals (about 10 minutes, on a quiet machine)
	$(BIN)/python -m tests.benchmarks.bench

compare: .venv/ready-test  ## hold two commits against each other, in turns: make compare A=main~10 B=main
	$(BIN)/python -m tests.benchmarks.compare $(A) $(B)

bench-store: .venv/ready-test  ## measure time, memory and disk of 1e5, 1e6 and 1e7 problems in shards
	$(BIN)/python -m tests.benchmarks.bench_store

check-gpu: .venv/ready-test  ## on a machine with a GPU: compare it with the CPU, measure it, write data/results/gpu.json; a part of it: make check-gpu PART=agreement, ways, papermill, batches or oscillator
	$(BIN)/python -m tests.benchmarks.check_gpu $(if $(PART),--part $(PART))

torture: .venv/ready-test  ## kill, damage, misuse and starve it, and count what it survives (about an hour, as root for all of it)
	$(BIN)/python -m tests.system.torture

sweep: .venv/ready   ## train all rivals of chapters 6 to 9 and 12 with five seeds (about 2.5 hours on 2 cores; stopped runs go on)
	$(BIN)/python -m trc_lib sweep
	$(BIN)/python -m trc_lib sweep --study bounded
	$(BIN)/python -m trc_lib sweep --study van_der_pol
	$(BIN)/python -m trc_lib sweep --study powered_descent

long: .venv/ready    ## train the best network that is shipped (about 4 minutes)
	$(BIN)/python -m trc_lib generate --out data/long
	$(BIN)/python -m trc_lib train --data data/long --out data/long --proportional --objective rms --cycle-weight 1 --final-weight 0.3 --epochs 20

publish: .venv/ready-test  ## for maintainers: run the course if need be, and write its figures to README.md, figures and data/results/course.json
	$(BIN)/python -m tests.benchmarks.publish

lab: .venv/ready     ## open the course in JupyterLab, in copies of your own in my_course
	$(BIN)/python -m trc_lib lab

site: .venv/ready-test  ## build the course as an offline website in site/ (links to its files on GitHub: make site REPOSITORY=https://github.com/OWNER/NAME)
	$(BIN)/python -m docs.site.build site $(if $(REPOSITORY),--repository $(REPOSITORY))

doctor: .venv/ready  ## check that all that the course needs is here
	$(BIN)/python -m trc_lib doctor

store: .venv/ready-test  ## restart and run all notebooks, and store their outputs in place
	cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False *.ipynb solutions/*.ipynb

clean:               ## remove all that was made here, but for your copies in my_course: the environments, the runs, the generated data, the tools' caches
	rm -rf .venv .venv-* .cache runs site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find data -mindepth 1 -maxdepth 1 ! -name README.md ! -name pretrained ! -name results -exec rm -rf {} +
	find . -path ./my_course -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

.cache/tmp:
	mkdir -p $@

.venv/ready .venv/ready-test: pyproject.toml constraints.txt | .cache/tmp
	$(PYTHON) trc_lib/course/install.py --torch $(TORCH) $(if $(filter %-test,$@),--tests)
