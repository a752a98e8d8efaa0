# make demo   sandbox, service and a bulk send to 10,000 people: needs Rust and a C compiler only
# make test   everything that must hold; installs the tools it needs into .tools/, and as root Postgres from Debian;
#             with TEST_POSTGRES_URL=postgres://user@host:port/postgres it uses that server
# make bench  what messages cost, into docs/performance.md: takes some minutes, and wants the machine for itself
# make profile  where the CPU time goes, into the same document: wants Linux's perf, and as root installs it from Debian

.DELETE_ON_ERROR:
.PHONY: demo test bench profile rust postgres contract tiny-items fmt clean

TOOLS := .tools
PYTHON := $(TOOLS)/python/bin/python
BUF := $(TOOLS)/python/bin/buf
STUBS := $(TOOLS)/stubs

demo:
	cargo run --release --locked -- demo

test: rust contract tiny-items
	@echo "all tests passed"

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

clean:
	rm -rf target $(TOOLS)
