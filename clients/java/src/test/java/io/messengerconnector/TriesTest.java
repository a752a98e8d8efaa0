package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.BindableService;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import io.messengerconnector.v1.BulkAccepted;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.BulkSummary;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.MessengerServiceGrpc;
import io.messengerconnector.v1.Receipt;
import io.messengerconnector.v1.SendBulkMessagesRequest;
import io.messengerconnector.v1.SendBulkMessagesResponse;
import io.messengerconnector.v1.SendError;
import io.messengerconnector.v1.SendTextMessageRequest;
import io.messengerconnector.v1.SendTextMessageResponse;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.Timeout;

/** What the client tries again by itself, on a service that says what it is told to. */
@Timeout(60)
final class TriesTest {
  private static final Set<String> KNOWN =
      Set.of("name", "answers", "timeout_ms", "within_ms", "tries", "receipt", "error");
  private static final BulkStart RESEND =
      BulkStart.newBuilder().setOnUnknown(BulkStart.OnUnknown.ON_UNKNOWN_RESEND).build();

  private interface Use {
    void run(MessengerClient.Builder client) throws Exception;
  }

  private static void serving(BindableService service, Use use) throws Exception {
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(service)
            .build()
            .start();
    try {
      use.run(MessengerClient.builder("127.0.0.1:" + server.getPort()));
    } finally {
      server.shutdownNow();
    }
  }

  /** Gives its answers one after another, and the last one to all further tries. */
  private static final class Told extends MessengerServiceGrpc.MessengerServiceImplBase {
    private final JsonArray answers;
    private final List<String> requestIds = new CopyOnWriteArrayList<>();

    Told(JsonArray answers) {
      this.answers = answers;
    }

    @Override
    public void sendTextMessage(
        SendTextMessageRequest request, StreamObserver<SendTextMessageResponse> response) {
      int number = Math.min(requestIds.size(), answers.size() - 1);
      requestIds.add(request.getRequestId());
      JsonObject answer = answers.get(number).getAsJsonObject();
      if (answer.has("receipt")) {
        try {
          Receipt.Builder receipt =
              ScenariosTest.parse(answer.get("receipt"), Receipt.newBuilder());
          response.onNext(SendTextMessageResponse.newBuilder().setReceipt(receipt).build());
          response.onCompleted();
        } catch (InvalidProtocolBufferException failure) {
          response.onError(failure);
        }
        return;
      }
      com.google.rpc.Status.Builder status =
          com.google.rpc.Status.newBuilder()
              .setCode(Status.Code.valueOf(answer.get("code").getAsString()).value())
              .setMessage("told to");
      if (answer.has("reason")) {
        ErrorReason reason = ErrorReason.valueOf(answer.get("reason").getAsString());
        status.addDetails(
            Any.pack(SendError.newBuilder().setReason(reason).setMessage("told to").build()));
      }
      response.onError(StatusProto.toStatusRuntimeException(status.build()));
    }
  }

  @TestFactory
  Stream<DynamicTest> tries() throws IOException {
    return ScenariosTest.scenarios(
        "tries",
        scenario -> {
          ScenariosTest.assertKnown(scenario, KNOWN);
          Told service = new Told(scenario.getAsJsonArray("answers"));
          serving(service, builder -> check(scenario, service, builder));
        });
  }

  private static void check(JsonObject scenario, Told service, MessengerClient.Builder builder) {
    if (scenario.has("timeout_ms")) {
      builder.timeout(Duration.ofMillis(scenario.get("timeout_ms").getAsLong()));
    }
    long started = System.nanoTime();
    try (MessengerClient client = builder.connect()) {
      SendTextMessageRequest request = SendTextMessageRequest.getDefaultInstance();
      if (scenario.has("error")) {
        MessengerException failure =
            assertThrows(MessengerException.class, () -> client.sendTextMessage(request));
        ScenariosTest.checkError(scenario.getAsJsonObject("error"), failure);
        assertEquals(service.requestIds.get(0), failure.requestId());
      } else {
        JsonObject wanted = scenario.getAsJsonObject("receipt");
        ScenariosTest.checkReceipt(wanted, client.sendTextMessage(request).getReceipt());
      }
    }
    if (scenario.has("within_ms")) {
      Duration within = Duration.ofMillis(scenario.get("within_ms").getAsLong());
      assertTrue(System.nanoTime() - started < within.toNanos());
    }
    if (scenario.has("tries")) {
      assertEquals(scenario.get("tries").getAsInt(), service.requestIds.size());
    }
    String id = UUID.fromString(service.requestIds.get(0)).toString();
    assertEquals(Set.of(id), Set.copyOf(service.requestIds), "every try is of one message");
  }

  /** Keeps the starts. Never accepts the second stream, or none if it is silent. */
  private static final class Streams extends MessengerServiceGrpc.MessengerServiceImplBase {
    private final boolean isSilent;
    private final List<BulkStart> starts = new CopyOnWriteArrayList<>();

    Streams(boolean isSilent) {
      this.isSilent = isSilent;
    }

    @Override
    public StreamObserver<SendBulkMessagesRequest> sendBulkMessages(
        StreamObserver<SendBulkMessagesResponse> answers) {
      return new StreamObserver<>() {
        @Override
        public void onNext(SendBulkMessagesRequest request) {
          SendBulkMessagesResponse.Builder answer = SendBulkMessagesResponse.newBuilder();
          if (request.hasStart()) {
            starts.add(request.getStart());
            if (isSilent || starts.size() == 2) {
              return;
            }
            answer.setAccepted(BulkAccepted.newBuilder().setMaxInFlight(10));
          } else {
            for (BulkItem item : request.getItems().getItemsList()) {
              ItemResult.Builder sent = ItemResult.newBuilder().setItemId(item.getItemId());
              answer.getResultsBuilder().addResults(sent.setState(ItemState.ITEM_STATE_SENT));
            }
          }
          answers.onNext(answer.build());
          if (starts.size() == 1) {
            answers.onError(Status.UNAVAILABLE.withDescription("lost").asRuntimeException());
          }
        }

        @Override
        public void onError(Throwable failure) {}

        @Override
        public void onCompleted() {
          if (!isSilent && starts.size() > 2) {
            SendBulkMessagesResponse.Builder answer = SendBulkMessagesResponse.newBuilder();
            answers.onNext(answer.setSummary(BulkSummary.getDefaultInstance()).build());
            answers.onCompleted();
          }
        }
      };
    }
  }

  /** One of them is never accepted, which does not hold the client. */
  @Test
  void allStreamsAreOfOneRun() throws Exception {
    Streams service = new Streams(false);
    serving(
        service,
        builder -> {
          try (MessengerClient client = builder.timeout(Duration.ofSeconds(3)).connect();
              BulkResults results =
                  client.sendBulk(RESEND, Stream.of(BulkResultsTest.itemTo("1")))) {
            assertEquals("1", results.next().getItemId());
            assertTrue(!results.hasNext());
            BulkStart named =
                RESEND.toBuilder()
                    .setBulkId(UUID.fromString(results.bulkId()).toString())
                    .setRunId(UUID.fromString(results.runId()).toString())
                    .build();
            assertTrue(service.starts.size() > 2);
            assertEquals(Set.of(named), Set.copyOf(service.starts));
            assertNotEquals(results.bulkId(), results.runId());
          }
        });
  }

  @Test
  void aCallersOwnNamesStay() {
    BulkStart start = BulkStart.newBuilder().setBulkId("sale").setRunId("again").build();
    try (MessengerClient client = MessengerClient.connect(Stack.NOTHING_LISTENS);
        BulkResults results = client.sendBulk(start, Stream.empty())) {
      assertEquals(List.of("sale", "again"), List.of(results.bulkId(), results.runId()));
    }
  }

  @Test
  void aServiceThatAcceptsNothingDoesNotHoldABulk() throws Exception {
    serving(
        new Streams(true),
        builder -> {
          try (MessengerClient client = builder.timeout(Duration.ofMillis(300)).connect();
              BulkResults results = client.sendBulk(RESEND, Stream.empty())) {
            MessengerException failure = assertThrows(MessengerException.class, results::hasNext);
            assertEquals(Status.Code.UNAVAILABLE, failure.code());
            assertTrue(failure.retryable());
          }
        });
  }

  /** Answers a thousand calls when it has them all. */
  private static final class Gathering extends MessengerServiceGrpc.MessengerServiceImplBase {
    private final Queue<StreamObserver<SendTextMessageResponse>> waiting =
        new ConcurrentLinkedQueue<>();
    private final CountDownLatch missing = new CountDownLatch(1000);

    @Override
    public void sendTextMessage(
        SendTextMessageRequest request, StreamObserver<SendTextMessageResponse> response) {
      waiting.add(response);
      missing.countDown();
    }

    void answer() throws InterruptedException {
      missing.await();
      for (StreamObserver<SendTextMessageResponse> response : waiting) {
        response.onNext(SendTextMessageResponse.getDefaultInstance());
        response.onCompleted();
      }
    }
  }

  @Test
  void oneClientHasAThousandCallsAtATime() throws Exception {
    Gathering service = new Gathering();
    serving(
        service,
        builder -> {
          try (MessengerClient client = builder.connect()) {
            CountDownLatch unanswered = new CountDownLatch(1000);
            for (int call = 0; call < 1000; call++) {
              Runnable send =
                  () -> {
                    client.sendTextMessage(SendTextMessageRequest.getDefaultInstance());
                    unanswered.countDown();
                  };
              new Thread(null, Context.current().wrap(send), "call " + call, 64 * 1024).start();
            }
            service.answer();
            unanswered.await();
          }
        });
  }
}
