"""Every scenario of calls, with the blocking client and with the one for asyncio."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

import messenger_connector as m
from messenger_connector import aio
from stack import SCENARIOS, Stack, check_error, connection

Call = dict[str, Any]


class Blocking:
    """The blocking client. A call in the background has a thread."""

    def __init__(self, stack: Stack, scenario: dict[str, Any]) -> None:
        self._client = m.MessengerClient.connect(stack.address, **connection(scenario, stack))
        self._threads = ThreadPoolExecutor()

    def start(self, method: str, request: Message, timeout: float | None) -> Future[Any]:
        return self._threads.submit(getattr(self._client, method), request, timeout=timeout)

    def cancel(self, _: Future[Any]) -> None:
        self._client.close()

    def close(self) -> None:
        self._client.close()


class Asyncio:
    """The client for asyncio, in a loop in a thread."""

    def __init__(self, stack: Stack, scenario: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def connect() -> aio.MessengerClient:
            return aio.MessengerClient.connect(stack.address, **connection(scenario, stack))

        self._client = asyncio.run_coroutine_threadsafe(connect(), self._loop).result()

    def start(self, method: str, request: Message, timeout: float | None) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(getattr(self._client, method)(request, timeout=timeout), self._loop)

    def cancel(self, call: Future[Any]) -> None:
        call.cancel()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


def request_of(call: Call, id_of_error: str) -> Message:
    request: Message = getattr(m, call["method"] + "Request")()
    if call.get("request_id_of_error"):
        return ParseDict(call["request"] | {"request_id": id_of_error}, request)
    return ParseDict(call["request"], request)


def check(call: Call, future: Future[Any]) -> str:
    """Returns the request id that the error tells."""
    within = call.get("within_ms", 60_000) / 1000
    if "error" in call:
        with pytest.raises(m.MessengerError) as raised:
            future.result(timeout=within)
        check_error(raised.value, call["error"])
        return raised.value.request_id
    response = future.result(timeout=within)
    if "preview" in call:
        assert response.preview.url.endswith(call["preview"]["url_end"])
        assert call["preview"]["body_contains"] in response.preview.body_json
        return ""
    receipt = response.receipt
    for field, value in call["receipt"].items():
        found = bool(receipt.message_id) if field == "has_message_id" else getattr(receipt, field)
        assert found == value, f"{field}: {receipt}"
    return ""


@pytest.mark.parametrize("client_type", [Blocking, Asyncio])
@pytest.mark.parametrize("scenario", SCENARIOS["calls"], ids=lambda scenario: scenario["name"])
def test_calls(scenario: dict[str, Any], client_type: type[Blocking] | type[Asyncio], tmp_path: Path) -> None:
    with Stack(scenario, tmp_path) as stack:
        client = client_type(stack, scenario)
        in_background, id_of_error = [], ""
        for call in scenario["calls"]:
            method = re.sub("(?<!^)(?=[A-Z])", "_", call["method"]).lower()
            timeout = call["timeout_ms"] / 1000 if "timeout_ms" in call else None
            request = request_of(call, id_of_error)
            before = request.SerializeToString()
            future = client.start(method, request, timeout)
            if call.get("background"):
                stack.wait_for_delivered(1)
                in_background.append((call, future))
            elif call.get("cancel_when_delivered"):
                stack.wait_for_delivered(1)
                cancelled = time.monotonic()
                client.cancel(future)
                with pytest.raises(BaseException) as raised:
                    future.result(timeout=1)
                assert time.monotonic() - cancelled < 1
                if isinstance(raised.value, m.MessengerError):
                    assert raised.value.code is grpc.StatusCode.CANCELLED
            else:
                if "restart_when_delivered" in call:
                    stack.wait_for_delivered(1)
                    stack.restart(call["restart_when_delivered"])
                id_of_error = check(call, future)
            assert request.SerializeToString() == before, "the caller's request is not changed"
        for call, future in in_background:
            check(call, future)
        if "delivered" in scenario:
            assert stack.delivered() == scenario["delivered"]
        client.close()
