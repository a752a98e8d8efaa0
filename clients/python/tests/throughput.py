"""Messages per second of one bulk of 100,000 items, against a sandbox that costs little.

`python tests/throughput.py [blocking|asyncio] [ITEMS]`; `$MESSENGER_CONNECTOR` should be a release build.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import messenger_connector as m
from messenger_connector import aio
from stack import Stack


def items(count: int) -> Iterator[m.BulkItem]:
    for number in range(count):
        yield m.BulkItem(
            item_id=f"item-{number}", recipient=m.Recipient(id=f"10000000{number:08}"), variables={"name": "Ann"}
        )


START = m.BulkStart(
    action=m.Action(text=m.TextMessage(text="Hello {{name}}, your order has shipped.")),
    options=m.SendOptions(messaging_type=m.MESSAGING_TYPE_UPDATE),
)


def blocking(address: str, count: int) -> int:
    with m.MessengerClient.connect(address) as client:
        return sum(result.state == m.ITEM_STATE_SENT for result in client.send_bulk(START, items(count)))


def with_asyncio(address: str, count: int) -> int:
    async def run() -> int:
        sent = 0
        async with aio.MessengerClient.connect(address) as client:
            async for result in client.send_bulk(START, items(count)):
                sent += result.state == m.ITEM_STATE_SENT
        return sent

    return asyncio.run(run())


def main(kind: str = "blocking", count: str = "100000") -> None:
    with tempfile.TemporaryDirectory() as folder, Stack({}, Path(folder), sandbox=("--light",)) as stack:
        started = time.monotonic()
        cpu_before = time.process_time()
        sent = (blocking if kind == "blocking" else with_asyncio)(stack.address, int(count))
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu_before
        assert sent == int(count), f"{sent} sent"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"python {kind}: {sent} messages in {seconds:.2f} s, {sent / seconds:,.0f} messages/s; "
            f"client {cpu / sent * 1e6:.1f} us CPU per message, {memory} MiB"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
