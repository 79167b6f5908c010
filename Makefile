# What people do here. `make` alone lists it.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

FUZZ_SECONDS ?= 60
WIT_CHECK := .ci/check-wit

.PHONY: help run test check audit bench fuzz target

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

# Rust that can't be fetched by itself (RUSTUP_AUTO_INSTALL=0) is asked for by name.
target:
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

# Optimised: what a newcomer sees first should be as quick as what an operator runs.
run: target ## Build and start the server on 127.0.0.1:8080, with SQLite in ./data
	@MOLECULE_ENV=$${MOLECULE_ENV:-development} cargo run --release --package isomer -- serve

test: target ## Run every test; on Postgres too where TEST_DATABASE_URL names a server
	cargo test --workspace

check: target ## Formatting, lints, licences and sources of dependencies, frozen WIT
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is missing: cargo install cargo-deny --version 0.20.2 --locked' >&2; exit 1; }
	cargo deny --log-level error check bans licenses sources
	$(WIT_CHECK)

audit: ## Ask the advisory database about dependencies (needs access to it)
	cargo deny check advisories

bench: target ## Measure guest calls, loading, start-up and memory
	cargo bench --package isomer

# No sanitizer: the code is safe Rust, and the address sanitizer can't live with the engine's reservations.
fuzz: target ## Fuzz the host's checks and the resolver, FUZZ_SECONDS (60) each; needs nightly and cargo-fuzz
	for each in output_checks include_resolver; do \
	  (cd tests/fuzz && cargo +nightly fuzz run --sanitizer none $$each -- -max_total_time=$(FUZZ_SECONDS)); \
	done
