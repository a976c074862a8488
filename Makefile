# Boxship. `make run` and `make test` need python3-venv, make and git, and root; nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Where Python keeps nothing of what it compiles, each command, daemon and test compiles all of Boxship again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-vm test-projects check bench clean

# Editable, so that a change is there at the next run and a second run installs nothing. By paths, for setuptools finds three
# directories by a module of its own, whose import is a third of a command's start.
PATHS = printf '%s\n' "$(CURDIR)/client" "$(CURDIR)/engine" "$(CURDIR)/runtime" > $$(echo $(VENV)/lib/python*/site-packages/__editable__.boxship-*.pth)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@$(PATHS)
	@touch $@

$(VENV)/installed-test: pyproject.toml $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	@$(PATHS)
	@touch $@

run: $(VENV)/installed
	@.ci/demo $(BIN)

test: $(VENV)/installed-test
	.ci/packages test
	$(BIN)/pytest -m alone $(TESTS); alone=$$?; $(BIN)/pytest -n 6 --dist loadgroup -m "not alone" $(TESTS) && exit $$alone

# What is about control groups, on real cgroup v2: in a virtual machine with Debian's cloud kernel.
test-vm: $(VENV)/installed-test
	.ci/packages vm
	$(BIN)/python tests/vm $(TESTS)

# Builds of projects as people have them, with packages from Debian, PyPI and npm, and dockerd's builds beside ours: it takes a
# network, and minutes.
test-projects: $(VENV)/installed-test
	.ci/packages test
	.ci/packages projects
	.ci/packages bench
	BOXSHIP_TEST_PROJECTS=1 BOXSHIP_TEST_PEERS=1 $(BIN)/pytest tests/projects tests/compat/test_build_conformance.py $(TESTS)

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-test
	.ci/packages bench
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) build *.egg-info
