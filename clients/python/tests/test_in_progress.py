"""Items that are in progress elsewhere, on a service that says so of one of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import messenger_connector as m
from messenger_connector import aio
from messenger_connector._bulk import Bulk

PATIENCE = 30.0


def result(item_id: str, reason: m.ErrorReason.ValueType | None = None) -> m.ItemResult:
    """Sent, or not sent for a reason."""
    if reason is None:
        return m.ItemResult(item_id=item_id, state=m.ITEM_STATE_SENT)
    return m.ItemResult(item_id=item_id, state=m.ITEM_STATE_NOT_SENT, error=m.SendError(reason=reason))


def item(item_id: str, recipient: str) -> m.BulkItem:
    return m.BulkItem(item_id=item_id, recipient=m.Recipient(id=recipient))


class Scripted:
    """The message to "1" is in progress on the first two streams; all others are sent."""

    def __init__(self, max_in_flight: int, answered_with: dict[str, list[str]]) -> None:
        self._max_in_flight = max_in_flight
        # Whose messages of the first stream are answered when this one has come; without an entry, its own.
        self._answered_with = answered_with
        self.streams: list[list[str]] = []

    def stream(self, requests: Iterator[m.SendBulkMessagesRequest], _: object) -> Iterator[m.SendBulkMessagesResponse]:
        is_first, is_in_progress = not self.streams, len(self.streams) < 2
        seen: list[str] = []
        self.streams.append(seen)
        next(requests)
        yield m.SendBulkMessagesResponse(accepted=m.BulkAccepted(bulk_id="b", max_in_flight=self._max_in_flight))
        results: dict[str, m.ItemResult] = {}
        for request in requests:
            for item in request.items.items:
                recipient = item.recipient.id
                seen.append(recipient)
                is_sent = recipient != "1" or not is_in_progress
                results[recipient] = result(item.item_id, None if is_sent else m.ERROR_REASON_REQUEST_IN_PROGRESS)
                answered = self._answered_with.get(recipient, []) if is_first and self._answered_with else [recipient]
                answer = m.BulkResults(results=[results[recipient] for recipient in answered])
                yield m.SendBulkMessagesResponse(results=answer)
        yield m.SendBulkMessagesResponse(summary=m.BulkSummary())


@contextlib.contextmanager
def serving(service: Scripted) -> Iterator[str]:
    handler = grpc.stream_stream_rpc_method_handler(
        service.stream,
        m.SendBulkMessagesRequest.FromString,
        m.SendBulkMessagesResponse.SerializeToString,
    )
    calls = {"SendBulkMessages": handler}
    server = grpc.server(
        ThreadPoolExecutor(), [grpc.method_handlers_generic_handler("messenger.v1.MessengerService", calls)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def run_blocking(address: str, items: Iterator[m.BulkItem], note: Callable[[str], object]) -> None:
    with m.MessengerClient.connect(address) as client:
        for result in client.send_bulk(m.BulkStart(), items, reconnect_timeout=PATIENCE):
            note(result.item_id)


def run_asyncio(address: str, items: Iterator[m.BulkItem], note: Callable[[str], object]) -> None:
    async def in_threads() -> Any:
        # The source waits: not in the loop.
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item

    async def run() -> None:
        async with aio.MessengerClient.connect(address) as client:
            async for result in client.send_bulk(m.BulkStart(), in_threads(), reconnect_timeout=PATIENCE):
                note(result.item_id)

    asyncio.run(run())


class Results:
    """The ids of the items that have a result, in the order of the results."""

    def __init__(self) -> None:
        self.item_ids: list[str] = []
        self.has_any = threading.Event()

    def note(self, item_id: str) -> None:
        self.item_ids.append(item_id)
        self.has_any.set()


Run = Callable[[str, Iterator[m.BulkItem], Callable[[str], object]], None]


@pytest.mark.parametrize("run", [run_blocking, run_asyncio])
def test_an_item_in_progress_holds_up_no_other(run: Run) -> None:
    """A further one of the same id gets its own result."""
    results = Results()

    def items() -> Iterator[m.BulkItem]:
        yield from (item("a", "1"), item("b", "2"), item("c", "3"))
        assert results.has_any.wait(PATIENCE)
        yield from (item("d", "4"), item("a", "5"))

    service = Scripted(100, {"3": ["1", "2"], "5": ["3", "4", "5"]})
    with serving(service) as address:
        run(address, items(), results.note)
    assert service.streams == [["1", "2", "3", "4", "5"], ["1"], ["1"]]
    assert results.item_ids == ["b", "c", "d", "a", "a"]


@pytest.mark.parametrize("run", [run_blocking, run_asyncio])
@pytest.mark.parametrize("max_in_flight", [1, 100])
def test_a_stream_with_nothing_but_items_in_progress_ends(run: Run, max_in_flight: int) -> None:
    """There is no room for others, or the source gives none."""
    results = Results()

    def items() -> Iterator[m.BulkItem]:
        yield item("a", "1")
        assert max_in_flight == 1 or results.has_any.wait(PATIENCE)
        yield item("b", "2")

    service = Scripted(max_in_flight, {})
    with serving(service) as address:
        run(address, items(), results.note)
    assert service.streams == [["1"], ["1"], ["1", "2"]]
    assert results.item_ids == ["a", "b"]


def test_the_wait_for_items_in_progress_is_short() -> None:
    def waits(reason: m.ErrorReason.ValueType, retry_after: Duration | None = None) -> list[float]:
        bulk = Bulk(m.BulkStart(), PATIENCE, 3600)
        found = []
        for _ in range(1000):
            bulk.open()
            bulk.accept(1)
            if bulk.has_room:
                bulk.take(item("a", "1"))
            assert bulk.frame()
            not_sent = result("a", reason)
            if retry_after:
                not_sent.error.retry_after.CopyFrom(retry_after)
            assert bulk.settle([not_sent]) == [] and bulk.is_written
            found.append(bulk.wait_after(None))
        return found

    assert 1.5 < max(waits(m.ERROR_REASON_REQUEST_IN_PROGRESS)) <= 2
    assert 2 < max(waits(m.ERROR_REASON_DRAINING)) <= 15
    assert set(waits(m.ERROR_REASON_REQUEST_IN_PROGRESS, Duration(seconds=5))) == {5}


@pytest.mark.parametrize("is_retryable", [True, False])
def test_a_stream_over_the_callers_limit_is_opened_again_if_the_service_says_so(is_retryable: bool) -> None:
    bulk = Bulk(m.BulkStart(), PATIENCE, PATIENCE)
    bulk.open()
    error = m.MessengerError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams", m.SendError(retryable=is_retryable)
    )
    if is_retryable:
        assert bulk.wait_after(error) < PATIENCE
    else:
        with pytest.raises(m.MessengerError):
            bulk.wait_after(error)
