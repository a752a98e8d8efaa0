"""200,000 items of about 40 bytes, one per frame, against a slow Graph: the connection must live.

HTTP/2 libraries count unread small frames and end the whole connection when there are too many. A client that
does not put several items into a frame, and does not wait for room, is the worst case.

Usage: tiny_items.py BINARY GENERATED_STUBS_FOLDER
"""

import re
import subprocess
import sys
import tempfile

ITEMS = 200_000


def start(binary, command, *arguments):
    """Starts a command, and returns it with the address that it says it listens on."""
    process = subprocess.Popen([binary, command, *arguments], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        address = re.search(r"listens.*?(\d+\.\d+\.\d+\.\d+:\d+)", line)
        if address:
            return process, address[1]
    raise SystemExit(f"{command} ended before it listened")


def main(binary, stubs, folder):
    sys.path.insert(0, stubs)
    import grpc
    from messenger.v1 import message_pb2 as message
    from messenger.v1 import messenger_service_pb2 as service
    from messenger.v1 import messenger_service_pb2_grpc as service_grpc

    def requests():
        options = message.SendOptions(messaging_type=message.MESSAGING_TYPE_UPDATE)
        action = service.Action(text=message.TextMessage(text="hi"))
        yield service.SendBulkMessagesRequest(start=service.BulkStart(action=action, options=options))
        for number in range(ITEMS):
            recipient = message.Recipient(id=f"{number:016}")
            item = service.BulkItem(item_id=f"{number:06}", recipient=recipient)
            yield service.SendBulkMessagesRequest(items=service.BulkItems(items=[item]))

    sandbox, graph = start(binary, "sandbox", "--listen", "127.0.0.1:0", "--latency-ms", "50")
    serve, address = start(
        binary, "serve", "--listen", "127.0.0.1:0", "--graph-url", f"http://{graph}", "--page-access-token", "t",
        "--rate-per-second", "0",
        "--ledger", f"sqlite://{folder}/ledger.db", "--drain-delay-ms", "0",
        "--admin-listen", "none",
    )
    try:
        with grpc.insecure_channel(address) as channel:
            stub = service_grpc.MessengerServiceStub(channel)
            results, summary = 0, None
            for response in stub.SendBulkMessages(requests()):
                results += len(response.results.results)
                if response.HasField("summary"):
                    summary = response.summary.counts
        assert results == ITEMS, f"{results} results"
        assert summary is not None and summary.sent == ITEMS, summary
        print(f"tiny items: {ITEMS} items, one per frame, got {results} results on one connection")
    finally:
        serve.terminate()
        sandbox.terminate()
        assert serve.wait() == 0


with tempfile.TemporaryDirectory() as ledger_folder:
    main(*sys.argv[1:], ledger_folder)
