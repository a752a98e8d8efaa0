# A Postgres server for one run of the tests: sh -c "$(cat postgres.sh)" sh FOLDER_OF_BINARIES PORT
#
# Says "ready" once it takes connections, and is gone with all its data as soon as its standard input ends, even if
# the tests were killed. The interrupt key must not end it before that. Until then it takes commands, a line each, and says
# "ready" after each: "kill" kills the server as a crash does and starts it again, "save" keeps a copy of its data,
# "restore" goes back to that copy.
set -eu
trap '' INT TERM
binaries=$1 port=$2
folder=$(mktemp -d)
data=$folder/data
# A server that was stopped by a signal does not end before it goes on.
trap 'kill -CONT "$(head -1 "$data/postmaster.pid")" 2>/dev/null || true; stop immediate || true; rm -rf "$folder"' EXIT
cd "$folder"
init() { "$binaries/initdb" --pgdata="$data" --username=test --auth=trust --no-sync --encoding=UTF8 "$@" >/dev/null; }
# Nothing here outlives a power cut, so nothing waits for the disk.
start() {
    "$binaries/pg_ctl" --pgdata="$data" --wait --silent --log="$folder/log" \
        --options="-c listen_addresses=127.0.0.1 -p $port -c unix_socket_directories= -c fsync=off -c max_connections=200" \
        start >/dev/null 2>&1
}
stop() { "$binaries/pg_ctl" --pgdata="$data" --mode="$1" --silent stop >&2; }
# A language's order of texts, as most servers have it, if this one can.
init --locale=C --locale-provider=icu --icu-locale=en 2>/dev/null || init --locale=C
start || { cat "$folder/log" >&2; exit 1; }
echo ready
while read -r command; do
    case $command in
    kill)
        kill -KILL "$(head -1 "$data/postmaster.pid")"
        # What it leaves behind ends by itself, and a new one does not start before.
        until start; do sleep 0.05; done ;;
    save)
        stop fast
        cp -R "$data" "$folder/saved"
        start ;;
    restore)
        stop immediate
        rm -rf "$data"
        cp -R "$folder/saved" "$data"
        start ;;
    esac
    echo ready
done
