"""What a call that fails raises."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from messenger_connector.v1.error_pb2 import ErrorReason, FieldViolation, GraphError, SendError

_DETAILS_KEY = "grpc-status-details-bin"

# What a transport makes of a connection that breaks. The service never ends a stream so without a SendError.
_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
)


class MessengerError(Exception):
    """A call failed. Decide by `reason`, or by `retryable`; never by a text.

    An error that the service did not make (no connection, a deadline that passed on this side, a call that was
    cancelled) has the reason ERROR_REASON_UNSPECIFIED; `code` then says what happened, and nothing whether the message
    was sent.
    """

    code: grpc.StatusCode
    """The gRPC status code."""

    reason: ErrorReason.ValueType
    """Why nothing was sent, or why the outcome is not known. Example: ERROR_REASON_OUTSIDE_WINDOW."""

    message: str
    """One English sentence for a developer's log. Contains no token, recipient or message text."""

    retryable: bool
    """True if the same request with the same `request_id` may succeed later and cannot deliver the message twice."""

    retry_after: timedelta | None
    """How long to wait before a retry, if that is known."""

    graph: GraphError | None
    """What Graph answered, if it answered with an error: `code`, `subcode`, `type`, `fbtrace_id`, ..."""

    violations: Sequence[FieldViolation]
    """Every rule that the request breaks, each with `field` and `description`."""

    request_id: str
    """The id that the request was sent with, also if the client made it up: the same request with it repeats the call,
    or tells what became of it. Only another message takes another id. Empty if the request has none, as that of a bulk.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, error: SendError | None = None, request_id: str = ""
    ) -> None:
        self.code = code
        self.message = message
        self.request_id = request_id
        self._is_made_by_service = error is not None
        error = error or SendError(retryable=code is grpc.StatusCode.UNAVAILABLE)
        self.reason = error.reason
        self.retryable = error.retryable
        self.retry_after = error.retry_after.ToTimedelta() if error.HasField("retry_after") else None
        self.graph = error.graph if error.HasField("graph") else None
        self.violations = tuple(error.violations)
        reason = ErrorReason.Name(self.reason).removeprefix("ERROR_REASON_") if self.reason else code.name
        fields = "".join(f"\n  {violation.field}: {violation.description}" for violation in self.violations)
        super().__init__(f"{reason}: {message}{fields}")

    @property
    def _may_pass(self) -> bool:
        """Whether a stream that ended so should be opened again."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retryable
        return self.code is grpc.StatusCode.UNAVAILABLE or (self.code in _LOST and not self._is_made_by_service)


def from_rpc_error(error: grpc.RpcError, request_id: str = "") -> MessengerError:
    """The typed error of a failed call. Its SendError is one of the details of its status."""
    # Every error of a call is that call, too; the type does not say so, and asyncio's differs.
    call: Any = error
    code: grpc.StatusCode = call.code()
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            for detail in Status.FromString(value).details:
                send_error = SendError()
                if detail.Unpack(send_error):
                    return MessengerError(code, send_error.message, send_error, request_id)
    return MessengerError(code, call.details() or code.name, request_id=request_id)
