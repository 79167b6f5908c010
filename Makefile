# Developer commands. `make` alone lists them.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

FUZZ_SECONDS ?= 60
FUZZ_TOOLCHAIN ?=
FUZZ_TARGETS := component_check a2a_request uploaded_archive output_checks include_resolver
DENY_VERSION := 0.20.2

# In CI, a lock file that doesn't fit the manifests is an error.
LOCKED := $(if $(CI),--locked)

.PHONY: help run test attack check audit bench fuzz target cargo-deny

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

# Guests are built for this target. It is installed explicitly, because rustup does not install it on first use
# where RUSTUP_AUTO_INSTALL=0.
target:
	@[ -d "$$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ] || rustup target add wasm32-wasip2

cargo-deny:
	@command -v cargo-deny >/dev/null || { \
	  echo 'cargo-deny is missing: cargo install cargo-deny --version $(DENY_VERSION) --locked' >&2; exit 1; }

# Optimized, because the development profile compiles guests many times slower at the first start. Variables of the
# environment take precedence.
run: target ## Build and start the server on 127.0.0.1:8080, with SQLite in ./data
	@MOLECULE_ENV="$${MOLECULE_ENV-development}" cargo run --release --package isomer $(LOCKED) -- serve

# The runner is `cargo test` with a supervisor: tests/tools/src/run_tests. Without TEST_DATABASE_URL the tests
# that need Postgres count as ignored, which the last line says; where CI is set, that is a failure.
test: target ## Run every test; on Postgres too where TEST_DATABASE_URL names a server
	@cargo run --quiet --package isomer-test-tools --bin run-tests $(LOCKED) -- $(LOCKED)

# A part of `make test`.
attack: target ## Attack the program: access, components, requests, memory, connections
	cargo test --package isomer-tests --test attack $(LOCKED)

# The quickest checks first. --log-level error: a crate in two versions is a warning (deny.toml), and there are
# twenty of those; `cargo deny check bans` shows them.
check: target cargo-deny ## Formatting, frozen WIT, architecture, licenses and sources of dependencies, lints
	cargo fmt --all --check
	.ci/check-wit
	cargo run --quiet --package isomer-test-tools --bin check-architecture $(LOCKED)
	cargo deny --log-level error $(LOCKED) check bans licenses sources
	cargo clippy --workspace --all-targets $(LOCKED) -- -D warnings

# Not a part of `check`: the advisory database must be fetched, and it changes independently of this repository.
audit: cargo-deny ## Ask the advisory database about dependencies (needs access to it)
	cargo deny check advisories

bench: target ## Measure guest calls, the core, loading, start-up and memory
	cargo bench --package isomer-tests $(LOCKED)

# No sanitizer: the code is safe Rust, and the address sanitizer conflicts with the engine's memory reservations.
# Without one, cargo-fuzz needs no nightly and uses the pinned toolchain. FUZZ_TOOLCHAIN=+nightly selects another,
# which needs the target wasm32-wasip2.
fuzz: target ## Fuzz the host's checks and readers, FUZZ_SECONDS (60) each; needs cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { \
	  echo 'cargo-fuzz is missing: cargo install cargo-fuzz --locked' >&2; exit 1; }
	@for target in $(FUZZ_TARGETS); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
	  cargo $(FUZZ_TOOLCHAIN) fuzz run --fuzz-dir tests/fuzz --sanitizer none "$$target" -- \
	    -max_total_time=$(FUZZ_SECONDS); \
	done
