package io.messengerconnector;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.stub.StreamObserver;
import io.messengerconnector.v1.BulkAccepted;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkSummary;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.MessengerServiceGrpc;
import io.messengerconnector.v1.SendBulkMessagesRequest;
import io.messengerconnector.v1.SendBulkMessagesResponse;
import io.messengerconnector.v1.SendError;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Items that are in progress elsewhere, on a service that says so of one of them. */
@Timeout(30)
final class InProgressTest {
  private static final ErrorReason IN_PROGRESS = ErrorReason.ERROR_REASON_REQUEST_IN_PROGRESS;

  private static BulkItem item(String id, String recipient) {
    return BulkResultsTest.itemTo(recipient).toBuilder().setItemId(id).build();
  }

  private static void await(CountDownLatch hasResult) {
    try {
      hasResult.await();
    } catch (InterruptedException stopped) {
      throw new IllegalStateException(stopped);
    }
  }

  /** On its first two streams the message to "1" is in progress; all others are sent. */
  private static final class Scripted extends MessengerServiceGrpc.MessengerServiceImplBase {
    private final int maxInFlight;

    /**
     * Whose messages of the first stream are answered when this one has come; without any entry,
     * its own.
     */
    private final Map<String, List<String>> answeredWith;

    private final List<List<String>> streams = new ArrayList<>();

    Scripted(int maxInFlight, Map<String, List<String>> answeredWith) {
      this.maxInFlight = maxInFlight;
      this.answeredWith = answeredWith;
    }

    @Override
    public StreamObserver<SendBulkMessagesRequest> sendBulkMessages(
        StreamObserver<SendBulkMessagesResponse> answers) {
      boolean hasScript = streams.isEmpty() && !answeredWith.isEmpty();
      boolean isInProgress = streams.size() < 2;
      List<String> seen = new ArrayList<>();
      streams.add(seen);
      Map<String, ItemResult> results = new HashMap<>();
      return new StreamObserver<>() {
        @Override
        public void onNext(SendBulkMessagesRequest request) {
          SendBulkMessagesResponse.Builder answer = SendBulkMessagesResponse.newBuilder();
          if (request.hasStart()) {
            answer.setAccepted(BulkAccepted.newBuilder().setMaxInFlight(maxInFlight));
            answers.onNext(answer.build());
          }
          for (BulkItem item : request.getItems().getItemsList()) {
            String recipient = item.getRecipient().getId();
            seen.add(recipient);
            ItemResult.Builder result = ItemResult.newBuilder().setItemId(item.getItemId());
            if (isInProgress && recipient.equals("1")) {
              result.setState(ItemState.ITEM_STATE_NOT_SENT);
              result.setError(SendError.newBuilder().setReason(IN_PROGRESS));
            } else {
              result.setState(ItemState.ITEM_STATE_SENT);
            }
            results.put(recipient, result.build());
            List<String> answered =
                hasScript
                    ? answeredWith.getOrDefault(recipient, List.of())
                    : List.of(recipient);
            answer.clear();
            answered.forEach(one -> answer.getResultsBuilder().addResults(results.get(one)));
            answers.onNext(answer.build());
          }
        }

        @Override
        public void onError(Throwable failure) {}

        @Override
        public void onCompleted() {
          SendBulkMessagesResponse.Builder answer = SendBulkMessagesResponse.newBuilder();
          answers.onNext(answer.setSummary(BulkSummary.getDefaultInstance()).build());
          answers.onCompleted();
        }
      };
    }

    /**
     * Sends items, the one to {@code waiting} only after the first result, and checks what came.
     */
    void check(
        List<BulkItem> items, String waiting, List<List<String>> streams, List<String> ids)
        throws Exception {
      Server server =
          Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
              .addService(this)
              .build()
              .start();
      CountDownLatch hasResult = new CountDownLatch(1);
      Stream<BulkItem> source =
          items.stream()
              .peek(
                  item -> {
                    if (item.getRecipient().getId().equals(waiting)) {
                      await(hasResult);
                    }
                  });
      List<String> results = new ArrayList<>();
      try (MessengerClient client = MessengerClient.connect("127.0.0.1:" + server.getPort());
          BulkResults some = client.sendBulk(BulkResultsTest.start("Hello"), source)) {
        for (ItemResult result : some) {
          results.add(result.getItemId());
          hasResult.countDown();
        }
      } finally {
        server.shutdownNow();
      }
      assertEquals(streams, this.streams);
      assertEquals(ids, results);
    }
  }

  /** A further item of the same id gets its own result. */
  @Test
  void anItemInProgressHoldsUpNoOther() throws Exception {
    Map<String, List<String>> answeredWith =
        Map.of("3", List.of("1", "2"), "5", List.of("3", "4", "5"));
    List<BulkItem> items =
        List.of(item("a", "1"), item("b", "2"), item("c", "3"), item("d", "4"), item("a", "5"));
    new Scripted(100, answeredWith)
        .check(
            items,
            "4",
            List.of(List.of("1", "2", "3", "4", "5"), List.of("1"), List.of("1")),
            List.of("b", "c", "d", "a", "a"));
  }

  /** There is no room for others, or the source gives none. */
  @Test
  void aStreamWithNothingButItemsInProgressEnds() throws Exception {
    for (int maxInFlight : List.of(1, 100)) {
      new Scripted(maxInFlight, Map.of())
          .check(
              List.of(item("a", "1"), item("b", "2")),
              maxInFlight == 1 ? "nobody" : "2",
              List.of(List.of("1"), List.of("1"), List.of("1", "2")),
              List.of("a", "b"));
    }
  }

  @Test
  void theWaitForItemsInProgressIsShort() {
    assertEquals(
        List.of(200L, 400L, 800L, 1600L, 2000L, 2000L),
        IntStream.range(0, 6)
            .mapToObj(failures -> BulkResults.longestWait(failures, IN_PROGRESS).toMillis())
            .toList());
    assertEquals(
        Duration.ofSeconds(15),
        BulkResults.longestWait(40, ErrorReason.ERROR_REASON_LEDGER_UNAVAILABLE));
  }
}
