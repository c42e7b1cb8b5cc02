# `make demo` and `make test` do all set-up; the other targets are parts of them.

CARGO ?= cargo
KILN := target/release/kiln
SECONDS ?= 60
STRESS_SECONDS ?= 600
HUNT_SETS ?= 3000

# Tier 1 needs LLVM 22, which `setup` installs. Where it can not be had `demo` goes on without it, and `test` fails:
# KILN_NO_LLVM=1 leaves tier 1 out on purpose.
# llvm-config where LLVM 22 is there. Looked up once, when it is first needed: behind `setup`.
LLVM = $(eval LLVM := $(shell KILN_NO_LLVM='$(KILN_NO_LLVM)' scripts/llvm.sh 2>/dev/null))$(LLVM)
# What the workspace is built and tested with.
FEATURES = $(if $(LLVM),--features kiln/llvm$(comma)kiln-tests/llvm)
# What the command is built with.
KILN_FEATURES = $(if $(LLVM),--features llvm)
# Crates that have the feature `llvm`, for the runs without it.
LLVM_CRATES := kiln-tier1 kiln-runtime kiln
comma := ,

# In order, each behind the one before: cargo is parallel in itself, and all need what `setup` installs.
.NOTPARALLEL:

.PHONY: all setup setup-test build demo test test-full fmt lint doc unit tables stress hunt loom bench fuzz mutate clean

all: build

setup:
	@scripts/setup.sh

build: setup
	$(CARGO) build --release $(KILN_FEATURES)

# The main job: the workloads of this repository through the interpreter and every tier there is.
demo: build
	$(KILN) replay workloads --tier tier0 --compile all --compare --rounds 9
	$(KILN) replay workloads --tier optimised --compile seen --compare --rounds 9
	$(if $(LLVM),$(KILN) replay workloads --tier tier1 --compile seen --compare --rounds 9,\
		@echo "kiln: tier 1 is left out, for want of LLVM 22" >&2)

test: setup-test fmt lint doc unit tables
	@[ -n "$(LLVM)" ] || echo "kiln: all passed, WITHOUT TIER 1: KILN_NO_LLVM is set" >&2

# Hours: `.ci/run` in its long form, other generated programs each time, and faults planted in a copy of the sources.
# What needs a nightly toolchain or tools of its own is apart: `make fuzz`, scripts/sanitize, scripts/coverage.
test-full: test stress build
	scripts/fixtures --full
	KILN_TEST_OPERANDS=1 $(CARGO) test --profile checked -p kiln-tests $(if $(LLVM),--features llvm) --test operands
	$(MAKE) hunt
	$(MAKE) mutate

setup-test:
	@scripts/setup.sh --require-llvm

fmt:
	$(CARGO) fmt --all --check

# With all features at once, and then the library as it is by default.
lint:
	$(CARGO) clippy --workspace --all-targets $(FEATURES) --features kiln-runtime/metrics,kiln-tests/dump -- -D warnings
	$(CARGO) clippy $(LLVM_CRATES:%=-p %) --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(FEATURES)

# Optimised, with debug assertions and overflow checks, revm's included. PORTABLE: the stencils that CPUs
# without AVX2 get.
TESTED = --profile checked --workspace $(FEATURES) --features kiln-runtime/metrics
# Whole workspaces, also where a few tests are wanted: with fewer packages other features are on in what they depend
# on, and all of that is compiled again.
unit:
	$(CARGO) test $(TESTED)
	$(if $(LLVM),$(CARGO) test --profile checked $(LLVM_CRATES:%=-p %))
	$(CARGO) test $(TESTED) --features kiln-tests/dump --lib --test dump
	PORTABLE=1 $(CARGO) test $(TESTED) --test arithmetic --test frame --test memory --test sequences

# Function addresses differ between crates only in release builds: see revm's instruction tables.
tables:
	$(CARGO) test --release -p kiln -p kiln-tests $(FEATURES) --test tables

# Threads that run programs on engines that are commanded all the time. `make unit` runs it for seconds.
stress:
	KILN_TEST_STRESS_SECONDS=$(STRESS_SECONDS) $(CARGO) test $(TESTED) --test stress

# Generated programs on all engines. Seeds that nobody tried: the seconds since 1970.
hunt: SEED ?= $(shell date +%s)
hunt: build
	$(KILN) hunt --seed $(SEED) --sets $(HUNT_SETS) --threads 2
	$(KILN) hunt --seed $(SEED) --sets $(HUNT_SETS) --threads 2 --sweep

bench: setup
	$(CARGO) bench -p kiln-benches

# Every interleaving of the back end's lock-free parts, by itself. `make unit` runs it too.
loom:
	$(CARGO) test --profile checked -p kiln-tests-loom

# Every fuzz target in turn, from its committed seeds. Needs cargo-fuzz and a nightly toolchain: fuzz/README.md.
# Without a sanitizer: compiled bytecode is not instrumented, and `scripts/sanitize` runs the rest with one.
FUZZ ?= $(CARGO) +nightly fuzz
fuzz:
	@command -v cargo-fuzz >/dev/null 2>&1 || { echo "cargo install cargo-fuzz, and a nightly toolchain" >&2; exit 2; }
	@for target in $$($(FUZZ) list); do \
		corpus=fuzz/corpus/$$target; seeds=fuzz/seeds/$$target; dict=fuzz/dict/$$target.dict; \
		mkdir -p $$corpus; [ -d $$seeds ] || seeds=; \
		[ -f $$dict ] && dict=-dict=$$dict || dict=; \
		echo "fuzz: $$target, $(SECONDS) s" >&2; \
		$(FUZZ) run --sanitizer none $$target $$corpus $$seeds -- \
			-max_total_time=$(SECONDS) -max_len=2048 -timeout=60 $$dict || exit 1; \
	done

# Plants faults in a copy of the sources, and shows that a test catches each: tests/mutate/RESULTS.md.
mutate: setup-test
	$(CARGO) run --profile checked -p kiln-tests-mutate

clean:
	$(CARGO) clean
