package io.messengerconnector;

import io.grpc.Context;
import io.grpc.Status;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.SendError;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The results of a bulk, one per item, in any order. To be read by one thread, once:
 *
 * <pre>{@code
 * try (BulkResults results = client.sendBulk(start, items)) {
 *   for (ItemResult result : results) {
 *     ...
 *   }
 * }
 * }</pre>
 *
 * <p>It throws a {@link MessengerException} if the service refuses the bulk, if it cannot be
 * reached for as long as the client tries, and if the results or the client are closed, the thread
 * is interrupted or its {@link Context} is cancelled while it waits. What was sent is on record
 * then: {@link MessengerClient#listBulkResults} lists it.
 */
public final class BulkResults
    implements Iterable<ItemResult>, Iterator<ItemResult>, AutoCloseable {
  /** The service takes no frame of more than 4 MiB, and an item needs a frame. */
  private static final int ITEM_BYTES_MAX = 4 * 1024 * 1024 - 1024;

  /**
   * The longest first wait before a new stream. It doubles up to the longest of all; a stream that
   * lives that long succeeded.
   */
  private static final Duration FIRST_WAIT_MAX = Duration.ofMillis(200);

  private static final Duration WAIT_MAX = Duration.ofSeconds(15);

  /**
   * After a stream that left nothing but items in progress: the service is well, and their outcome
   * may come any time.
   */
  private static final Duration IN_PROGRESS_WAIT_MAX = Duration.ofSeconds(2);

  private static final int DOUBLINGS_MAX = 10;

  private final MessengerClient client;
  private final BulkStart start;
  private final Iterator<BulkItem> items;
  private final Account account = new Account();
  private final BlockingQueue<BulkStream.Signal> signals = new LinkedBlockingQueue<>();
  private final CountDownLatch closed = new CountDownLatch(1);
  private final Thread source;

  /** What ended the source, if it threw. */
  private volatile Throwable sourceFailure;

  /** The open stream, null between two. */
  private volatile BulkStream stream;

  /** Results of the stream that were not looked at. */
  private final Queue<ItemResult> received = new ArrayDeque<>();

  /** What {@link #hasNext} has found. */
  private ItemResult next;

  private boolean hasStarted;
  private boolean isDone;

  /** The service has taken the start, of this stream or an earlier one. */
  private boolean isAccepted;

  /** Streams in a row that brought nothing, and since when. */
  private int failures;

  private long failingSince;

  /** When the stream was opened. */
  private long openedAt;

  /** When the service took the start of the stream. */
  private Optional<Long> acceptedAt = Optional.empty();

  /** The stream was given up because the service did not take its start in time. */
  private boolean isLate;

  /** How many results the caller had when the stream was opened, and has now. */
  private long handedOutBefore;
  private long handedOut;

  BulkResults(MessengerClient client, BulkStart start, Iterator<BulkItem> items) {
    this.client = client;
    this.start = start;
    this.items = items;
    source = new Thread(this::readSource, "messenger-bulk-source " + start.getBulkId());
    source.setDaemon(true);
  }

  /** Name of the bulk: the start's, or the one made up for it. */
  public String bulkId() {
    return start.getBulkId();
  }

  /** Name of this run of the bulk: the start's, or the one made up for it. */
  public String runId() {
    return start.getRunId();
  }

  /** Itself: the results come once. */
  @Override
  public Iterator<ItemResult> iterator() {
    return this;
  }

  @Override
  public boolean hasNext() {
    if (next != null || isDone) {
      return next != null;
    }
    // Whatever is thrown is the last word.
    isDone = true;
    try {
      next = advance();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw cancelled("the thread was interrupted");
    } finally {
      if (next == null) {
        close();
      }
    }
    isDone = next == null;
    return next != null;
  }

  @Override
  public ItemResult next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    ItemResult result = next;
    next = null;
    return result;
  }

  /**
   * Stops early, from any thread: cancels the stream, interrupts the thread that reads the source,
   * and reads no more of it. After the last result it does nothing.
   */
  @Override
  public void close() {
    closed.countDown();
    account.stop();
    source.interrupt();
    signals.add(new BulkStream.Signal.Closed());
    BulkStream open = stream;
    if (open != null) {
      open.cancel();
    }
  }

  private boolean isClosed() {
    return closed.getCount() == 0;
  }

  private static MessengerException cancelled(String why) {
    return MessengerException.of(Status.CANCELLED.withDescription(why).asRuntimeException());
  }

  /** The next result, over as many streams as it takes; null after the last one. */
  private ItemResult advance() throws InterruptedException {
    if (!hasStarted && !isClosed()) {
      hasStarted = true;
      source.start();
      open();
    }
    while (true) {
      while (!received.isEmpty()) {
        ItemResult result = received.remove();
        if (account.settle(result)) {
          handedOut++;
          return result;
        }
      }
      BulkStream.Signal signal = isClosed() ? new BulkStream.Signal.Closed() : nextSignal();
      if (signal instanceof BulkStream.Signal.Accepted accepted) {
        isAccepted = true;
        acceptedAt = Optional.of(System.nanoTime());
        stream.startWriting(accepted.maxInFlight());
      } else if (signal instanceof BulkStream.Signal.Results some) {
        stream.requestResults();
        received.addAll(some.results());
      } else if (signal instanceof BulkStream.Signal.Refused refused) {
        account.settleRefused();
        handedOut++;
        return refused.result();
      } else if (signal instanceof BulkStream.Signal.Closed) {
        throw cancelled("the results were closed");
      } else if (signal instanceof BulkStream.Signal.Ended ended) {
        stream.awaitWriter();
        stream = null;
        if (account.isComplete()) {
          throwWhatTheSourceThrew();
          return null;
        }
        waitForAnother(failure(ended));
        open();
      }
    }
  }

  /** What comes next. A service that does not take the start holds nobody for ever. */
  private BulkStream.Signal nextSignal() throws InterruptedException {
    if (acceptedAt.isEmpty() && !isLate) {
      long left = client.timeout.toNanos() - (System.nanoTime() - openedAt);
      BulkStream.Signal signal = signals.poll(left, TimeUnit.NANOSECONDS);
      if (signal != null) {
        return signal;
      }
      isLate = true;
      stream.cancel();
    }
    return signals.take();
  }

  /** Why a stream ended before every item had its result. */
  private MessengerException failure(BulkStream.Signal.Ended ended) {
    if (isLate) {
      String message = "the service did not answer the start within " + client.timeout;
      return MessengerException.of(
          Status.UNAVAILABLE.withDescription(message).asRuntimeException());
    }
    return ended.failure() == null ? account.whyUnsettled() : ended.failure();
  }

  private void open() {
    openedAt = System.nanoTime();
    acceptedAt = Optional.empty();
    isLate = false;
    handedOutBefore = handedOut;
    stream = BulkStream.open(client.channel, start, account, signals);
    if (isClosed()) {
      stream.cancel();
    }
  }

  /**
   * Waits before a further stream; throws how the last one ended, if there is no hope that a
   * further one fares better.
   */
  private void waitForAnother(MessengerException failure) throws InterruptedException {
    if (!mayPass(failure) || Context.current().isCancelled() || client.channel.isShutdown()) {
      throw failure;
    }
    long now = System.nanoTime();
    boolean hasLived = acceptedAt.filter(accepted -> now - accepted >= WAIT_MAX.toNanos()).isPresent();
    if (failures == 0 || handedOut > handedOutBefore || hasLived) {
      failures = 0;
      failingSince = now;
    }
    Duration patience = isAccepted ? client.reconnectTimeout : client.timeout;
    long left = patience.toNanos() - (now - failingSince);
    if (left <= 0) {
      throw failure;
    }
    long longest = longestWait(failures, failure.reason()).toNanos();
    failures++;
    long asked = failure.retryAfter().orElse(Duration.ZERO).toNanos();
    long wait = Math.min(Math.max(ThreadLocalRandom.current().nextLong(longest), asked), left);
    if (closed.await(wait, TimeUnit.NANOSECONDS)) {
      throw cancelled("the results were closed");
    }
    // The connection has waits of its own, and this one is over.
    client.channel.resetConnectBackoff();
  }

  /** The longest wait after a failure with so many before it. */
  static Duration longestWait(int failures, ErrorReason reason) {
    boolean isInProgress = reason == ErrorReason.ERROR_REASON_REQUEST_IN_PROGRESS;
    Duration longest = FIRST_WAIT_MAX.multipliedBy(1L << Math.min(failures, DOUBLINGS_MAX));
    return Collections.min(List.of(longest, isInProgress ? IN_PROGRESS_WAIT_MAX : WAIT_MAX));
  }

  /**
   * Whether a further stream may fare better than one that ended so. An end without a reason is the
   * transport's.
   */
  private static boolean mayPass(MessengerException failure) {
    return switch (failure.code()) {
      case UNAVAILABLE -> true;
      case RESOURCE_EXHAUSTED -> failure.retryable();
      case CANCELLED, INTERNAL, UNKNOWN -> failure.reason() == ErrorReason.ERROR_REASON_UNSPECIFIED;
      default -> false;
    };
  }

  private void readSource() {
    try {
      while (account.waitForRoom() && items.hasNext()) {
        BulkItem item = items.next();
        if (item.getSerializedSize() <= ITEM_BYTES_MAX) {
          account.add(item);
        } else {
          account.addRefused();
          signals.add(new BulkStream.Signal.Refused(refusal(item)));
        }
      }
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
    } catch (RuntimeException | Error failure) {
      sourceFailure = failure;
    }
    account.sourceEnded();
  }

  /** The result of an item that no frame can carry. */
  private static ItemResult refusal(BulkItem item) {
    String message =
        "the item has %d bytes, more than %d".formatted(item.getSerializedSize(), ITEM_BYTES_MAX);
    return ItemResult.newBuilder()
        .setItemId(item.getItemId())
        .setState(ItemState.ITEM_STATE_REJECTED)
        .setError(
            SendError.newBuilder()
                .setReason(ErrorReason.ERROR_REASON_INVALID_ARGUMENT)
                .setMessage(message))
        .build();
  }

  private void throwWhatTheSourceThrew() {
    if (sourceFailure instanceof Error error) {
      throw error;
    }
    if (sourceFailure instanceof RuntimeException exception) {
      throw exception;
    }
  }
}
