package io.messengerconnector;

import io.grpc.Status;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.SendError;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * Every item of a bulk, from when it is taken from the source until its result is handed out. Three
 * threads share it: one takes items, one writes them, and the caller's own settles them.
 */
final class Account {
  private static final int ITEMS_PER_FRAME_MAX = 500;

  /** A frame of several items stays below. */
  private static final int FRAME_BYTES_MAX = 512 * 1024;

  /**
   * How long a frame with room waits for more items. A frame per item would cost the service
   * dearly.
   */
  private static final long FRAME_LINGER_MS = 1;

  /** Results that are not final: nothing was sent, and a later stream may. */
  private static final Set<ErrorReason> HELD_BACK =
      Set.of(
          ErrorReason.ERROR_REASON_DRAINING,
          ErrorReason.ERROR_REASON_LEDGER_UNAVAILABLE,
          ErrorReason.ERROR_REASON_REQUEST_IN_PROGRESS);

  private record Entry(BulkItem item, long number) {}

  /** Items that the stream has not answered, by item id; those of one id in their order. */
  private final Map<String, ArrayDeque<Entry>> unsettled = new HashMap<>();

  /** What the stream has not sent yet, in the order of the source. */
  private ArrayDeque<Entry> queue = new ArrayDeque<>();

  /** Items that were taken from the source, and how many of them have no result. */
  private long taken;

  private int waiting;

  /** Items that the stream has sent and that have no result, and how many the service allows. */
  private int inFlight;

  private int inFlightMax;

  /** The source has no more items. */
  private boolean hasEnded;

  /** The caller wants no more results. */
  private boolean isStopped;

  /** Items whose result is not final: they are left to the next stream. */
  private final List<Entry> left = new ArrayList<>();

  /** Why items are left to a further stream. This one gets no more then. */
  private SendError heldBack;

  /** That items are left because they are in progress, which does not concern the others. */
  private SendError inProgress;

  /** The stream is over. */
  private boolean isOver;

  /** Waits until a further item may be taken; false if none is wanted any more. */
  synchronized boolean waitForRoom() throws InterruptedException {
    while (waiting >= inFlightMax && !isStopped) {
      wait();
    }
    return !isStopped;
  }

  synchronized void add(BulkItem item) {
    Entry entry = new Entry(item, taken++);
    waiting++;
    addUnsettled(entry);
    queue.add(entry);
    if (queue.size() == 1) {
      notifyAll();
    }
  }

  private void addUnsettled(Entry entry) {
    unsettled.computeIfAbsent(entry.item().getItemId(), id -> new ArrayDeque<>(1)).add(entry);
  }

  /** Counts an item that no stream gets, until its result is handed out. */
  synchronized void addRefused() {
    waiting++;
  }

  synchronized void settleRefused() {
    waiting--;
    notifyAll();
  }

  synchronized void sourceEnded() {
    hasEnded = true;
    notifyAll();
  }

  synchronized void stop() {
    isStopped = true;
    notifyAll();
  }

  /** Puts what earlier streams left into the queue, before further items. */
  synchronized void streamOpened(int inFlightMax) {
    unsettled.values().forEach(left::addAll);
    left.sort(Comparator.comparingLong(Entry::number));
    queue = new ArrayDeque<>(left);
    unsettled.clear();
    left.forEach(this::addUnsettled);
    left.clear();
    inFlight = 0;
    this.inFlightMax = Math.max(inFlightMax, 1);
    heldBack = null;
    inProgress = null;
    isOver = false;
    notifyAll();
  }

  /** Lets the writer go. */
  synchronized void streamEnded() {
    isOver = true;
    notifyAll();
  }

  /** The stream may take a frame again. */
  synchronized void streamReady() {
    notifyAll();
  }

  /** Waits for the items of a frame; none means that the stream gets no more. */
  synchronized List<BulkItem> next(BooleanSupplier isReady) throws InterruptedException {
    long lingeredUntil = 0;
    while (true) {
      int room = Math.min(inFlightMax - inFlight, ITEMS_PER_FRAME_MAX);
      // Nothing but items in progress is there: only another stream can bring their results.
      boolean isIdle = !left.isEmpty() && left.size() == waiting;
      if (isOver || heldBack != null || isIdle || hasEnded && queue.isEmpty()) {
        return List.of();
      }
      if (queue.isEmpty() || room <= 0 || !isReady.getAsBoolean()) {
        wait();
        continue;
      }
      boolean isFull = hasEnded || queue.size() >= room;
      if (!isFull && lingeredUntil == 0) {
        lingeredUntil = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(FRAME_LINGER_MS);
      }
      if (isFull || System.nanoTime() >= lingeredUntil) {
        return frame(room);
      }
      wait(FRAME_LINGER_MS);
    }
  }

  private List<BulkItem> frame(int count) {
    List<BulkItem> items = new ArrayList<>();
    for (int bytes = 0; !queue.isEmpty() && items.size() < count; ) {
      bytes += queue.peek().item().getSerializedSize();
      if (bytes > FRAME_BYTES_MAX && !items.isEmpty()) {
        break;
      }
      items.add(queue.remove().item());
    }
    inFlight += items.size();
    return items;
  }

  /**
   * Takes out the item that a result is for. False if the result is none for the caller: the item
   * is left to a further stream, or nobody waits for it.
   */
  synchronized boolean settle(ItemResult result) {
    ArrayDeque<Entry> entries = unsettled.get(result.getItemId());
    if (entries == null) {
      return false;
    }
    inFlight--;
    notifyAll();
    Entry entry = entries.remove();
    if (entries.isEmpty()) {
      unsettled.remove(result.getItemId());
    }
    if (result.getState() != ItemState.ITEM_STATE_NOT_SENT
        || !HELD_BACK.contains(result.getError().getReason())) {
      waiting--;
      return true;
    }
    left.add(entry);
    if (result.getError().getReason() == ErrorReason.ERROR_REASON_REQUEST_IN_PROGRESS) {
      inProgress = result.getError();
    } else {
      heldBack = result.getError();
    }
    return false;
  }

  /** The error of a stream that ended well and yet left items without a result. */
  synchronized MessengerException whyUnsettled() {
    SendError why = heldBack != null ? heldBack : inProgress;
    if (why != null) {
      return MessengerException.of(Status.UNAVAILABLE.withDescription(why.getMessage()), why);
    }
    return MessengerException.of(
        Status.UNAVAILABLE
            .withDescription("the service ended the stream before the last result")
            .asRuntimeException());
  }

  /** True if every item of the source has its result. */
  synchronized boolean isComplete() {
    return hasEnded && waiting == 0;
  }
}
