# A Postgres server for one run of the tests: sh -c "$(cat postgres.sh)" sh FOLDER_OF_BINARIES PORT
#
# Says "ready" once it takes connections, and is gone with all its data as soon as its standard input ends, even if
# the tests were killed. The interrupt key must not end it before that.
set -eu
trap '' INT TERM
binaries=$1 port=$2
data=$(mktemp -d)
trap '"$binaries/pg_ctl" --pgdata="$data" --mode=immediate --silent stop >&2 || true; rm -rf "$data"' EXIT
cd "$data"
init() { "$binaries/initdb" --pgdata="$data" --username=test --auth=trust --no-sync --encoding=UTF8 "$@" >/dev/null; }
# A language's order of texts, as most servers have it, if this one can.
init --locale=C --locale-provider=icu --icu-locale=en 2>/dev/null || init --locale=C
# Nothing here outlives a power cut, so nothing waits for the disk.
"$binaries/pg_ctl" --pgdata="$data" --wait --silent --log="$data/log" \
    --options="-c listen_addresses=127.0.0.1 -p $port -c unix_socket_directories= -c fsync=off -c max_connections=200" \
    start >/dev/null || { cat "$data/log" >&2; exit 1; }
echo ready
cat >/dev/null
