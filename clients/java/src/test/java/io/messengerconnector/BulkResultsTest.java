package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import io.messengerconnector.v1.Action;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.MessagingType;
import io.messengerconnector.v1.Recipient;
import io.messengerconnector.v1.SendOptions;
import io.messengerconnector.v1.TextMessage;
import java.time.Duration;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.FutureTask;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** What the scenarios do not reach. */
final class BulkResultsTest {
  private static Action text(String text) {
    return Action.newBuilder().setText(TextMessage.newBuilder().setText(text)).build();
  }

  static BulkStart start(String text) {
    SendOptions options =
        SendOptions.newBuilder().setMessagingType(MessagingType.MESSAGING_TYPE_UPDATE).build();
    return BulkStart.newBuilder().setOptions(options).setAction(text(text)).build();
  }

  static BulkItem itemTo(String id) {
    return BulkItem.newBuilder()
        .setItemId(id)
        .setRecipient(Recipient.newBuilder().setId(id))
        .build();
  }

  /**
   * More of them than the service takes at a time: each is a result, and none the end of the bulk.
   */
  @Test
  void itemsThatFitNoFrameAreRejected() throws Exception {
    BulkItem large = itemTo("large").toBuilder().setAction(text("x".repeat(5 << 20))).build();
    try (Stack stack = Stack.start("{\"serve\": [\"--bulk-in-flight-max\", \"2\"]}");
        MessengerClient client = stack.connect();
        BulkResults results =
            client.sendBulk(
                start("Hello"),
                Stream.concat(Collections.nCopies(5, large).stream(), Stream.of(itemTo("1"))))) {
      List<ItemState> states =
          IntStream.range(0, 6)
              .mapToObj(n -> results.next().getState())
              .collect(Collectors.toList());
      assertFalse(results.hasNext());
      assertEquals(5, Collections.frequency(states, ItemState.ITEM_STATE_REJECTED));
      assertEquals(1, Collections.frequency(states, ItemState.ITEM_STATE_SENT));
    }
  }

  /** A source that waits for the result of each item before it gives the next. */
  @Test
  void anItemIsNotHeldBackForAFullFrame() throws Exception {
    BlockingQueue<String> taken = new LinkedBlockingQueue<>();
    Iterator<BulkItem> items =
        new Iterator<>() {
          private int given;

          @Override
          public boolean hasNext() {
            try {
              return given == 0 || taken.take().equals(Integer.toString(given)) && given < 3;
            } catch (InterruptedException stopped) {
              throw new IllegalStateException(stopped);
            }
          }

          @Override
          public BulkItem next() {
            given++;
            return itemTo(Integer.toString(given));
          }
        };
    try (Stack stack = Stack.start();
        MessengerClient client = stack.connect();
        BulkResults results = client.sendBulk(start("Hello"), items)) {
      int count = 0;
      for (ItemResult result : results) {
        count++;
        taken.add(result.getItemId());
      }
      assertEquals(3, count);
    }
  }

  /** After the results of all that it gave before. */
  @Test
  void whatTheSourceThrowsTheResultsThrow() throws Exception {
    IllegalStateException broken = new IllegalStateException("the file is broken");
    Stream<BulkItem> items =
        IntStream.range(0, 3)
            .mapToObj(
                n -> {
                  if (n == 2) {
                    throw broken;
                  }
                  return itemTo(Integer.toString(n));
                });
    try (Stack stack = Stack.start();
        MessengerClient client = stack.connect();
        BulkResults results = client.sendBulk(start("Hello"), items)) {
      assertEquals(ItemState.ITEM_STATE_SENT, results.next().getState());
      assertEquals(ItemState.ITEM_STATE_SENT, results.next().getState());
      assertSame(broken, assertThrows(IllegalStateException.class, results::hasNext));
    }
  }

  @Test
  void closingEndsAWaitAndTheSource() throws Exception {
    CountDownLatch asked = new CountDownLatch(1);
    CountDownLatch interrupted = new CountDownLatch(1);
    Iterator<BulkItem> items =
        new Iterator<>() {
          @Override
          public boolean hasNext() {
            asked.countDown();
            try {
              Thread.sleep(Duration.ofMinutes(1).toMillis());
              return false;
            } catch (InterruptedException stopped) {
              interrupted.countDown();
              throw new IllegalStateException(stopped);
            }
          }

          @Override
          public BulkItem next() {
            throw new AssertionError();
          }
        };
    try (Stack stack = Stack.start();
        MessengerClient client = stack.connect()) {
      BulkResults results = client.sendBulk(start("Hello"), items);
      FutureTask<MessengerException> waiting =
          new FutureTask<>(() -> assertThrows(MessengerException.class, results::hasNext));
      new Thread(waiting).start();
      asked.await();
      results.close();
      interrupted.await();
      assertEquals(Status.Code.CANCELLED, waiting.get().code());
    }
  }

  @Test
  void closingTheClientEndsItsBulks() throws Exception {
    try (Stack stack = Stack.start()) {
      MessengerClient client = stack.connect();
      Stream<BulkItem> items =
          IntStream.iterate(0, n -> n + 1).mapToObj(n -> itemTo("slow-20." + n));
      BulkResults results = client.sendBulk(start("Hello"), items);
      results.next();
      client.close();
      assertThrows(MessengerException.class, () -> results.forEach(result -> {}));
    }
  }

  @Test
  void aBulkWithoutAServiceEnds() {
    try (MessengerClient client =
            MessengerClient.builder(Stack.NOTHING_LISTENS)
                .timeout(Duration.ofMillis(300))
                .connect();
        BulkResults results = client.sendBulk(start("Hello"), Stream.empty())) {
      MessengerException failure = assertThrows(MessengerException.class, results::hasNext);
      assertEquals(Status.Code.UNAVAILABLE, failure.code());
      assertTrue(failure.retryable());
    }
  }
}
