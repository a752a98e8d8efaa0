package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.LongStream;
import java.util.stream.Stream;

/** One bulk of the scenarios. */
final class BulkScenario {
  static final Set<String> KNOWN =
      Set.of(
          "name",
          "service",
          "connect",
          "start",
          "rounds",
          "items",
          "filler_bytes",
          "delivered",
          "ahead_max",
          "or_state_max",
          "restart",
          "cancel_after_results",
          "error");

  private final JsonObject scenario;
  private final Stack stack;
  private final String filler;
  private final AtomicLong taken = new AtomicLong();
  private final AtomicLong yielded = new AtomicLong();
  private final AtomicLong aheadMax = new AtomicLong();
  private final Map<String, Queue<ItemResult>> results = new HashMap<>();

  /** Runs it on a stack of its own. */
  static void run(JsonObject scenario) throws Exception {
    try (Stack stack = new Stack(ScenariosTest.member(scenario, "service"));
        MessengerClient client = stack.connect(ScenariosTest.member(scenario, "connect"))) {
      new BulkScenario(scenario, stack).run(client);
    }
  }

  private BulkScenario(JsonObject scenario, Stack stack) {
    this.scenario = scenario;
    this.stack = stack;
    filler = "x".repeat(number("filler_bytes", 0));
  }

  private int number(String member, int otherwise) {
    return scenario.has(member) ? scenario.get(member).getAsInt() : otherwise;
  }

  private void run(MessengerClient client) throws Exception {
    FutureTask<Void> restart = new FutureTask<>(restart());
    new Thread(restart).start();
    BulkStart start = ScenariosTest.parse(scenario.get("start"), BulkStart.newBuilder()).build();
    MessengerException failure = null;
    try (BulkResults some = client.sendBulk(start, source())) {
      while (yielded.get() != number("cancel_after_results", -1) && some.hasNext()) {
        ItemResult result = some.next();
        yielded.incrementAndGet();
        results.computeIfAbsent(result.getItemId(), id -> new ArrayDeque<>()).add(result);
      }
    } catch (MessengerException thrown) {
      failure = thrown;
    }
    restart.get();
    Set<String> sent = new HashSet<>();
    if (scenario.has("error")) {
      ScenariosTest.checkError(scenario.getAsJsonObject("error"), failure);
      assertEquals("", failure.requestId());
      assertEquals(0, yielded.get());
    } else if (failure != null) {
      throw failure;
    } else if (scenario.has("cancel_after_results")) {
      // The one item that was being waited for.
      long before = taken.get();
      Thread.sleep(200);
      assertTrue(taken.get() <= before + 1, before + " items taken, then " + taken);
    } else {
      sent = checkResults();
    }
    if (scenario.has("ahead_max")) {
      assertTrue(
          aheadMax.get() <= number("ahead_max", 0),
          aheadMax + " items were taken and had no result");
    }
    checkSandbox(sent);
  }

  private Callable<Void> restart() {
    return () -> {
      if (scenario.has("restart")) {
        JsonObject restart = scenario.getAsJsonObject("restart");
        stack.awaitDelivered(restart.get("when_delivered").getAsInt());
        stack.restart(restart.get("signal").getAsString());
      }
      return null;
    };
  }

  private Iterator<BulkItem> source() {
    List<JsonElement> items = scenario.getAsJsonArray("items").asList();
    return LongStream.range(0, number("rounds", 0))
        .boxed()
        .flatMap(round -> items.stream().map(wanted -> item(wanted, round)))
        .peek(item -> aheadMax.accumulateAndGet(taken.incrementAndGet() - yielded.get(), Math::max))
        .iterator();
  }

  private BulkItem item(JsonElement wanted, long round) {
    String json = wanted.getAsJsonObject().get("item").toString();
    String text = json.replace("{round}", Long.toString(round)).replace("{filler}", filler);
    try {
      return ScenariosTest.parse(JsonParser.parseString(text), BulkItem.newBuilder()).build();
    } catch (InvalidProtocolBufferException failure) {
      throw new UncheckedIOException(failure);
    }
  }

  /**
   * Looks at the result of every item that the source gave. Returns the recipients of those that
   * were sent.
   */
  private Set<String> checkResults() {
    int orStates = 0;
    Set<String> sent = new HashSet<>();
    for (long round = 0; round < number("rounds", 0); round++) {
      for (JsonElement element : scenario.getAsJsonArray("items")) {
        JsonObject wanted = element.getAsJsonObject();
        BulkItem item = item(wanted, round);
        Queue<ItemResult> some = results.getOrDefault(item.getItemId(), new ArrayDeque<>());
        assertTrue(!some.isEmpty(), () -> "no result: " + item);
        ItemResult result = some.remove();
        if (wanted.has("or_state")
            && result.getState().name().equals(wanted.get("or_state").getAsString())) {
          orStates++;
        } else {
          assertEquals(
              wanted.get("state").getAsString(), result.getState().name(), result::toString);
          if (wanted.has("reason")) {
            assertEquals(wanted.get("reason").getAsString(), result.getError().getReason().name());
          }
        }
        if (result.getState() == ItemState.ITEM_STATE_SENT) {
          sent.add(item.getRecipient().getId());
        }
      }
    }
    assertTrue(orStates <= number("or_state_max", 0), orStates + " in the other state");
    assertTrue(results.values().stream().allMatch(Queue::isEmpty), "results too many");
    return sent;
  }

  /** Compares what the sandbox got with what the client says was sent. */
  private void checkSandbox(Set<String> sent) throws IOException, InterruptedException {
    JsonObject state = stack.sandbox("/sandbox/state");
    assertEquals(0, state.get("duplicates").getAsInt());
    if (scenario.has("delivered")) {
      assertEquals(number("delivered", 0), state.get("delivered").getAsInt());
      return;
    }
    Stream<JsonElement> messages =
        stack
            .sandbox("/sandbox/messages?limit=100000")
            .getAsJsonArray("messages")
            .asList()
            .stream();
    messages
        .map(
            message ->
                message
                    .getAsJsonObject()
                    .getAsJsonObject("body")
                    .getAsJsonObject("recipient")
                    .get("id")
                    .getAsString())
        .forEach(sent::remove);
    assertEquals(Set.of(), sent, "not delivered");
  }
}
