# SPDX-License-Identifier: Apache-2.0
# The front door: `make help`. What a target does beyond one line is in xtask/.

MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# One target triple, named in .cargo/config.toml.
RELEASE := $(or $(CARGO_TARGET_DIR),target)/x86_64-unknown-linux-gnu/release
BERTH := $(RELEASE)/berth
# What `make run` runs; give another with make run RUN='…'.
RUN ?= $(BERTH) run --rm --hostname contained --memory 64m --cpus 0.5 --pids-limit 50 -- \
	/bin/sh $(CURDIR)/scripts/demo.sh
# What `make bench` runs, and with which arguments.
BENCH ?= $(RELEASE)/berth-bench

.DEFAULT_GOAL := help
.PHONY: help run test check unit bench bench-images test-deps need-cargo need-root

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | \
		while IFS='	' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

run: need-cargo need-root ## build Berth and run a command in a container (root, Rust and a C linker)
	$(CARGO) build --release -p berth
	$(RUN)

test: need-cargo need-root test-deps ## everything that CI runs: the checks, then all tests (root)
	@failed=; \
	$(CARGO) xtask check </dev/null || failed="$$failed checks"; \
	$(CARGO) xtask lane all </dev/null || failed="$$failed lanes"; \
	[ -z "$$failed" ] || { echo "make test: failed:$$failed (above)"; exit 1; }

check: need-cargo ## formatting, lints, layers, licences, documentation
	@$(CARGO) xtask check

unit: need-cargo ## the tests within the crates
	@$(CARGO) xtask lane unit

bench: need-cargo need-root ## measure against other runtimes (root)
	$(CARGO) build --release -p berth -p berth-bench
	$(BENCH)

bench-images: need-cargo need-root ## measure pulls of an image against docker, podman, ctr, skopeo and umoci (root)
	$(CARGO) build --release -p berth -p berth-bench
	$(BENCH) images

test-deps:
	@sh scripts/install-test-deps.sh

need-cargo:
	@command -v $(CARGO) >/dev/null 2>&1 || { \
		echo "make: there is no $(CARGO) on PATH: install Rust (rustup), or name it: make CARGO=/path/to/cargo" >&2; \
		exit 1; }

need-root:
	@test "$$(id -u)" -eq 0 || { \
		echo "make $(MAKECMDGOALS): containers need root (namespaces, mounts and cgroups). Try:" >&2; \
		echo "  sudo env \"PATH=\$$PATH\" make $(MAKECMDGOALS)" >&2; \
		echo "Without root there are: make check, make unit." >&2; \
		exit 1; }
