# The one door: every recipe here is what the README names and what continuous integration calls.

PYTHON ?= python3
CARGO ?= cargo
BIND ?= 127.0.0.1:8000
WORKERS ?= 2
THREADS ?= 8

.DEFAULT_GOAL := help
.PHONY: help run test build lint fmt wheel bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: build ## build everything and serve the example application, a guest book (BIND=127.0.0.1:8000)
	target/release/trivet run --chdir examples/guestbook --bind $(BIND) \
		--workers $(WORKERS) --threads $(THREADS) --graceful-timeout 3 app:app

test: ## build and run every check and test
	@PYTHON=$(PYTHON) CARGO=$(CARGO) scripts/test.sh

build: ## the binary and the extension, optimised, in target/release
	@scripts/build-needs.sh
	$(CARGO) build --release --locked --package trivet --package trivet-python

lint: ## formatting, clippy, ruff and mypy, without tests
	@PYTHON=$(PYTHON) CARGO=$(CARGO) scripts/test.sh lint

fmt: .venv-test/ready ## format Rust and Python
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml
	.venv-test/bin/ruff format .
	.venv-test/bin/ruff check --fix .

wheel: .venv-test/ready ## one wheel with binary and extension, in dist/
	.venv-test/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

bench: build ## how to reproduce the figures (they take hours; nothing runs by itself)
	@sed -n '1,40p' bench/README.md

clean: ## remove everything that was built or fetched
	$(CARGO) clean
	rm -rf .venv .venv-test .tools build dist fuzz/target examples/welcome/guestbook.sqlite3* examples/guestbook/data

.venv/ready: examples/welcome/requirements.txt
	@scripts/venv.sh .venv examples/welcome/requirements.txt

.venv-test/ready: tests/requirements.txt scripts/requirements.txt tests/sources.txt
	@scripts/venv.sh .venv-test tests/requirements.txt scripts/requirements.txt
	@scripts/sources.sh .venv-test tests/sources.txt
