"""The account of a bulk over all its streams. Does no input or output, and no locking: that is its owner's part."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import grpc

from messenger_connector._connection import FIRST_WAIT_MAX, IN_PROGRESS_WAIT_MAX
from messenger_connector._errors import MessengerError
from messenger_connector.v1.error_pb2 import (
    ERROR_REASON_DRAINING,
    ERROR_REASON_LEDGER_UNAVAILABLE,
    ERROR_REASON_REQUEST_IN_PROGRESS,
    SendError,
)
from messenger_connector.v1.message_pb2 import ITEM_STATE_NOT_SENT
from messenger_connector.v1.messenger_service_pb2 import (
    BulkItem,
    BulkItems,
    BulkStart,
    ItemResult,
    SendBulkMessagesRequest,
)

RECONNECT_TIMEOUT = 300.0
"""How long a bulk tries for a new stream without any result, in seconds."""

_ITEMS_PER_FRAME_MAX = 500
_FRAME_BYTES_MAX = 512 * 1024
_WAIT_MAX = 15.0

# Nothing was sent for now; the same item may be sent once the service is well again, or has finished what an
# earlier stream began.
_PUT_OFF = (ERROR_REASON_DRAINING, ERROR_REASON_LEDGER_UNAVAILABLE, ERROR_REASON_REQUEST_IN_PROGRESS)


class _Entry(NamedTuple):
    """An item without a result, and its place in the order of the source."""

    number: int
    item: BulkItem


class Bulk:
    """What was taken from the source, and what of it has no result yet."""

    def __init__(self, start: BulkStart, open_timeout: float, reconnect_timeout: float) -> None:
        self.start = BulkStart()
        self.start.CopyFrom(start)
        # Only a bulk with a name can be opened again, and all streams are of one run: what this one leaves unknown, it
        # does not send again.
        self.start.bulk_id = start.bulk_id or str(uuid.uuid4())
        self.start.run_id = start.run_id or str(uuid.uuid4())
        self.accept_timeout = open_timeout
        self.source_ended = False
        self.source_error: BaseException | None = None
        self._reconnect_timeout = reconnect_timeout
        # Taken, and in no frame yet.
        self._taken: deque[_Entry] = deque()
        self._numbers = itertools.count()
        # Taken, and the caller has not got the result yet.
        self._held = 0

        # This stream's: items that earlier streams left and it has not sent yet, and items that it has sent and that
        # have no result, by id. Several items can have one id.
        self._again: deque[_Entry] = deque()
        self._unsettled: dict[str, list[_Entry]] = {}
        self._in_flight = 0
        self._in_flight_max = 0
        # Items whose result is not final: they are left for the next stream. Why this one takes no more then, or that
        # they are in progress, which does not concern the others.
        self._left: list[_Entry] = []
        self._put_off: SendError | None = None
        self._in_progress: SendError | None = None
        self._opened = time.monotonic()

        self._timeout = open_timeout
        self._failures = 0
        self._failing_since: float | None = None

    @property
    def is_complete(self) -> bool:
        """True if every item of the source has its result."""
        return self.source_ended and not self._held

    # The source.

    @property
    def has_room(self) -> bool:
        """Whether another item may be taken from the source."""
        return self._held < self._in_flight_max

    def take(self, item: BulkItem) -> None:
        if not isinstance(item, BulkItem):
            raise TypeError(f"items must yield BulkItem, not {type(item).__name__}")
        self._taken.append(_Entry(next(self._numbers), item))
        self._held += 1

    def release(self, results: int) -> None:
        """Notes that the caller has got so many results."""
        self._held -= results

    # A stream.

    def open(self) -> SendBulkMessagesRequest:
        """Begins a stream: its first frame."""
        left = itertools.chain(self._again, self._left, *self._unsettled.values())
        self._again = deque(sorted(left, key=lambda entry: entry.number))
        self._unsettled, self._left = {}, []
        self._in_flight = self._in_flight_max = 0
        self._put_off = self._in_progress = None
        self._opened = time.monotonic()
        return SendBulkMessagesRequest(start=self.start)

    def not_accepted(self) -> MessengerError:
        """What a stream ends with whose start was not answered within `accept_timeout`."""
        message = f"the service did not answer the start within {self.accept_timeout} s"
        return MessengerError(grpc.StatusCode.UNAVAILABLE, message)

    def accept(self, max_in_flight: int) -> None:
        self._in_flight_max = max(1, max_in_flight)
        self._timeout = self._reconnect_timeout

    @property
    def is_written(self) -> bool:
        """True if this stream gets no further items."""
        # Nothing but items in progress is there: only another stream can bring their results.
        is_idle = 0 < len(self._left) == self._held
        has_all = self.source_ended and not self._taken and not self._again
        return self._put_off is not None or is_idle or has_all

    def frame(self) -> SendBulkMessagesRequest | None:
        """The next frame of items, if there are items and there is room."""
        if self._put_off is not None:
            return None
        queue = self._again or self._taken
        room = min(self._in_flight_max - self._in_flight, _ITEMS_PER_FRAME_MAX)
        items: list[BulkItem] = []
        frame_bytes = 0
        while queue and len(items) < room:
            frame_bytes += queue[0].item.ByteSize()
            if items and frame_bytes > _FRAME_BYTES_MAX:
                break
            entry = queue.popleft()
            items.append(entry.item)
            self._unsettled.setdefault(entry.item.item_id, []).append(entry)
        if not items:
            return None
        self._in_flight += len(items)
        return SendBulkMessagesRequest(items=BulkItems(items=items))

    def settle(self, results: Iterable[ItemResult]) -> list[ItemResult]:
        """Takes results, and gives back those that are final."""
        final = []
        for result in results:
            entries = self._unsettled.get(result.item_id)
            if entries is None:
                continue
            entry = entries.pop(0)
            if not entries:
                del self._unsettled[result.item_id]
            self._in_flight -= 1
            if result.state != ITEM_STATE_NOT_SENT or result.error.reason not in _PUT_OFF:
                final.append(result)
                continue
            self._left.append(entry)
            if result.error.reason == ERROR_REASON_REQUEST_IN_PROGRESS:
                self._in_progress = result.error
            else:
                self._put_off = result.error
        if final:
            self._note_success()
        return final

    # The time between two streams.

    def wait_after(self, error: MessengerError | None) -> float:
        """Seconds to wait before the next stream, after one that ended with this error, or without one.

        Exponential with full jitter, so that many clients of a service that comes back do not come all at once.

        Raises the error if another stream would end likewise, or trying has taken too long.
        """
        if error is None:
            why = self._put_off or self._in_progress
            message = why.message if why else "the service ended the stream before the last result"
            error = MessengerError(grpc.StatusCode.UNAVAILABLE, message, why)
        now = time.monotonic()
        if now - self._opened >= _WAIT_MAX and self._in_flight_max:
            self._note_success()
        self._failing_since = self._failing_since if self._failing_since is not None else now
        left = self._failing_since + self._timeout - now
        if not error._may_pass or left <= 0:
            raise error
        wait_max = IN_PROGRESS_WAIT_MAX if error.reason == ERROR_REASON_REQUEST_IN_PROGRESS else _WAIT_MAX
        longest = min(FIRST_WAIT_MAX * 2 ** min(self._failures, 10), wait_max)
        self._failures += 1
        asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        return min(max(random.uniform(0, longest), asked), left)

    def _note_success(self) -> None:
        self._failures, self._failing_since = 0, None
