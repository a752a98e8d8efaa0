"""Sources that are slow, and sources that fail."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import messenger_connector as m
from messenger_connector import aio
from stack import Stack

START = m.BulkStart(
    action=m.Action(text=m.TextMessage(text="Hello")),
    options=m.SendOptions(messaging_type=m.MESSAGING_TYPE_UPDATE),
)


def item(number: int) -> m.BulkItem:
    return m.BulkItem(item_id=str(number), recipient=m.Recipient(id=str(number)))


def test_a_slow_source_holds_nothing_back(tmp_path: Path) -> None:
    results: queue.Queue[m.ItemResult] = queue.Queue()

    def items() -> Iterator[m.BulkItem]:
        for number in range(20):
            yield item(number)
            assert results.get(timeout=10).item_id == str(number), "its result comes before the next item"

    with Stack({}, tmp_path) as stack, m.MessengerClient.connect(stack.address) as client:
        for result in client.send_bulk(START, items()):
            results.put(result)


def test_a_slow_async_source_holds_nothing_back(tmp_path: Path) -> None:
    async def run(address: str) -> None:
        results: asyncio.Queue[m.ItemResult] = asyncio.Queue()

        async def items() -> AsyncIterator[m.BulkItem]:
            for number in range(20):
                yield item(number)
                result = await asyncio.wait_for(results.get(), 10)
                assert result.item_id == str(number), "its result comes before the next item"

        async with aio.MessengerClient.connect(address) as client:
            async for result in client.send_bulk(START, items()):
                results.put_nowait(result)

    with Stack({}, tmp_path) as stack:
        asyncio.run(run(stack.address))


def test_an_error_of_the_source_comes_after_the_results_of_its_items(tmp_path: Path) -> None:
    def items() -> Iterator[m.BulkItem]:
        for number in range(300):
            yield item(number)
        raise ValueError("row 301 is broken")

    async def count_async(address: str) -> list[str]:
        sent = []
        async with aio.MessengerClient.connect(address) as client:
            with pytest.raises(ValueError, match="row 301 is broken"):
                async for result in client.send_bulk(START, items()):
                    sent.append(result.item_id)
        return sent

    with Stack({}, tmp_path) as stack, m.MessengerClient.connect(stack.address) as client:
        sent = []
        with pytest.raises(ValueError, match="row 301 is broken"):
            for result in client.send_bulk(START, items()):
                sent.append(result.item_id)
        assert len(sent) == 300
        assert len(asyncio.run(count_async(stack.address))) == 300
        assert stack.delivered() == 600


def test_an_item_of_another_type_is_named(tmp_path: Path) -> None:
    with Stack({}, tmp_path) as stack, m.MessengerClient.connect(stack.address) as client:
        with pytest.raises(TypeError, match="items must yield BulkItem, not str"):
            list(client.send_bulk(START, ["1001"]))  # type: ignore[list-item]
