"""The blocking client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import grpc

from messenger_connector._bulk import RECONNECT_TIMEOUT, Bulk
from messenger_connector._connection import OPTIONS, TIMEOUT, Tls, Tries, metadata, with_request_id
from messenger_connector._errors import MessengerError, from_rpc_error
from messenger_connector.v1 import messenger_service_pb2 as pb
from messenger_connector.v1.messenger_service_pb2_grpc import MessengerServiceStub

ResponseT = TypeVar("ResponseT")


class MessengerClient:
    """Sends messages through a messenger-connector service. Blocks; threads may share it.

    `messenger_connector.aio.MessengerClient` is the same for asyncio.
    """

    def __init__(self, channel: grpc.Channel, *, key: str | None = None, timeout: float = TIMEOUT) -> None:
        """For a channel of the caller's own; `connect` makes one as it should be."""
        self._channel = channel
        self._stub = MessengerServiceStub(channel)
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
            channel = grpc.insecure_channel(address, OPTIONS)
        else:
            channel = grpc.secure_channel(address, tls.credentials(), OPTIONS)
        return cls(channel, key=key, timeout=timeout)

    def close(self) -> None:
        """Closes the connection, and cancels what is under way."""
        self._channel.close()

    def __enter__(self) -> MessengerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_text_message(
        self, request: pb.SendTextMessageRequest, *, timeout: float | None = None
    ) -> pb.SendTextMessageResponse:
        """Sends one text."""
        return self._call(self._stub.SendTextMessage, with_request_id(request), timeout)

    def send_media_message(
        self, request: pb.SendMediaMessageRequest, *, timeout: float | None = None
    ) -> pb.SendMediaMessageResponse:
        """Sends one image, sound, video or file."""
        return self._call(self._stub.SendMediaMessage, with_request_id(request), timeout)

    def send_sender_action(
        self, request: pb.SendSenderActionRequest, *, timeout: float | None = None
    ) -> pb.SendSenderActionResponse:
        """Shows or removes the typing indicator, or marks the last message as seen."""
        return self._call(self._stub.SendSenderAction, with_request_id(request), timeout)

    def send_template_message(
        self, request: pb.SendTemplateMessageRequest, *, timeout: float | None = None
    ) -> pb.SendTemplateMessageResponse:
        """Sends one structured message."""
        return self._call(self._stub.SendTemplateMessage, with_request_id(request), timeout)

    def get_bulk(self, request: pb.GetBulkRequest, *, timeout: float | None = None) -> pb.Bulk:
        """Counts of one bulk, by state."""
        return self._call(self._stub.GetBulk, request, timeout)

    def list_bulk_results(
        self, request: pb.ListBulkResultsRequest, *, timeout: float | None = None
    ) -> pb.ListBulkResultsResponse:
        """Recorded results of one bulk, page by page."""
        return self._call(self._stub.ListBulkResults, request, timeout)

    def list_pages(
        self, request: pb.ListPagesRequest | None = None, *, timeout: float | None = None
    ) -> pb.ListPagesResponse:
        """The configured pages and how they fare."""
        return self._call(self._stub.ListPages, request or pb.ListPagesRequest(), timeout)

    def send_bulk(
        self, start: pb.BulkStart, items: Iterable[pb.BulkItem], *, reconnect_timeout: float = RECONNECT_TIMEOUT
    ) -> BulkRun:
        """Sends one message per item, and yields one result per item, in any order.

        `items` may be of any length: it is read in a thread of its own, as far as the service has room and results
        are taken. When the stream ends early (a deploy, the network) it is opened again, and what has no result is
        sent again; no message is sent twice. `reconnect_timeout` seconds without any result end it.

        An empty `bulk_id` or `run_id` of the start is made up, and the run tells it. All streams are of one run: with
        ON_UNKNOWN_RESEND it sends again what earlier runs left unknown, and reports what it leaves unknown itself.

        Leaving the loop, or closing the run, cancels what was not started. An error that `items` raises is raised after
        the results of what it had yielded.
        """
        bulk = Bulk(start, self._timeout, reconnect_timeout)
        return BulkRun(bulk.start, _Streams(self._stub, self._metadata, bulk).results(items))

    def _call(self, method: Callable[..., ResponseT], request: Any, timeout: float | None) -> ResponseT:
        tries = Tries(self._timeout if timeout is None else timeout)
        while True:
            try:
                return method(request, timeout=tries.time_left, metadata=self._metadata)
            except grpc.RpcError as ended:
                error = from_rpc_error(ended, getattr(request, "request_id", ""))
                if (wait := tries.wait_after(error)) is None:
                    raise error from ended
            time.sleep(wait)


class BulkRun(Iterator[pb.ItemResult]):
    """The results of a bulk, as they come. Nothing is sent before the first one is asked for."""

    bulk_id: str
    """Name of the bulk: the start's, or the one made up for it. Under it the bulk can be resumed."""

    run_id: str
    """Name of this run of the bulk: the start's, or the one made up for it."""

    def __init__(self, start: pb.BulkStart, results: Generator[pb.ItemResult, None, None]) -> None:
        self.bulk_id, self.run_id = start.bulk_id, start.run_id
        self._results = results

    def __next__(self) -> pb.ItemResult:
        return next(self._results)

    def close(self) -> None:
        """Cancels what was not started. There are no results any more then."""
        self._results.close()

    def __enter__(self) -> BulkRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Streams:
    """The streams of one bulk, one after another.

    Three threads: the caller's reads results, gRPC's writes frames, and one reads the source, so that none waits for
    another without need. They share the account under one lock.
    """

    def __init__(self, stub: MessengerServiceStub, metadata: tuple[tuple[str, str], ...], bulk: Bulk) -> None:
        self._stub = stub
        self._metadata = metadata
        self._bulk = bulk
        self._changed = threading.Condition()
        self._stream = 0
        self._closed = False

    def results(self, items: Iterable[pb.BulkItem]) -> Generator[pb.ItemResult, None, None]:
        threading.Thread(target=self._read_source, args=(items,), name="bulk source", daemon=True).start()
        try:
            while True:
                error = yield from self._one_stream()
                with self._changed:
                    if self._bulk.is_complete:
                        break
                time.sleep(self._bulk.wait_after(error))
            if self._bulk.source_error is not None:
                raise self._bulk.source_error
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _one_stream(self) -> Generator[pb.ItemResult, None, MessengerError | None]:
        """Yields the final results of a stream, and returns what it ended with."""
        with self._changed:
            self._stream += 1
            start = self._bulk.open()
        call = self._stub.SendBulkMessages(self._frames(self._stream, start), metadata=self._metadata)
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            call.cancel()

        timer = threading.Timer(self._bulk.accept_timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            for response in call:
                if response.HasField("results"):
                    with self._changed:
                        results = self._bulk.settle(response.results.results)
                        self._changed.notify_all()
                    yield from results
                    with self._changed:
                        self._bulk.release(len(results))
                        self._changed.notify_all()
                elif response.HasField("accepted"):
                    timer.cancel()
                    with self._changed:
                        self._bulk.accept(response.accepted.max_in_flight)
                        self._changed.notify_all()
            return None
        except grpc.RpcError as error:
            return self._bulk.not_accepted() if is_late.is_set() else from_rpc_error(error)
        finally:
            timer.cancel()
            call.cancel()

    def _frames(self, stream: int, start: pb.SendBulkMessagesRequest) -> Iterator[pb.SendBulkMessagesRequest]:
        """Frames of one stream, for gRPC's thread."""
        yield start
        while True:
            with self._changed:
                frame = None
                while not self._closed and self._stream == stream and not self._bulk.is_written:
                    if frame := self._bulk.frame():
                        break
                    self._changed.wait()
            if frame is None:
                return
            yield frame

    def _read_source(self, items: Iterable[pb.BulkItem]) -> None:
        error: BaseException | None = None
        try:
            iterator = iter(items)
            while self._wait_for_room():
                item = next(iterator)
                with self._changed:
                    self._bulk.take(item)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as raised:  # The caller's thread raises it.
            error = raised
        with self._changed:
            self._bulk.source_ended, self._bulk.source_error = True, error
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """False if no more is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._bulk.has_room)
            return not self._closed
