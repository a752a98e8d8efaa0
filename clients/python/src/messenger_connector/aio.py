"""The client for asyncio: `from messenger_connector import aio`, then `aio.MessengerClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from messenger_connector._bulk import RECONNECT_TIMEOUT, Bulk
from messenger_connector._connection import OPTIONS, TIMEOUT, Tls, Tries, metadata, with_request_id
from messenger_connector._errors import from_rpc_error
from messenger_connector.v1 import messenger_service_pb2 as pb
from messenger_connector.v1.messenger_service_pb2_grpc import MessengerServiceStub

if TYPE_CHECKING:
    from messenger_connector.v1.messenger_service_pb2_grpc import MessengerServiceAsyncStub

    StreamCall = grpc.aio.StreamStreamCall[pb.SendBulkMessagesRequest, pb.SendBulkMessagesResponse]

__all__ = ["BulkRun", "MessengerClient"]

ResponseT = TypeVar("ResponseT")


class MessengerClient:
    """Sends messages through a messenger-connector service. For asyncio; belongs to one event loop."""

    def __init__(self, channel: grpc.aio.Channel, *, key: str | None = None, timeout: float = TIMEOUT) -> None:
        """For a channel of the caller's own; `connect` makes one as it should be."""
        self._channel = channel
        self._stub: MessengerServiceAsyncStub = MessengerServiceStub(channel)
        self._metadata = metadata(key)
        self._timeout = timeout

    @classmethod
    def connect(
        cls, address: str, *, key: str | None = None, tls: Tls | None = None, timeout: float = TIMEOUT
    ) -> MessengerClient:
        """A client of the service at `address` ("host:port"). Connects with the first call.

        `key` is the caller's bearer key, `tls` makes the connection TLS, and `timeout` is the deadline in seconds of
        a call that names none. A call that ends UNAVAILABLE is made again, 4 times in all, and one whose message is in
        progress until its deadline.
        """
        if tls is None:
            channel = grpc.aio.insecure_channel(address, OPTIONS)
        else:
            channel = grpc.aio.secure_channel(address, tls.credentials(), OPTIONS)
        return cls(channel, key=key, timeout=timeout)

    async def close(self) -> None:
        """Closes the connection, and cancels what is under way."""
        await self._channel.close()

    async def __aenter__(self) -> MessengerClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send_text_message(
        self, request: pb.SendTextMessageRequest, *, timeout: float | None = None
    ) -> pb.SendTextMessageResponse:
        """Sends one text."""
        return await self._call(self._stub.SendTextMessage, with_request_id(request), timeout)

    async def send_media_message(
        self, request: pb.SendMediaMessageRequest, *, timeout: float | None = None
    ) -> pb.SendMediaMessageResponse:
        """Sends one image, sound, video or file."""
        return await self._call(self._stub.SendMediaMessage, with_request_id(request), timeout)

    async def send_sender_action(
        self, request: pb.SendSenderActionRequest, *, timeout: float | None = None
    ) -> pb.SendSenderActionResponse:
        """Shows or removes the typing indicator, or marks the last message as seen."""
        return await self._call(self._stub.SendSenderAction, with_request_id(request), timeout)

    async def send_template_message(
        self, request: pb.SendTemplateMessageRequest, *, timeout: float | None = None
    ) -> pb.SendTemplateMessageResponse:
        """Sends one structured message."""
        return await self._call(self._stub.SendTemplateMessage, with_request_id(request), timeout)

    async def get_bulk(self, request: pb.GetBulkRequest, *, timeout: float | None = None) -> pb.Bulk:
        """Counts of one bulk, by state."""
        return await self._call(self._stub.GetBulk, request, timeout)

    async def list_bulk_results(
        self, request: pb.ListBulkResultsRequest, *, timeout: float | None = None
    ) -> pb.ListBulkResultsResponse:
        """Recorded results of one bulk, page by page."""
        return await self._call(self._stub.ListBulkResults, request, timeout)

    async def list_pages(
        self, request: pb.ListPagesRequest | None = None, *, timeout: float | None = None
    ) -> pb.ListPagesResponse:
        """The configured pages and how they fare."""
        return await self._call(self._stub.ListPages, request or pb.ListPagesRequest(), timeout)

    def send_bulk(
        self,
        start: pb.BulkStart,
        items: AsyncIterable[pb.BulkItem] | Iterable[pb.BulkItem],
        *,
        reconnect_timeout: float = RECONNECT_TIMEOUT,
    ) -> BulkRun:
        """Sends one message per item, and yields one result per item, in any order.

        `items` may be of any length: it is read as far as the service has room and results are taken. When the
        stream ends early (a deploy, the network) it is opened again, and what has no result is sent again; no message
        is sent twice. `reconnect_timeout` seconds without any result end it.

        An empty `bulk_id` or `run_id` of the start is made up, and the run tells it. All streams are of one run: with
        ON_UNKNOWN_RESEND it sends again what earlier runs left unknown, and reports what it leaves unknown itself.

        Closing the run (`async with`, or `contextlib.aclosing`) or cancelling its task cancels what was not started. An
        error that `items` raises is raised after the results of what it had yielded.
        """
        bulk = Bulk(start, self._timeout, reconnect_timeout)
        return BulkRun(bulk.start, _Streams(self._stub, self._metadata, bulk).results(items))

    async def _call(
        self, method: Callable[..., Awaitable[ResponseT]], request: Any, timeout: float | None
    ) -> ResponseT:
        tries = Tries(self._timeout if timeout is None else timeout)
        while True:
            try:
                return await method(request, timeout=tries.time_left, metadata=self._metadata)
            except grpc.aio.AioRpcError as ended:
                error = from_rpc_error(ended, getattr(request, "request_id", ""))
                if (wait := tries.wait_after(error)) is None:
                    raise error from ended
            await asyncio.sleep(wait)


class BulkRun(AsyncIterator[pb.ItemResult]):
    """The results of a bulk, as they come. Nothing is sent before the first one is asked for."""

    bulk_id: str
    """Name of the bulk: the start's, or the one made up for it. Under it the bulk can be resumed."""

    run_id: str
    """Name of this run of the bulk: the start's, or the one made up for it."""

    def __init__(self, start: pb.BulkStart, results: AsyncGenerator[pb.ItemResult, None]) -> None:
        self.bulk_id, self.run_id = start.bulk_id, start.run_id
        self._results = results

    async def __anext__(self) -> pb.ItemResult:
        return await anext(self._results)

    async def aclose(self) -> None:
        """Cancels what was not started. There are no results any more then."""
        await self._results.aclose()

    async def __aenter__(self) -> BulkRun:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Streams:
    """The streams of one bulk, one after another.

    Three tasks: the caller's reads results, one writes frames, and one reads the source, so that none waits for
    another without need.
    """

    def __init__(self, stub: MessengerServiceAsyncStub, metadata: tuple[tuple[str, str], ...], bulk: Bulk) -> None:
        self._stub = stub
        self._metadata = metadata
        self._bulk = bulk
        # Each wakes one task, which then looks at the account.
        self._source_may_go_on = asyncio.Event()
        self._writer_may_go_on = asyncio.Event()

    async def results(
        self, items: AsyncIterable[pb.BulkItem] | Iterable[pb.BulkItem]
    ) -> AsyncGenerator[pb.ItemResult, None]:
        source = asyncio.create_task(self._read_source(items))
        try:
            while True:
                call = self._stub.SendBulkMessages(metadata=self._metadata)
                writer = asyncio.create_task(self._write(call, self._bulk.open()))
                responses = aiter(call)
                first = asyncio.ensure_future(anext(responses, None))
                response, error = None, None
                try:
                    await asyncio.wait({first}, timeout=self._bulk.accept_timeout)
                    if first.done():
                        response = await first
                    else:
                        error = self._bulk.not_accepted()
                    while response is not None:
                        if response.HasField("results"):
                            results = self._bulk.settle(response.results.results)
                            self._wake()
                            for result in results:
                                yield result
                            self._bulk.release(len(results))
                        elif response.HasField("accepted"):
                            self._bulk.accept(response.accepted.max_in_flight)
                        self._wake()
                        response = await anext(responses, None)
                except grpc.aio.AioRpcError as ended:
                    error = from_rpc_error(ended)
                finally:
                    writer.cancel()
                    call.cancel()
                if self._bulk.is_complete:
                    break
                await asyncio.sleep(self._bulk.wait_after(error))
            if self._bulk.source_error is not None:
                raise self._bulk.source_error
        finally:
            source.cancel()

    def _wake(self) -> None:
        self._source_may_go_on.set()
        self._writer_may_go_on.set()

    async def _write(self, call: StreamCall, start: pb.SendBulkMessagesRequest) -> None:
        try:
            await call.write(start)
            while not self._bulk.is_written:
                if frame := self._bulk.frame():
                    await call.write(frame)
                else:
                    self._writer_may_go_on.clear()
                    await self._writer_may_go_on.wait()
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # The stream has ended: its reader knows how.

    async def _read_source(self, items: AsyncIterable[pb.BulkItem] | Iterable[pb.BulkItem]) -> None:
        try:
            await self._wait_for_room()
            async for item in _as_async(items):
                self._bulk.take(item)
                self._writer_may_go_on.set()
                await self._wait_for_room()
        except Exception as raised:  # The caller's task raises it.
            self._bulk.source_error = raised
        self._bulk.source_ended = True
        self._writer_may_go_on.set()

    async def _wait_for_room(self) -> None:
        while not self._bulk.has_room:
            self._source_may_go_on.clear()
            await self._source_may_go_on.wait()


async def _as_async(items: AsyncIterable[pb.BulkItem] | Iterable[pb.BulkItem]) -> AsyncGenerator[pb.BulkItem, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
