package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.Context;
import io.grpc.Status;
import io.messengerconnector.v1.FieldViolation;
import io.messengerconnector.v1.GetBulkRequest;
import io.messengerconnector.v1.Preview;
import io.messengerconnector.v1.Receipt;
import io.messengerconnector.v1.SendMediaMessageRequest;
import io.messengerconnector.v1.SendSenderActionRequest;
import io.messengerconnector.v1.SendTemplateMessageRequest;
import io.messengerconnector.v1.SendTextMessageRequest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** The scenarios that every client runs; their form is in {@code clients/README.md}. */
final class ScenariosTest {
  private static final Set<String> KNOWN_OF_CALL =
      Set.of(
          "method",
          "request",
          "request_id_of_error",
          "timeout_ms",
          "within_ms",
          "background",
          "cancel_when_delivered",
          "restart_when_delivered",
          "receipt",
          "preview",
          "error");
  private static final Set<String> KNOWN_OF_ERROR =
      Set.of("code", "reason", "retryable", "has_retry_after", "violated_fields", "graph");

  /** A scenario that takes longer hangs. */
  private static final Duration PATIENCE = Duration.ofMinutes(1);

  @TestFactory
  Stream<DynamicTest> calls() throws IOException {
    return scenarios(
        "calls",
        scenario -> {
          assertKnown(scenario, Set.of("name", "service", "connect", "calls", "delivered"));
          try (Stack stack = new Stack(member(scenario, "service"));
              MessengerClient client = stack.connect(member(scenario, "connect"))) {
            List<Call> background = new ArrayList<>();
            Call last = null;
            for (JsonElement element : scenario.getAsJsonArray("calls")) {
              JsonObject wanted = element.getAsJsonObject();
              if (wanted.has("request_id_of_error")) {
                String id = last.failure().requestId();
                wanted.getAsJsonObject("request").addProperty("request_id", id);
              }
              last = new Call(stack, client, wanted);
              if (wanted.has("background")) {
                background.add(last);
              } else {
                last.check();
              }
            }
            for (Call call : background) {
              call.check();
            }
            if (scenario.has("delivered")) {
              stack.awaitDelivered(scenario.get("delivered").getAsInt());
              assertEquals(scenario.get("delivered").getAsInt(), stack.delivered());
            }
          }
        });
  }

  @TestFactory
  Stream<DynamicTest> bulks() throws IOException {
    return scenarios(
        "bulks",
        scenario -> {
          assertKnown(scenario, BulkScenario.KNOWN);
          BulkScenario.run(scenario);
        });
  }

  interface Run {
    void run(JsonObject scenario) throws Exception;
  }

  static Stream<DynamicTest> scenarios(String kind, Run run) throws IOException {
    String file = Files.readString(Path.of("../scenarios.json"));
    JsonArray scenarios = JsonParser.parseString(file).getAsJsonObject().getAsJsonArray(kind);
    return scenarios.asList().stream()
        .map(JsonElement::getAsJsonObject)
        .map(
            scenario -> {
              String name = scenario.get("name").getAsString();
              return DynamicTest.dynamicTest(name, () -> run(name, scenario, run));
            });
  }

  /** Names the scenario that fails; Maven's report shows its number only. */
  private static void run(String name, JsonObject scenario, Run run) {
    try {
      assertTimeoutPreemptively(PATIENCE, () -> run.run(scenario));
    } catch (Throwable failure) {
      throw new AssertionError("scenario \"" + name + "\": " + failure.getMessage(), failure);
    }
  }

  /** What this suite does not know, it would not check. */
  static void assertKnown(JsonObject object, Set<String> known) {
    assertTrue(
        known.containsAll(object.keySet()), () -> object.keySet() + " are not all of " + known);
  }

  static JsonObject member(JsonObject object, String name) {
    return object.has(name) ? object.getAsJsonObject(name) : new JsonObject();
  }

  /** A call that was started. */
  private static final class Call {
    private final JsonObject wanted;
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final long started = System.nanoTime();
    private final FutureTask<Message> response;

    Call(Stack stack, MessengerClient client, JsonObject wanted) throws Exception {
      assertKnown(wanted, KNOWN_OF_CALL);
      this.wanted = wanted;
      MessengerClient timed =
          wanted.has("timeout_ms")
              ? client.withTimeout(Duration.ofMillis(wanted.get("timeout_ms").getAsLong()))
              : client;
      response = new FutureTask<>(context.wrap((Callable<Message>) () -> invoke(timed, wanted)));
      new Thread(response).start();
      if (wanted.has("background")
          || wanted.has("cancel_when_delivered")
          || wanted.has("restart_when_delivered")) {
        stack.awaitDelivered(1);
      }
      if (wanted.has("restart_when_delivered")) {
        stack.restart(wanted.get("restart_when_delivered").getAsString());
      }
    }

    void check() throws Exception {
      if (wanted.has("cancel_when_delivered")) {
        long cancelled = System.nanoTime();
        context.cancel(null);
        assertEquals(Status.Code.CANCELLED, failure().code());
        assertTrue(System.nanoTime() - cancelled < Duration.ofSeconds(1).toNanos());
      } else if (wanted.has("error")) {
        checkError(wanted.getAsJsonObject("error"), failure());
      } else {
        checkResponse(response.get());
      }
      if (wanted.has("within_ms")) {
        assertTrue(
            System.nanoTime() - started
                < Duration.ofMillis(wanted.get("within_ms").getAsLong()).toNanos());
      }
    }

    private MessengerException failure() {
      return assertInstanceOf(
          MessengerException.class,
          assertThrows(ExecutionException.class, response::get).getCause());
    }

    private void checkResponse(Message response) throws IOException {
      if (wanted.has("receipt")) {
        checkReceipt(wanted.getAsJsonObject("receipt"), (Receipt) field(response, "receipt"));
      }
      if (wanted.has("preview")) {
        JsonObject fields = wanted.getAsJsonObject("preview");
        Preview preview = (Preview) field(response, "preview");
        assertTrue(preview.getUrl().endsWith(fields.get("url_end").getAsString()), preview::getUrl);
        assertTrue(
            preview.getBodyJson().contains(fields.get("body_contains").getAsString()),
            preview::getBodyJson);
      }
    }

    private static Object field(Message message, String name) {
      return message.getField(message.getDescriptorForType().findFieldByName(name));
    }
  }

  static void checkReceipt(JsonObject wanted, Receipt receipt) {
    assertEquals(wanted.get("has_message_id").getAsBoolean(), !receipt.getMessageId().isEmpty());
    assertEquals(wanted.get("recipient_id").getAsString(), receipt.getRecipientId());
    assertEquals(wanted.get("replayed").getAsBoolean(), receipt.getReplayed());
    assertEquals(wanted.get("attempts").getAsInt(), receipt.getAttempts());
  }

  private static Message invoke(MessengerClient client, JsonObject call) throws IOException {
    JsonObject request = call.getAsJsonObject("request");
    String method = call.get("method").getAsString();
    return switch (method) {
      case "SendTextMessage" ->
          client.sendTextMessage(parse(request, SendTextMessageRequest.newBuilder()).build());
      case "SendMediaMessage" ->
          client.sendMediaMessage(parse(request, SendMediaMessageRequest.newBuilder()).build());
      case "SendSenderAction" ->
          client.sendSenderAction(parse(request, SendSenderActionRequest.newBuilder()).build());
      case "SendTemplateMessage" ->
          client.sendTemplateMessage(
              parse(request, SendTemplateMessageRequest.newBuilder()).build());
      case "GetBulk" -> client.getBulk(parse(request, GetBulkRequest.newBuilder()).build());
      default -> throw new IllegalArgumentException("no such method: " + method);
    };
  }

  static <B extends Message.Builder> B parse(JsonElement json, B builder)
      throws InvalidProtocolBufferException {
    JsonFormat.parser().merge(json.toString(), builder);
    return builder;
  }

  static void checkError(JsonObject wanted, MessengerException failure) {
    assertNotNull(failure);
    assertKnown(wanted, KNOWN_OF_ERROR);
    if (wanted.has("code")) {
      assertEquals(wanted.get("code").getAsString(), failure.code().name(), failure::getMessage);
    }
    if (wanted.has("reason")) {
      assertEquals(
          wanted.get("reason").getAsString(), failure.reason().name(), failure::getMessage);
    }
    if (wanted.has("retryable")) {
      assertEquals(
          wanted.get("retryable").getAsBoolean(), failure.retryable(), failure::getMessage);
    }
    if (wanted.has("has_retry_after")) {
      assertEquals(wanted.get("has_retry_after").getAsBoolean(), failure.retryAfter().isPresent());
    }
    if (wanted.has("violated_fields")) {
      Set<String> fields =
          failure.violations().stream().map(FieldViolation::getField).collect(Collectors.toSet());
      Stream<JsonElement> wantedFields = wanted.getAsJsonArray("violated_fields").asList().stream();
      assertEquals(wantedFields.map(JsonElement::getAsString).collect(Collectors.toSet()), fields);
    }
    if (wanted.has("graph")) {
      JsonObject graph = wanted.getAsJsonObject("graph");
      assertEquals(graph.get("code").getAsInt(), failure.graph().orElseThrow().getCode());
      assertEquals(graph.get("subcode").getAsInt(), failure.graph().orElseThrow().getSubcode());
    }
  }
}
