"""How a client connects: what the blocking one and the asyncio one share."""

from __future__ import annotations

import json
import random
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from messenger_connector._errors import MessengerError
from messenger_connector.v1 import messenger_service_pb2 as pb
from messenger_connector.v1.error_pb2 import ERROR_REASON_REQUEST_IN_PROGRESS

TIMEOUT = 30.0
"""Deadline of a call that names none, in seconds."""

FIRST_WAIT_MAX = 0.2
"""The longest first wait before another try, in seconds. It doubles with every failure."""

IN_PROGRESS_WAIT_MAX = 2.0
"""The longest wait for a message that is in progress, in seconds: the service is well, and the outcome may come any
time."""

_UNARY = (
    "SendTextMessage",
    "SendMediaMessage",
    "SendSenderAction",
    "SendTemplateMessage",
    "GetBulk",
    "ListBulkResults",
    "ListPages",
)

# A connection that breaks is UNAVAILABLE, too, and tells nothing of the message: trying again is safe because every
# send has an id, and the reading calls change nothing.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "messenger.v1.MessengerService", "method": method} for method in _UNARY],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A service that comes back is found within seconds.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # How long a connection may take; it does not put off the next attempt.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Clients of one address would share a connection, and with it the service's limit of calls.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "messenger-connector-python/0.1.0"),
]


@dataclass(frozen=True)
class Tls:
    """TLS to the service. All files are PEM."""

    ca: str | Path | None = None
    """Certificates of the authorities to trust. Default: the ones that gRPC comes with."""

    certificate: str | Path | None = None
    """The client's own certificate, for mutual TLS. Goes with `key`."""

    key: str | Path | None = None
    """Private key of `certificate`."""

    def credentials(self) -> grpc.ChannelCredentials:
        ca, certificate, key = (path and Path(path).read_bytes() for path in (self.ca, self.certificate, self.key))
        return grpc.ssl_channel_credentials(ca or None, key or None, certificate or None)


def metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    """What every call carries."""
    return (("authorization", f"Bearer {key}"),) if key else ()


RequestT = TypeVar(
    "RequestT",
    pb.SendTextMessageRequest,
    pb.SendMediaMessageRequest,
    pb.SendSenderActionRequest,
    pb.SendTemplateMessageRequest,
)


def with_request_id(request: RequestT) -> RequestT:
    """The request with an id, made up if it has none: all tries of a send must carry the same."""
    if request.request_id:
        return request
    named = type(request)()
    named.CopyFrom(request)
    named.request_id = str(uuid.uuid4())
    return named


class Tries:
    """The tries of a unary call until its deadline, beside those that the channel makes by itself: while its message is
    in progress. An earlier try whose connection broke may have begun to send it."""

    def __init__(self, timeout: float) -> None:
        self._end = time.monotonic() + timeout
        self._waits = 0

    @property
    def time_left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._end - time.monotonic())

    def wait_after(self, error: MessengerError) -> float | None:
        """Seconds to wait before the next try; None if there is none."""
        if error.reason != ERROR_REASON_REQUEST_IN_PROGRESS:
            return None
        longest = min(FIRST_WAIT_MAX * 2 ** min(self._waits, 10), IN_PROGRESS_WAIT_MAX)
        self._waits += 1
        asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        wait = max(random.uniform(0, longest), asked)
        return wait if wait < self.time_left else None
