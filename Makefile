# What people and CI do with this repository. `make help` lists it.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Rust and Go may have been installed by scripts/prerequisites.sh a moment ago, beside the system's own programs.
export PATH := $(CURDIR)/target/tools/bin:$(CURDIR)/target/tools/go/bin:$(HOME)/.cargo/bin:$(PATH)
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# A distribution may pin its own version of Go; the modules name the one that they need.
export GOTOOLCHAIN ?= auto
export CARGO_TERM_PROGRESS_WHEN ?= auto

KEEP ?=
GROUP ?=
BUT ?=
NAME ?=
LIST ?=
FULL ?=
WEBHOOK ?=
CONTROLLER ?=
SPEAKER ?=
# What is not shipped is built already, by scripts/test.sh.
BUILT ?=

STATIC := x86_64-unknown-linux-musl
BINARIES := ferrolb-operator ferrolb-webhook ferrolb-speaker
LAB = $(CARGO_TARGET_DIR)/debug/lab
CARGO_DENY_VERSION := 0.20.2

.PHONY: fuzz kubernetes help demo test e2e bench bench-decision growth lab-down build image lab prerequisites fmt fmt-check lint unit deny advisories generate generate-check bundle-verify tools clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Needs root for the lab: demo, e2e, bench, test, lab-down. Variables: KEEP=1 GROUP=name BUT=name NAME=word LIST=1 FULL=1"

prerequisites: ## Install what is missing on a Debian machine, as root
	@scripts/prerequisites.sh

demo: prerequisites build lab ## Show one Service from kubectl apply to a packet; KEEP=1 leaves the site up
	@$(LAB) demo $(if $(KEEP),--keep)

test: prerequisites ## Everything: format, lints, dependencies, unit tests, generated files, bundle, e2e; ends with a summary
	@scripts/test.sh

e2e: $(if $(LIST),lab,prerequisites build lab) ## Scenarios on a real cluster: GROUP=name NAME=word BUT=group LIST=1 KEEP=1 FULL=1 WEBHOOK=no
	@$(LAB) $(if $(LIST),list,test $(if $(KEEP),--keep) $(if $(FULL),--full) $(if $(filter no,$(WEBHOOK)),--without-webhook)) $(addprefix --group ,$(GROUP)) $(addprefix --but ,$(BUT)) $(NAME)

bench: prerequisites build lab $(if $(CONTROLLER),,bench-decision) ## Measure; prints a table and writes target/bench/results.json. CONTROLLER= SPEAKER= compare others
	@$(LAB) bench $(if $(CONTROLLER),--controller $(CONTROLLER),--decisions $(CARGO_TARGET_DIR)/criterion) $(if $(SPEAKER),--speaker $(SPEAKER)) $(if $(KEEP),--keep)

bench-decision: ## Measure decisions about addresses and announcers, and BGP's codec, built as they are shipped; no root
	rm -rf $(CARGO_TARGET_DIR)/criterion
	cargo bench --locked --target $(STATIC) -p ferrolb-allocation -p ferrolb-announcement -p ferrolb-bgp

growth: ## Measure decisions and memory over 100 to 50,000 Services; writes charts and table into docs/; no root
	cargo run --locked --release --target $(STATIC) -p ferrolb-e2e -- growth

lab-down: lab ## Remove the sites that were left up
	@$(LAB) down

build: ## The static binaries, as they go into the image
	cargo build --locked --release --target $(STATIC) $(addprefix -p ,$(BINARIES))

image: build lab ## The image as an archive, without a container engine
	@$(LAB) image

lab: ## The program that runs the lab
	$(if $(BUILT),,cargo build --locked -p ferrolb-e2e)

kubernetes: lab ## Build Kubernetes and etcd for the lab, once; it does so by itself, too
	@$(LAB) kubernetes

fmt: ## Format all sources
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

lint: ## clippy, warnings denied
	cargo clippy --locked --workspace --all-targets -- -D warnings

unit: ## Unit, property and golden tests
	cargo test --locked --workspace

generate: ## Write config/crd, config/ and olm-bundle/ from the typed values
	cargo run --locked -p crd-gen

generate-check:
	$(if $(BUILT),$(CARGO_TARGET_DIR)/debug/crd-gen,cargo run --locked -p crd-gen --) --check

SECONDS_TO_FUZZ ?= 600
fuzz: ## Fuzz TARGET (review: the webhook; datagrams: the membership; frames: ARP and NDP; message, open, update, session: BGP) for SECONDS_TO_FUZZ (600); no root
	@scripts/fuzz.sh $(SECONDS_TO_FUZZ) $(or $(TARGET),review)

deny: target/tools/bin/cargo-deny ## Licenses, sources and banned crates of all dependencies
	cargo deny --locked check bans licenses sources

advisories: target/tools/bin/cargo-deny ## Known vulnerabilities of dependencies; needs the advisory database on the network
	cargo deny --locked check advisories

bundle-verify: target/lab/bin/operator-verify ## operator-verify accepts olm-bundle/
	target/lab/bin/operator-verify manifests olm-bundle

tools: target/tools/bin/cargo-deny target/lab/bin/operator-verify

target/tools/bin/cargo-deny:
	CARGO_TARGET_DIR=target/tools/build CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --locked --root target/tools cargo-deny@$(CARGO_DENY_VERSION)

target/lab/bin/operator-verify: e2e/tools/go.mod e2e/tools/go.sum
	mkdir -p target/lab/bin
	CGO_ENABLED=0 go build -C e2e/tools -o $(CURDIR)/$@ github.com/operator-framework/api/cmd/operator-verify

clean: lab-down ## Remove everything that was built, after the sites
	rm -rf target
