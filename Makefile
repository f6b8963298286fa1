# One word for each thing one does with this project. `make` alone shows them.
# `demo` and `test` need nothing but a Rust toolchain: they install the rest themselves and say what (scripts/setup.sh).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The project's own tools come first, so that everybody checks with the same ones.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
BUILD := $(or $(CARGO_TARGET_DIR),target)
# Property tests look at the same cases each time, so that a change is what makes them fail; another seed looks elsewhere.
export PROPTEST_RNG_SEED ?= 2
# The simulator looks at some storms that depend on the commit.
export OSTLER_STORM_SEED ?= $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: demo
demo: ## build, and bring up an example estate: a bookshop (ESTATE=two-providers: its database is bought from another ostler)
	scripts/setup.sh demo
	cargo build --release -p ostler -p bookshop-web
	scripts/demo.sh $(BUILD)/release/ostler $(or $(ESTATE),bookshop)

.PHONY: test
test: ## run everything that must pass: format, lints, all tests, licences
	scripts/setup.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo build -p ostler -p bookshop-web # the end-to-end tests run these programs
	cargo nextest run --workspace --no-fail-fast
	cargo test --workspace --doc
	$(MAKE) --no-print-directory deny

.PHONY: deny
deny: ## check the licences, sources and versions of all dependencies
	cargo deny --log-level error --all-features check bans licenses sources

.PHONY: bench
bench: ## run all benchmarks and write docs/benchmarks.md
	scripts/setup.sh bench
	scripts/bench.sh

.PHONY: soak
soak: ## run simulated storms from FROM (0) on until stopped; what breaks a promise is shrunk and printed
	cargo run --release -p ostler-sim --example soak -- $(or $(FROM),0)

.PHONY: docs
docs: ## build the guide (docs/book) and the documentation of the code
	@command -v mdbook >/dev/null || { \
		echo "docs: installing mdbook into target/tools; building it takes some minutes"; \
		cargo install --locked --quiet --root target/tools mdbook; }
	mdbook build docs
	cargo doc --workspace --no-deps

.PHONY: clean
clean: ## remove everything that was built, the tools too
	rm -rf docs/book
	cargo clean
