# Two commands on a fresh Debian machine (root): `make demo` and `make test`. Everything they need they install.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One part of the whole: make test PART=tunnel, make check PART=agent/helper, make build PART=agent.
SOURCE := $(if $(PART),$(firstword $(wildcard codesmith/$(PART) $(PART))))
TESTED := $(if $(PART),$(firstword $(wildcard tests/$(PART) tests/$(dir $(PART)))),$(TESTS))
# A file of tests stays in one process: its nodes are booted once. tests/conftest.py puts the longest files first.
# Twice as many as there are processors: tests wait for nodes.
WORKERS ?= $(shell expr $$(nproc) \* 2)
FOR_TESTS := curl fish git groff=groff-base man=man-db node=nodejs mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs rsync chromium-headless-shell zsh
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install part lab demo demo-ui test test-fast test-long test-vm check format build api man bench clean

help:
	@echo "make demo       boot a throw-away node, prepare it, create a workspace, run a command in it, show all"
	@echo "make demo-ui    the admin UI on three throw-away nodes with workspaces, one of them cut off, until Ctrl-C"
	@echo "make test       all but the long ones, on real nodes (root);  make test-fast: what needs no node, without the slow ones"
	@echo "make test-long  what takes minutes: storms, many nodes, outages with their real time limits, every release"
	@echo "make test-vm    on virtual machines with a kernel of their own: control groups v2"
	@echo "make check      lint, format, types, generated files"
	@echo "                test, test-fast, test-long, check and build take PART=tunnel, PART=agent/helper, ... for one part"
	@echo "make bench      timings beside the peers, as ratios"
	@echo "make install    the virtual environment $(VENV);  make build: wheel and sdist in dist/"
	@echo "make api        agent/openrpc.json and codesmith/sdk/api.py from the typed methods"
	@echo "make man        man/*.1 of the tables of the help pages; read one with man -l man/codesmith.1"
	@echo "make clean      what make made here; lab nodes too"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || command -v $(PYTHON) >/dev/null || \
		{ apt-get update && apt-get install --yes --no-install-recommends python3; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ apt-get update && apt-get install --yes --no-install-recommends python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --editable '.[mcp,ui,test,check]'
	@touch $@

# The Debian packages that throw-away nodes need (mmdebstrap, systemd-container, ...); says nothing when all are there.
lab: install
	$(BIN)/python -m codesmith.lab.setup

demo: lab
	$(BIN)/inv demo

demo-ui: lab
	$(BIN)/python -m codesmith.lab.demo_ui

test: install part
	$(BIN)/python -m codesmith.lab.setup $(FOR_TESTS)
	$(PYTEST) -m 'not long and not vm' $(TESTED) || { [ $$? = 1 ] && $(BIN)/python -m tests.once_more -m 'not long and not vm'; }

test-long: install part
	$(BIN)/python -m codesmith.lab.setup $(FOR_TESTS) g++ make npm
	$(PYTEST) -m long $(TESTED)

test-vm: install part
	$(BIN)/python -m codesmith.lab.setup qemu-system-x86_64=qemu-system-x86 mkfs.ext4=e2fsprogs debugfs=e2fsprogs
	$(BIN)/pytest --numprocesses 0 -m vm $(TESTED)

test-fast: install part
	$(PYTEST) -m 'not lab and not slow and not long and not vm' $(TESTED)

check: install part
	$(BIN)/ruff check $(or $(SOURCE) $(TESTED),.)
	$(BIN)/ruff format --check $(or $(SOURCE) $(TESTED),.)
	$(BIN)/mypy $(SOURCE)
	$(BIN)/python -m agent.methods | cmp - agent/openrpc.json
	$(BIN)/python -m codesmith.sdk.generate --check
	$(BIN)/python -m codesmith.tasks --check

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A part of the controller is built by compiling it: it ships in the one wheel. The agent is a file of its own.
build: install part
	$(if $(SOURCE),$(BIN)/python -m compileall -q $(SOURCE),$(BIN)/python -m build --outdir dist .)
	$(if $(filter agent%,$(PART)),$(BIN)/python -m codesmith.bootstrap.zipapp agent dist/agent.pyz)

part:
	@[ -z "$(PART)" ] || [ -n "$(SOURCE)" ] || \
		{ echo "no part $(PART): a folder of codesmith/, or agent, or one of its folders" >&2; exit 2; }

api: install
	$(BIN)/python -m agent.methods > agent/openrpc.json.new
	mv agent/openrpc.json.new agent/openrpc.json
	$(BIN)/python -m codesmith.sdk.generate
	$(BIN)/python -m codesmith.tasks

man: install
	$(BIN)/python -m codesmith.tasks

# The peers live in an environment of their own: pyinfra wants an older paramiko than ours. matplotlib draws the plots.
bench: lab $(VENV)-bench/.installed
	$(BIN)/python -m bench --write; met=$$?; $(VENV)-bench/bin/python -m bench.plots && exit $$met

$(VENV)-bench/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet --quiet --disable-pip-version-check 'ansible-core>=2.15' 'pyinfra>=3' 'matplotlib>=3.8'
	@touch $@

clean:
	@[ ! -x $(BIN)/inv ] || $(BIN)/inv lab.down --all
	rm -rf $(VENV) $(VENV)-bench build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
