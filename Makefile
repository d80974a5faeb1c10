# make install | demo | test | check | docs | docs-test      PYTHON=python3.13 for another Python, in a folder of its own

PYTHON ?= python3
ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VENV ?= .venv-$(notdir $(PYTHON))
endif
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# two files of tests at a time; a file's tests share what they make
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: install demo test check docs docs-serve docs-test clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,studies,docs,test,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/xqg demo --overwrite

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

# the site, in site/
docs: $(STAMP)
	$(BIN)/python docs/make_site.py

docs-serve: docs
	$(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000

# every block of the pages that can run here, those that `make test` leaves out as too slow among them
docs-test: $(STAMP)
	XQG_DOCS_SLOW=1 $(PYTEST) tests/test_docs.py tests/cli/test_bring_your_files.py

clean:
	rm -rf .venv .venv-* xqg-demo site
