# `make demo` shows the main job, `make test` runs what continuous integration runs.
# Both build .venv first, from lock files with exact versions and hashes.

VENV := .venv
PY := $(VENV)/bin/python
PYTEST_WORKERS ?= 2

# Thousands of commands are started by the tests; without bytecode on the disk each compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all help demo test test-deep test-packages zipapp setup-root-zipapp deb lint types layers programs tests test-boot env man lock clean

all: env

$(VENV)/.run-ready: requirements/run.txt pyproject.toml tools/setup-env.sh
	tools/setup-env.sh requirements/run.txt
	touch $@

$(VENV)/.dev-ready: requirements/dev.txt pyproject.toml tools/setup-env.sh
	tools/setup-env.sh requirements/dev.txt
	touch $@ $(VENV)/.run-ready

env: $(VENV)/.dev-ready

# List the targets.
help:
	@awk '/^#/ { text = text substr($$0, 2); next } /^[a-z][a-z-]*:/ && text { sub(/:.*/, ""); printf "%-14s%s\n", $$0, text } { text = "" }' Makefile

# Pull an embedded OSTree repository and mount it; or another one with URL=http://... REF=...
demo: $(VENV)/.run-ready
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh demo/demo.sh $(if $(URL),"$(URL)" "$(REF)")

# What continuous integration runs: format, lint, types, layers, tests.
test: env
	# The download of programs waits for the network, the check of types for one processor.
	$(MAKE) --no-print-directory -j2 -O lint types layers programs
	$(MAKE) --no-print-directory tests

lint: env
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: env
	$(VENV)/bin/mypy

layers: env
	$(VENV)/bin/lint-imports

programs:
	tools/setup-debian.sh

tests: env programs
	# Some fork, which a worker of xdist with its threads may not, or change what the others see. Only the files
	# that have one are collected: to collect all takes as long as these tests.
	$(PY) -m pytest -n 0 -m "alone and not deep" $$(grep -lrw --include="test_*.py" mark.alone tests)
	$(PY) -m pytest -n $(PYTEST_WORKERS) --dist loadfile -m "not alone and not packages and not deep"

# Boot a machine in an emulator from an image that was pulled and installed, and show that a changed one does not.
test-boot: env
	tools/setup-debian.sh
	$(PY) -m pytest -n 0 tests/guest/test_boot.py

# The long forms of tests that `make test` runs in part: every combination, more mutations.
test-deep: env
	tools/setup-debian.sh
	tools/setup-debian.sh debootstrap
	# pytest exits with 5 where nothing bears both markers.
	$(PY) -m pytest -n 0 -m "alone and deep" || [ $$? = 5 ]
	$(PY) -m pytest -n $(PYTEST_WORKERS) --dist loadfile -m "deep and not alone" || [ $$? = 5 ]
	# Other examples than those of every other run.
	$(PY) -m pytest -n $(PYTEST_WORKERS) --hypothesis-profile=random -m "not deep and not alone" tests/property

# Build, install and use the packages; this needs a registry, and for the Debian package root.
test-packages: env
	tools/setup-debian.sh build-essential debhelper dh-python python3-dev lintian debootstrap systemd systemd-container
	$(PY) -m pytest -n 0 -m packages tests/packages

# dist/cfsctl.pyz: one file that needs nothing but Python.
zipapp: env
	tools/build-zipapp.sh

# dist/composefs-setup-root.pyz: what mounts the root in an initramfs, in one file.
setup-root-zipapp: env
	$(PY) tools/setup_root_zipapp.py

# dist/cfsctl_VERSION_ARCHITECTURE.deb; needs build-essential, debhelper, dh-python and python3-dev.
deb:
	tools/build-deb.sh

# Regenerate the manual pages below docs/man from the help texts and docs/man/prose.toml.
man: env
	$(PY) tools/man_pages.py

# Update the lock files; the only step that looks for newer versions.
lock: env
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra fast --group build --custom-compile-command "make lock" pyproject.toml -o requirements/run.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra fast --extra pcre2 --group build --group test --group lint --group docs --group lock \
		--group zipapp --custom-compile-command "make lock" pyproject.toml -o requirements/dev.txt
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra fast --constraint requirements/run.txt \
		--custom-compile-command "make lock" pyproject.toml -o requirements/app.txt

# Remove everything that was built.
clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
