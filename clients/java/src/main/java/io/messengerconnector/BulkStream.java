package io.messengerconnector;

import io.grpc.Channel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkItems;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.MessengerServiceGrpc;
import io.messengerconnector.v1.SendBulkMessagesRequest;
import io.messengerconnector.v1.SendBulkMessagesResponse;
import java.util.List;
import java.util.concurrent.BlockingQueue;

/**
 * One stream of a bulk: a thread writes what the account has, and what is answered goes to the
 * caller's thread as signals.
 */
final class BulkStream
    implements ClientResponseObserver<SendBulkMessagesRequest, SendBulkMessagesResponse> {
  /** What the caller's thread waits for. */
  sealed interface Signal {
    /** The service has taken the start. */
    record Accepted(int maxInFlight) implements Signal {}

    /** Results of the stream; {@link BulkStream#requestResults()} brings further ones. */
    record Results(List<ItemResult> results) implements Signal {}

    /** The last one of a stream: how it ended, null if with a summary. */
    record Ended(MessengerException failure) implements Signal {}

    /** The result of an item that no stream can carry. */
    record Refused(ItemResult result) implements Signal {}

    /** The caller wants no more results. */
    record Closed() implements Signal {}
  }

  private final Account account;
  private final BlockingQueue<Signal> signals;
  private final Thread writer;
  private ClientCallStreamObserver<SendBulkMessagesRequest> requests;
  private boolean hasSummary;

  private BulkStream(Account account, BlockingQueue<Signal> signals, String bulkId) {
    this.account = account;
    this.signals = signals;
    writer = new Thread(this::write, "messenger-bulk-writer " + bulkId);
    writer.setDaemon(true);
  }

  static BulkStream open(
      Channel channel, BulkStart start, Account account, BlockingQueue<Signal> signals) {
    BulkStream stream = new BulkStream(account, signals, start.getBulkId());
    MessengerServiceGrpc.newStub(channel).sendBulkMessages(stream);
    stream.requests.onNext(SendBulkMessagesRequest.newBuilder().setStart(start).build());
    return stream;
  }

  /** Starts to write items, of which the service takes so many at a time. */
  void startWriting(int maxInFlight) {
    account.streamOpened(maxInFlight);
    writer.start();
  }

  /**
   * Asks for further results. Before that the stream holds back one signal's worth of them, and the
   * service the rest.
   */
  void requestResults() {
    requests.request(1);
  }

  void cancel() {
    requests.cancel("the caller wants no more results", null);
  }

  /** Waits until the writer has put down its pen. */
  void awaitWriter() throws InterruptedException {
    account.streamEnded();
    writer.join();
  }

  private void write() {
    try {
      List<BulkItem> items = account.next(requests::isReady);
      while (!items.isEmpty()) {
        BulkItems frame = BulkItems.newBuilder().addAllItems(items).build();
        requests.onNext(SendBulkMessagesRequest.newBuilder().setItems(frame).build());
        items = account.next(requests::isReady);
      }
      requests.onCompleted();
    } catch (IllegalStateException cancelled) {
      // gRPC takes nothing for a call that was cancelled: how it ended is among the signals.
    } catch (InterruptedException ended) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<SendBulkMessagesRequest> requests) {
    this.requests = requests;
    requests.disableAutoRequestWithInitial(1);
    requests.setOnReadyHandler(account::streamReady);
  }

  @Override
  public void onNext(SendBulkMessagesResponse answer) {
    if (answer.hasResults()) {
      signals.add(new Signal.Results(answer.getResults().getResultsList()));
      return;
    }
    hasSummary |= answer.hasSummary();
    if (answer.hasAccepted()) {
      signals.add(new Signal.Accepted(answer.getAccepted().getMaxInFlight()));
    }
    requestResults();
  }

  @Override
  public void onError(Throwable failure) {
    signals.add(new Signal.Ended(MessengerException.of(asRuntimeException(failure))));
  }

  @Override
  public void onCompleted() {
    Status early = Status.UNAVAILABLE.withDescription("the stream ended without a summary");
    signals.add(
        new Signal.Ended(hasSummary ? null : MessengerException.of(early.asRuntimeException())));
  }

  private static StatusRuntimeException asRuntimeException(Throwable failure) {
    return Status.fromThrowable(failure).asRuntimeException(Status.trailersFromThrowable(failure));
  }
}
