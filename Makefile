# Everything from a fresh machine: needs a Rust toolchain and a Python with venv, nothing else.
#
#   make demo                                        build, then run the demo
#   make test                                        build, then run every test
#   make PYTHON=python3.13 VENV=.venv-3.13 test      the same on another interpreter
#   make dev fmt check                               while you work: see CONTRIBUTING.md

PYTHON ?= python3
VENV ?= .venv
# Options for the demo, for pytest, for the conformance run and for the benchmarks.
DEMO_ARGS ?=
PYTEST_ARGS ?=
CONFORMANCE_ARGS ?=
BENCH_ARGS ?=
# What of the suite the watched interpreters run, with pytest's options; nothing means most of it.
DEBUG_ARGS ?=
ASAN_ARGS ?=
EXITS_ARGS ?=
STRESS_ARGS ?= --seconds 120
SOAK_ARGS ?= --cycles 500
# What libraries may have besides the newest.
PYO3_VERSIONS ?= 0.27 0.28 0.29
# Seeds of other programs than those that `make test` runs.
RANDOM_ARGS ?= --seeds 2000-4000
HOSTILE_ARGS ?=
# Which of the libraries' suites; none means all.
UPSTREAM_ARGS ?=
# Another Linux's root folder to run the benchmarks in, on the CPython that is there.
BENCH_ROOT ?=
BENCH_PYTHON ?= 3.14
BENCH_OUT ?= benchmarks/results
# Where wheels and sdist go; the CPythons that must have a wheel: none means those that are here.
DIST ?= dist
BUILDS ?= target/wheels-build
WHEEL_PYTHONS ?=
PACKAGE_ARGS ?=
# What `make version` compares.
TAG ?=
# Which of advisories, licenses, bans and sources; nothing means all.
DENY_CHECKS ?=
# The release whose empty root the wheel is tried in.
DEBIAN ?= trixie

# Pinned, so that a new release of a tool does not turn a green tree red.
LINT_TOOLS := ruff==0.17.5 mypy==2.4.1 'rich>=13'
MATURIN := 'maturin>=1.9,<2'

BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOADGEN := --manifest-path benchmarks/loadgen/Cargo.toml
LOOM := --manifest-path tests/loom/Cargo.toml
LOOM_THREADS := --manifest-path tests/loom/threads/Cargo.toml --target-dir target/loom-threads
# What the bridge is used in: the tests' extension, and the examples.
EXTENSIONS := tests/bridge/extension tests/bridge/unchanged examples/rust-extension examples/rust-embedded examples/rust-http
# Every crate of the repository: all are formatted in the same way.
CRATES := . crates/tokioloop-bridge crates/pyo3-async-runtimes/0.30 benchmarks/loadgen benchmarks/extension tests/loom tests/loom/threads $(EXTENSIONS)
SOURCES := $(shell find src crates -name '*.rs' 2>/dev/null) \
	$(wildcard Cargo.toml crates/*/Cargo.toml Cargo.lock pyproject.toml build.rs)

# rustup puts cargo where a shell that was open before does not look.
export PATH := $(PATH):$(HOME)/.cargo/bin
# maturin installs into this environment, and into no other that happens to be active.
export VIRTUAL_ENV := $(abspath $(VENV))
unexport CONDA_PREFIX PYTHONHOME
# pip, which maturin calls as well, prints what goes wrong and nothing else.
export PIP_QUIET := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

say = @if [ -t 1 ]; then printf '\033[1m==> %s\033[0m\n' $(1); else printf '==> %s\n' $(1); fi

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build dev demo test test-rust test-loom test-python conformance bench bench-growth clean
.PHONY: fmt check lint lint-rust lint-python check-rust
.PHONY: wheels sdist package deny version wheel-in-root
.PHONY: test-debug test-asan test-tsan test-libraries test-exits test-miri stress soak random hostile upstream recipes docs

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nPYTHON=%s VENV=%s; also DEMO_ARGS, PYTEST_ARGS, CONFORMANCE_ARGS, BENCH_ARGS, BENCH_ROOT,\nDEBUG_ARGS, ASAN_ARGS, EXITS_ARGS, STRESS_ARGS, SOAK_ARGS, RANDOM_ARGS, HOSTILE_ARGS, UPSTREAM_ARGS.\n' $(PYTHON) $(VENV)

build: $(VENV)/.built ## Build the release extension into the virtual environment

# Both builds put the extension into the package's folder, and the later one is what Python imports.
# This one compiles in a folder of its own, so that the release build's objects stay, and takes the
# mark away: the next target that needs the release build then links and copies that again.
dev: $(VENV)/.made ## Build an unoptimised extension with debug assertions, in seconds
	$(call say,"Building the unoptimised extension")
	@rm -f $(VENV)/.built
	@installed=--skip-install; \
	[ $(VENV)/.installed -nt pyproject.toml ] || installed='--extras test'; \
	CARGO_PROFILE_DEV_DEBUG=none \
		$(BIN)/maturin develop --target-dir target/dev $$installed
	@touch $(VENV)/.installed

demo: build ## Build, then fetch a thousand pages on the loop
	$(call say,"Demo: examples/fetch_thousand.py $(DEMO_ARGS)")
	@$(BIN)/python examples/fetch_thousand.py $(DEMO_ARGS) || { \
		echo 'The demo failed; its own message is above.' >&2; exit 1; }
	$(call say,"The demo has finished: one program ran on asyncio's loop and on tokioloop by turns.")

test: test-rust test-loom test-python ## Build, then run all tests: Rust, Python, and the slow ones

# The Rust unit tests are a program that embeds Python: it needs the shared libpython, which an
# installation that only runs programs may lack.
test-rust: $(VENV)/.built ## Run the Rust unit tests and the examples in the documentation
	$(call say,"Rust unit tests")
	@libdir=$$($(BIN)/python -c "$$FIND_LIBPYTHON"); \
	if [ -n "$$libdir" ]; then \
		PYO3_PYTHON=$(BIN)/python \
		LD_LIBRARY_PATH="$$libdir$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" cargo test --quiet --workspace; \
	else \
		echo 'Left out: this Python has no shared libpython to link with.'; \
		echo 'On Debian and Ubuntu: apt-get install python3-dev'; \
	fi
	@cargo test --quiet $(LOADGEN) --target-dir target/loadgen

# Needs no Python. LOOM_MAX_PREEMPTIONS=3 goes through more orders.
test-loom: | check-rust ## Run wakes between threads in every order of their steps, with loom
	$(call say,"Wakes between threads in every order")
	@cargo test --quiet $(LOOM) --target-dir target/loom

test-python: $(VENV)/.built ## Run the Python tests, then the slow ones
	$(call say,"Python tests")
	@$(BIN)/python -m pytest -n auto -m 'not slow' $(PYTEST_ARGS)
	$(call say,"Slow tests: one at a time; they count descriptors and memory")
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]  # 5: none selected

# --- Machines that look for bugs; docs/testing.md says what each finds ------------------------

test-debug: | check-rust ## Run the tests on a debug CPython; count what each leaves behind
	$(call say,"A debug build of CPython")
	@tests/machines/debug $(DEBUG_ARGS)

test-asan: | check-rust ## Run the tests with AddressSanitizer in CPython and extension
	$(call say,"AddressSanitizer; the first time builds a CPython")
	@tests/machines/asan $(ASAN_ARGS)

# ThreadSanitizer comes with rustc, for those who ask for what is not stable. The standard library
# has none of it, which is why rustc has to be told that the two may be linked.
test-tsan: | check-rust ## Run loom's models on real threads with ThreadSanitizer
	$(call say,"ThreadSanitizer")
	@RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' \
		TSAN_OPTIONS="suppressions=$(CURDIR)/tests/loom/threads/suppressions.txt" \
		cargo test --quiet $(LOOM_THREADS) --target $$(rustc -vV | sed -n 's/^host: //p')

# The loop has one version of PyO3, libraries have many. The first time builds each of them.
test-libraries: $(VENV)/.built ## Run the bridge's tests of libraries with older versions of PyO3
	$(call say,"The bridge with PyO3 $(PYO3_VERSIONS)")
	@set -e; for each in $(PYO3_VERSIONS); do BRIDGE_PYO3=$$each \
		$(BIN)/python -m pytest tests/bridge -k 'beside or asyncio' $(PYTEST_ARGS); done

test-exits: $(VENV)/.built ## Exit hundreds of processes while Rust futures are in flight
	$(call say,"Exits with Rust futures in flight: $(EXITS_ARGS)")
	@$(BIN)/python tests/machines/exits.py $(EXITS_ARGS)

test-miri: | check-rust ## Run loom's models in Miri, which needs a nightly Rust
	$(call say,"Miri")
	@cargo +nightly miri --version >/dev/null 2>&1 || { \
		echo 'No Miri: rustup toolchain install nightly --component miri --component rust-src' >&2; \
		exit 1; }
	@cargo +nightly miri test --quiet $(LOOM_THREADS)/miri

stress: $(VENV)/.built ## Let threads at loops that open, run, close, fork and are collected
	$(call say,"Threads against loops: $(STRESS_ARGS)")
	@$(BIN)/python tests/machines/thread_stress.py $(STRESS_ARGS)

soak: $(VENV)/.built ## Serve clients that misbehave, for hundreds of cycles
	$(call say,"Soak: $(SOAK_ARGS)")
	@$(BIN)/python tests/machines/soak.py $(SOAK_ARGS)

random: $(VENV)/.built ## Run random programs here and on asyncio's loop
	$(call say,"Random programs: $(RANDOM_ARGS)")
	@PYTHONPATH=tests $(BIN)/python -m random_programs $(RANDOM_ARGS)

hostile: $(VENV)/.built ## Give every public method wrong arguments and objects that lie
	$(call say,"Hostile objects")
	@PYTHONPATH=tests $(BIN)/python -m hostile $(HOSTILE_ARGS)

# Each suite has an environment of its own below target/, which is kept.
upstream: $(VENV)/.built ## Run other people's suites on this loop, asyncio's and uvloop
	$(call say,"Suites of other projects, on three loops")
	@$(BIN)/python tests/upstream/run.py --folder target/upstream $(UPSTREAM_ARGS)

# ----------------------------------------------------------------------------------------------

# The frameworks have an environment of their own below target/, which is kept.
recipes: $(VENV)/.built ## Run the programs and commands of docs/recipes/ on the real servers
	$(call say,"Recipes: servers, frameworks, notebooks, clusters")
	@$(BIN)/python tests/recipes/environment.py target/recipes/venv
	@$(BIN)/python -m pytest -n auto tests/recipes $(PYTEST_ARGS)

docs: ## Build the documentation site in target/site
	$(call say,"The documentation site")
	@[ target/docs/requirements.txt -nt docs/requirements.txt ] || { \
		rm -rf target/docs && $(PYTHON) -m venv target/docs && \
		target/docs/bin/pip --disable-pip-version-check --quiet install -r docs/requirements.txt && \
		cp docs/requirements.txt target/docs/; }
	@NO_MKDOCS_2_WARNING=1 target/docs/bin/mkdocs --quiet build --strict

conformance: | check-rust ## Run CPython's asyncio tests on every CPython that is here
	$(call say,"CPython's asyncio tests on each CPython from 3.10 to 3.15")
	@$(PYTHON) tests/conformance/everywhere.py $(CONFORMANCE_ARGS)

fmt: $(VENV)/.lint ## Format all Rust and Python code, and sort Python's imports
	$(call say,"rustfmt and ruff")
	@set -e; for each in $(CRATES); do cargo fmt --manifest-path $$each/Cargo.toml; done
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .

check: lint-rust lint-python ## Check formatting and lints; needs no built extension

# Each environment has clippy compile against its own CPython; nothing is linked.
lint-rust: $(VENV)/.made
	$(call say,"Rust: rustfmt and clippy")
	@set -e; for each in $(CRATES); do cargo fmt --check --manifest-path $$each/Cargo.toml; done
	@PYO3_PYTHON=$(BIN)/python cargo clippy --quiet --workspace --all-targets -- -D warnings
	@cargo clippy --quiet $(LOADGEN) --target-dir target/loadgen --all-targets -- -D warnings
	@cargo clippy --quiet $(LOOM) --target-dir target/loom --all-targets -- -D warnings
	@cargo clippy --quiet $(LOOM_THREADS) --all-targets -- -D warnings
	@set -e; for each in $(EXTENSIONS); do PYO3_PYTHON=$(BIN)/python cargo clippy --quiet \
		--manifest-path $$each/Cargo.toml --target-dir target/bridge/lint \
		--all-targets -- -D warnings; done

lint-python: $(VENV)/.lint
	$(call say,"Python: ruff and mypy")
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lint: check $(VENV)/.built ## Run all checks: those of `check`, all types, the stub against the module
	$(call say,"Types of the pytest plugin, benchmarks, examples and what makes a release")
	@$(BIN)/mypy python/_tokioloop_pytest
	@$(BIN)/mypy -p benchmarks
	@$(BIN)/mypy release/*.py
	@$(BIN)/mypy examples/rust-extension/*.py*
	@$(BIN)/mypy examples/rust-embedded/*.py*
	@$(BIN)/mypy examples/rust-http/*.py*
	$(call say,"Types as a program's checker sees them")
	@$(BIN)/mypy tests/types/*.py
	$(call say,"The stub against the module")
	@$(BIN)/python -m mypy.stubtest tokioloop._core

ifdef BENCH_ROOT
bench: | check-rust
	@$(PYTHON) -m benchmarks.elsewhere $(BENCH_ROOT) --python $(BENCH_PYTHON) --out $(BENCH_OUT) \
		-- $(BENCH_ARGS)
else
bench: $(VENV)/.built $(VENV)/.bench ## Measure against asyncio and the other loops
	$(call say,"Benchmarks; leave the machine alone meanwhile")
	@$(BIN)/python -m benchmarks --out $(BENCH_OUT) $(BENCH_ARGS)
endif

ifdef BENCH_ROOT
bench-growth: | check-rust
	@$(PYTHON) -m benchmarks.elsewhere $(BENCH_ROOT) --python $(BENCH_PYTHON) --out $(BENCH_OUT) \
		--module benchmarks.growth -- $(BENCH_ARGS)
else
bench-growth: $(VENV)/.built $(VENV)/.bench ## Measure what one costs as there are more: timers, connections
	$(call say,"Growth; leave the machine alone meanwhile")
	@$(BIN)/python -m benchmarks.growth --out $(BENCH_OUT) $(BENCH_ARGS)
endif

# --- What is published; docs/releasing.md says how ---------------------------------------------

wheels: $(VENV)/.release ## Build manylinux wheels for every CPython that is here, check and use them
	$(call say,"Wheels into $(DIST)")
	@$(BIN)/python release/wheels.py --out $(DIST) --builds $(BUILDS) $(WHEEL_PYTHONS)

sdist: $(VENV)/.release ## Make the source distribution, and everything from it again
	$(call say,"The source distribution into $(DIST)")
	@$(BIN)/python release/sdist.py --out $(DIST)

package: | check-rust ## Package the crates as for crates.io, and build them from that
	$(call say,"The crates")
	@cargo package --locked --workspace $(PACKAGE_ARGS)

deny: | check-rust ## Check licences, sources and known vulnerabilities of all crates
	$(call say,"cargo-deny $(DENY_CHECKS)")
	@command -v cargo-deny >/dev/null || { \
		echo 'No cargo-deny: cargo install --locked cargo-deny' >&2; exit 1; }
	@set -e; for each in $(CRATES); do cargo deny --manifest-path $$each/Cargo.toml \
		--config deny.toml check $(DENY_CHECKS); done

version: ## Compare TAG=v1.2.3 with the version in Cargo.toml and CHANGELOG.md
	@$(PYTHON) release/version.py "$(TAG)"

wheel-in-root: ## Install a wheel in an empty Debian, and use it there (needs root)
	$(call say,"The wheels in $(DIST) in an empty Debian $(DEBIAN)")
	@release/empty-debian $(DEBIAN) $(DIST)

clean: ## Remove what was built
	rm -rf $(VENV) target dist python/tokioloop/_core*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- How the environment is made; the files mark what is done ---------------------------------

check-rust:
	@command -v cargo >/dev/null || { echo 'cargo not found. Install Rust: https://rustup.rs' >&2; \
		exit 1; }
	@command -v cc >/dev/null || { echo 'No C compiler to link with (cc).' \
		'On Debian and Ubuntu: apt-get install build-essential' >&2; exit 1; }
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$(cargo --version | cut -d ' ' -f 2); \
	[ "$$(printf '%s\n' "$$need" "$$have" | sort -V | head -n 1)" = "$$need" ] || { \
		echo "Rust $$have is too old: $$need is needed. With rustup: rustup update stable" >&2; \
		exit 1; }

$(VENV)/.made: | check-rust
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) not found. Install Python 3.10 or later,' \
		'or name one: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$$($(PYTHON) --version) is too old: 3.10 is needed." \
		'Name another: make PYTHON=python3.13' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo '$(PYTHON) cannot make virtual environments.' \
		'On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(call say,"Virtual environment: $(VENV) with $$($(PYTHON) --version)")
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $(MATURIN)
	@touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES)
	$(call say,"Building the release extension; the first time takes a few minutes")
	@$(BIN)/maturin develop --release --extras test
	@touch $(VENV)/.installed $@

$(VENV)/.lint: $(VENV)/.made Makefile
	$(call say,"Installing the checkers")
	@$(PIP) install $(LINT_TOOLS)
	@touch $@

$(VENV)/.bench: $(VENV)/.built benchmarks/requirements.txt
	$(call say,"Installing the rivals")
	@$(BIN)/python -m benchmarks.install
	@touch $@

$(VENV)/.release: $(VENV)/.made release/requirements.txt
	$(call say,"Installing what wheels are built and checked with")
	@$(PIP) install -r release/requirements.txt
	@touch $@

define FIND_LIBPYTHON
import os, sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
link = sysconfig.get_config_var("LDLIBRARY") or ""
places = [sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")]
for place in filter(None, places):
    if ".so" in link and all(os.path.exists(os.path.join(place, file)) for file in (name, link)):
        print(place)
        break
endef
export FIND_LIBPYTHON
