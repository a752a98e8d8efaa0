package io.messengerconnector;

import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import java.util.stream.IntStream;

/** Sends items through a service to a sandbox that costs little, and prints how fast. */
final class Throughput {
  private static final int ITEMS = 100_000;

  private Throughput() {}

  public static void main(String[] arguments) throws Exception {
    int items = arguments.length > 0 ? Integer.parseInt(arguments[0]) : ITEMS;
    try (Stack stack = Stack.start("{\"sandbox\": [\"--light\"]}");
        MessengerClient client = stack.connect()) {
      // What the virtual machine compiles on the way is not the client's cost.
      send(client, items);
      long started = System.nanoTime();
      long sent = send(client, items);
      double seconds = (System.nanoTime() - started) / 1e9;
      System.out.printf(
          "java: %d of %d messages sent in %.2f s: %.0f messages/s%n",
          sent, items, seconds, sent / seconds);
    }
  }

  private static long send(MessengerClient client, int items) {
    long sent = 0;
    try (BulkResults results =
        client.sendBulk(
            BulkResultsTest.start("The sale has begun."),
            IntStream.range(0, items).mapToObj(n -> BulkResultsTest.itemTo(Integer.toString(n))))) {
      for (ItemResult result : results) {
        sent += result.getState() == ItemState.ITEM_STATE_SENT ? 1 : 0;
      }
    }
    return sent;
  }
}
