.DEFAULT_GOAL := help
.PHONY: help course test lab doctor store clean

PYTHON ?= python3
BIN := .venv/bin

help:                ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

course: .venv/ready  ## set up, run the five notebooks on the cpu lane, show the results
	$(BIN)/python -m trc_lib course --lane cpu

test: .venv/ready    ## set up, run the unit tests, then compare every notebook with its stored outputs
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 tests
	$(BIN)/python -m pytest --nbval notebooks

lab: .venv/ready     ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

doctor: .venv/ready  ## check that all that the course needs is here
	$(BIN)/python -m trc_lib doctor

store: .venv/ready   ## restart and run all notebooks, and store their outputs in place
	cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False *.ipynb

clean:            ## remove the environment, the runs and all generated data
	rm -rf .venv runs data/smoke data/cpu data/gpu data/training data/*.npz *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.12")'
	@echo "installing into .venv: takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@
