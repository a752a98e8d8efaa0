"""What the client tries again by itself, on a service that says what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict
from google.rpc.status_pb2 import Status

import messenger_connector as m
from messenger_connector import aio
from stack import SCENARIOS, check_error

PATIENCE = 30.0
START = m.BulkStart(on_unknown=m.BulkStart.ON_UNKNOWN_RESEND)


@contextlib.contextmanager
def serving(method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> Iterator[str]:
    """A service with this one method. Yields its address."""
    server = grpc.server(ThreadPoolExecutor())
    handlers = {method: handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("messenger.v1.MessengerService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def send_blocking(address: str, timeout: float | None) -> m.SendTextMessageResponse:
    with m.MessengerClient.connect(address) as client:
        return client.send_text_message(m.SendTextMessageRequest(), timeout=timeout)


def send_asyncio(address: str, timeout: float | None) -> m.SendTextMessageResponse:
    async def run() -> m.SendTextMessageResponse:
        async with aio.MessengerClient.connect(address) as client:
            return await client.send_text_message(m.SendTextMessageRequest(), timeout=timeout)

    return asyncio.run(run())


Send = Callable[[str, float | None], m.SendTextMessageResponse]


@pytest.mark.parametrize("send", [send_blocking, send_asyncio])
@pytest.mark.parametrize("scenario", SCENARIOS["tries"], ids=lambda scenario: scenario["name"])
def test_tries(scenario: dict[str, Any], send: Send) -> None:
    request_ids: list[str] = []

    def answer(request: m.SendTextMessageRequest, context: grpc.ServicerContext) -> m.SendTextMessageResponse:
        answers = scenario["answers"]
        told = answers[min(len(request_ids), len(answers) - 1)]
        request_ids.append(request.request_id)
        if "receipt" in told:
            return m.SendTextMessageResponse(receipt=ParseDict(told["receipt"], m.Receipt()))
        code = grpc.StatusCode[told["code"]]
        if "reason" in told:
            error = AnyMessage()
            error.Pack(m.SendError(reason=m.ErrorReason.Value(told["reason"]), message="told to"))
            details = Status(code=code.value[0], message="told to", details=[error]).SerializeToString()
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(code, "told to")

    handler = grpc.unary_unary_rpc_method_handler(
        answer, m.SendTextMessageRequest.FromString, m.SendTextMessageResponse.SerializeToString
    )
    timeout = scenario["timeout_ms"] / 1000 if "timeout_ms" in scenario else None
    with serving("SendTextMessage", handler) as address:
        if "error" in scenario:
            with pytest.raises(m.MessengerError) as raised:
                send(address, timeout)
            check_error(raised.value, scenario["error"])
            assert raised.value.request_id == request_ids[0]
        else:
            receipt = send(address, timeout).receipt
            expected = scenario["receipt"]
            assert bool(receipt.message_id) == expected["has_message_id"]
            for field in ("recipient_id", "replayed", "attempts"):
                assert getattr(receipt, field) == expected[field]
    assert len(request_ids) == scenario.get("tries", len(request_ids))
    assert len(set(request_ids)) == 1 and uuid.UUID(request_ids[0]), "every try is one of the same message"


class Streams:
    """A service that keeps the starts. The second stream is never accepted, unless `is_silent` says so of all."""

    def __init__(self, is_silent: bool) -> None:
        self._is_silent = is_silent
        self._ended = threading.Event()
        self.starts: list[m.BulkStart] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream, m.SendBulkMessagesRequest.FromString, m.SendBulkMessagesResponse.SerializeToString
        )
        with serving("SendBulkMessages", handler) as address:
            yield address
            self._ended.set()

    def _stream(
        self, requests: Iterator[m.SendBulkMessagesRequest], context: grpc.ServicerContext
    ) -> Iterator[m.SendBulkMessagesResponse]:
        self.starts.append(next(requests).start)
        number = len(self.starts)
        if self._is_silent or number == 2:
            self._ended.wait()
            return
        yield m.SendBulkMessagesResponse(accepted=m.BulkAccepted(max_in_flight=10))
        if number == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        for request in requests:
            sent = [m.ItemResult(item_id=item.item_id, state=m.ITEM_STATE_SENT) for item in request.items.items]
            yield m.SendBulkMessagesResponse(results=m.BulkResults(results=sent))
        yield m.SendBulkMessagesResponse(summary=m.BulkSummary())


def run_blocking(address: str, timeout: float) -> tuple[list[str], str, str]:
    with m.MessengerClient.connect(address, timeout=timeout) as client:
        run = client.send_bulk(START, [m.BulkItem(item_id="a")], reconnect_timeout=PATIENCE)
        return [result.item_id for result in run], run.bulk_id, run.run_id


def run_asyncio(address: str, timeout: float) -> tuple[list[str], str, str]:
    async def run() -> tuple[list[str], str, str]:
        async with aio.MessengerClient.connect(address, timeout=timeout) as client:
            run = client.send_bulk(START, [m.BulkItem(item_id="a")], reconnect_timeout=PATIENCE)
            return [result.item_id async for result in run], run.bulk_id, run.run_id

    return asyncio.run(run())


Run = Callable[[str, float], tuple[list[str], str, str]]


@pytest.mark.parametrize("run", [run_blocking, run_asyncio])
def test_all_streams_are_of_one_run(run: Run) -> None:
    service = Streams(is_silent=False)
    with service.serving() as address:
        results, bulk_id, run_id = run(address, 3.0)
    assert results == ["a"]
    assert len(service.starts) > 2, "one that is never accepted does not hold the client"
    assert all(start == service.starts[0] for start in service.starts)
    assert (service.starts[0].bulk_id, service.starts[0].run_id) == (bulk_id, run_id)
    assert uuid.UUID(bulk_id) != uuid.UUID(run_id)


@pytest.mark.parametrize("run", [run_blocking, run_asyncio])
def test_a_service_that_accepts_nothing_does_not_hold_a_bulk(run: Run) -> None:
    with Streams(is_silent=True).serving() as address, pytest.raises(m.MessengerError) as raised:
        run(address, 0.3)
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE and raised.value.retryable


def test_one_client_has_a_thousand_calls_at_a_time() -> None:
    async def run() -> None:
        waiting, all_wait = [0], asyncio.Event()

        async def answer(_: m.SendTextMessageRequest, __: object) -> m.SendTextMessageResponse:
            waiting[0] += 1
            if waiting[0] == 1000:
                all_wait.set()
            await all_wait.wait()
            return m.SendTextMessageResponse()

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            answer, m.SendTextMessageRequest.FromString, m.SendTextMessageResponse.SerializeToString
        )
        calls = {"SendTextMessage": handler}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("messenger.v1.MessengerService", calls)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with aio.MessengerClient.connect(f"127.0.0.1:{port}", timeout=PATIENCE) as client:
            await asyncio.gather(*(client.send_text_message(m.SendTextMessageRequest()) for _ in range(1000)))
        await server.stop(None)

    asyncio.run(run())


def test_each_client_has_a_connection_of_its_own() -> None:
    """Or further ones would not carry more calls."""
    peers = set()

    def answer(_: m.SendTextMessageRequest, context: grpc.ServicerContext) -> m.SendTextMessageResponse:
        peers.add(context.peer())
        return m.SendTextMessageResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        answer, m.SendTextMessageRequest.FromString, m.SendTextMessageResponse.SerializeToString
    )
    with serving("SendTextMessage", handler) as address:
        with m.MessengerClient.connect(address) as one, m.MessengerClient.connect(address) as other:
            for client in (one, other):
                client.send_text_message(m.SendTextMessageRequest())
    assert len(peers) == 2


def test_a_slow_connection_is_waited_for() -> None:
    """Over it everything takes a second to come back."""
    handler = grpc.unary_unary_rpc_method_handler(
        lambda _, __: m.SendTextMessageResponse(),
        m.SendTextMessageRequest.FromString,
        m.SendTextMessageResponse.SerializeToString,
    )

    def relay(source: socket.socket, target: socket.socket, delay: float) -> None:
        with contextlib.suppress(OSError):
            while some := source.recv(65536):
                time.sleep(delay)
                target.sendall(some)

    def accept(listener: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", int(address.split(":")[1])))
                threading.Thread(target=relay, args=(client, server, 0), daemon=True).start()
                threading.Thread(target=relay, args=(server, client, 1), daemon=True).start()

    with serving("SendTextMessage", handler) as address, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, address), daemon=True).start()
        with m.MessengerClient.connect(f"127.0.0.1:{listener.getsockname()[1]}") as client:
            client.send_text_message(m.SendTextMessageRequest())


def test_a_callers_own_names_stay() -> None:
    start = m.BulkStart(bulk_id="sale", run_id="again")
    with m.MessengerClient.connect("127.0.0.1:1") as client:
        run = client.send_bulk(start, [])
    assert (run.bulk_id, run.run_id) == ("sale", "again")
