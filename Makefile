# What one does in this project, by name. `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

LEVERET := cargo run --quiet --package leveret-cli --

.PHONY: help
help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ## See it work: broker, producer, three workers, a crash, and a ledger that adds up (a minute after the build)
	@command -v amqp-publish >/dev/null || scripts/apt-install amqp-tools
	@rabbitmq/up
	@cargo build --package leveret-cli
	@AMQP_URL="$$(rabbitmq/up --url)" MANAGEMENT_URL="$$(sed -n 's/^MANAGEMENT_URL=//p' .leveret/rabbitmq/env)" $(LEVERET) demo

.PHONY: test
test: ## Everything that has to hold: format, lints, docs, and all tests against a real broker
	@scripts/test

.PHONY: broker-up
broker-up: ## Get a RabbitMQ to work with, and say where it is
	@rabbitmq/up

.PHONY: broker-down
broker-down: ## Stop the RabbitMQ that broker-up started, and private nodes that a test left behind
	@rabbitmq/down --all

.PHONY: services-up
services-up: ## Get a PostgreSQL and a Redis to test with, and say where they are
	@scripts/services up

.PHONY: services-down
services-down: ## Stop the PostgreSQL and the Redis that services-up started
	@scripts/services down

.PHONY: bench
bench: ## Measure publishing, draining and latency against plain lapin in the same run (release build)
	@rabbitmq/up
	@AMQP_URL="$$(rabbitmq/up --url)" cargo run --quiet --release --package leveret-cli -- bench

.PHONY: definitions
definitions: ## Write rabbitmq/definitions.json anew from the topology
	@$(LEVERET) --config /dev/null topology export --output rabbitmq/definitions.json

.PHONY: docs
docs: ## Build the API documentation
	@cargo doc --workspace --no-deps
	@echo target/doc/leveret/index.html

.PHONY: fmt
fmt: ## Format the code
	@cargo fmt --all

.PHONY: lint
lint: ## Look for what clippy, rustfmt and shellcheck would complain about
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- --deny warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x rabbitmq/{up,down,restart,ctl,probe,lib.sh} scripts/* tests/foreign/install .ci/run; fi

.PHONY: clean
clean: ## Throw away what was built, the broker's data and the foreign clients
	@rabbitmq/down --all --wipe --quiet
	@scripts/services down --wipe --quiet
	@cargo clean --quiet
	@rm -rf .leveret tests/foreign/.venv tests/foreign/node_modules
