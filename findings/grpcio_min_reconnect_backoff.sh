#!/usr/bin/env bash
# grpcio (Python) 1.85.1: `grpc.min_reconnect_backoff_ms` reads like the shortest pause between two attempts to connect. It
# is also, together with the pause that is due next, the longest time that one attempt may take: a client that wants to find
# a server soon after it comes back, and keeps all three backoff options at 200 ms, never connects where the server's first
# bytes take longer than that. With the minimum alone at 5000 ms it connects, and looks again as soon as before.
#
# A server of the same library stands behind a relay that holds the server's bytes back for a second. Seen: with 200 ms in
# all three options a call that waits for the connection ends DEADLINE_EXCEEDED after ten seconds; with a minimum of 5000 ms,
# and without any option, it succeeds. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
cat > "$folder/try.py" <<'PYTHON'
import socket
import threading
import time
from concurrent import futures

import grpc

print("grpcio", grpc.__version__)


def echo(request, context):
    return request


handler = grpc.unary_unary_rpc_method_handler(echo)
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Call": handler}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()


def copy(source, sink, delay):
    time.sleep(delay)
    while data := source.recv(65536):
        sink.sendall(data)


def relay(listener):
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for source, sink, delay in ((near, far, 0), (far, near, 1)):
            threading.Thread(target=guarded, args=(source, sink, delay), daemon=True).start()


def guarded(*arguments):
    try:
        copy(*arguments)
    except OSError:
        pass  # one side has gone


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=relay, args=(listener,), daemon=True).start()


def call(options):
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    options = [*options, ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            channel.unary_unary("/test.Echo/Call")(b"x", timeout=10, wait_for_ready=True)
            return "succeeds"
        except grpc.RpcError as error:
            return error.code().name


def backoff(minimum):
    return [
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", minimum),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]


short, long, none = call(backoff(200)), call(backoff(5000)), call([])
print("200 ms:", short, "| 5000 ms:", long, "| without:", none)
assert short in ("DEADLINE_EXCEEDED", "UNAVAILABLE") and (long, none) == ("succeeds", "succeeds"), "the behaviour has changed"
PYTHON
timeout 90 "$folder/venv/bin/python" "$folder/try.py"
