package io.messengerconnector;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.messengerconnector.v1.Bulk;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.GetBulkRequest;
import io.messengerconnector.v1.ListBulkResultsRequest;
import io.messengerconnector.v1.ListBulkResultsResponse;
import io.messengerconnector.v1.ListPagesRequest;
import io.messengerconnector.v1.ListPagesResponse;
import io.messengerconnector.v1.MessengerServiceGrpc;
import io.messengerconnector.v1.SendMediaMessageRequest;
import io.messengerconnector.v1.SendMediaMessageResponse;
import io.messengerconnector.v1.SendSenderActionRequest;
import io.messengerconnector.v1.SendSenderActionResponse;
import io.messengerconnector.v1.SendTemplateMessageRequest;
import io.messengerconnector.v1.SendTemplateMessageResponse;
import io.messengerconnector.v1.SendTextMessageRequest;
import io.messengerconnector.v1.SendTextMessageResponse;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A connection to messenger-connector. It may be used by many threads at once.
 *
 * <pre>{@code
 * try (MessengerClient client = MessengerClient.connect("localhost:50051")) {
 *   client.sendTextMessage(SendTextMessageRequest.newBuilder()
 *       .setRecipient(Recipient.newBuilder().setId("1254477777772919"))
 *       .setOptions(options)
 *       .setText(TextMessage.newBuilder().setText("Your order has shipped."))
 *       .build());
 * }
 * }</pre>
 *
 * <p>Every call throws a {@link MessengerException} if it fails. One that ends UNAVAILABLE is made
 * again, 4 times in all, and one whose message is in progress until its deadline. A send whose
 * {@code request_id} is empty gets one before the first try, so that a retry cannot send twice. The
 * deadline and the cancellation of the current {@link
 * io.grpc.Context} hold as well.
 */
public final class MessengerClient implements AutoCloseable {
  /** Version of this client; the service of the same version knows all that it can ask for. */
  public static final String VERSION = "0.1.0";

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Duration KEEPALIVE_INTERVAL = Duration.ofSeconds(30);
  private static final Duration KEEPALIVE_TIMEOUT = Duration.ofSeconds(20);

  final ManagedChannel channel;
  final Duration timeout;
  final Duration reconnectTimeout;

  private MessengerClient(ManagedChannel channel, Duration timeout, Duration reconnectTimeout) {
    this.channel = channel;
    this.timeout = timeout;
    this.reconnectTimeout = reconnectTimeout;
  }

  /**
   * A client of a service without TLS and without keys.
   *
   * @param address such as {@code localhost:50051}, or {@code dns:///connector:50051} for all
   *     replicas behind a name
   */
  public static MessengerClient connect(String address) {
    return builder(address).connect();
  }

  /** A client of the service at this address, with options. */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** The same connection with another deadline for unary calls. Closing either closes both. */
  public MessengerClient withTimeout(Duration timeout) {
    return new MessengerClient(channel, timeout, reconnectTimeout);
  }

  /** Sends one text. */
  public SendTextMessageResponse sendTextMessage(SendTextMessageRequest request) {
    return call(
        MessengerServiceGrpc.getSendTextMessageMethod(),
        hasId(request.getRequestId())
            ? request
            : request.toBuilder().setRequestId(newId()).build());
  }

  /** Sends one image, sound, video or file. */
  public SendMediaMessageResponse sendMediaMessage(SendMediaMessageRequest request) {
    return call(
        MessengerServiceGrpc.getSendMediaMessageMethod(),
        hasId(request.getRequestId())
            ? request
            : request.toBuilder().setRequestId(newId()).build());
  }

  /** Shows or removes the typing indicator, or marks the last message as seen. */
  public SendSenderActionResponse sendSenderAction(SendSenderActionRequest request) {
    return call(
        MessengerServiceGrpc.getSendSenderActionMethod(),
        hasId(request.getRequestId())
            ? request
            : request.toBuilder().setRequestId(newId()).build());
  }

  /** Sends one structured message. */
  public SendTemplateMessageResponse sendTemplateMessage(SendTemplateMessageRequest request) {
    return call(
        MessengerServiceGrpc.getSendTemplateMessageMethod(),
        hasId(request.getRequestId())
            ? request
            : request.toBuilder().setRequestId(newId()).build());
  }

  /** Counts of one bulk, by state. */
  public Bulk getBulk(GetBulkRequest request) {
    return call(MessengerServiceGrpc.getGetBulkMethod(), request);
  }

  /** Recorded results of one bulk, page by page, in the order of their item ids. */
  public ListBulkResultsResponse listBulkResults(ListBulkResultsRequest request) {
    return call(MessengerServiceGrpc.getListBulkResultsMethod(), request);
  }

  /** The configured pages and how they fare. */
  public ListPagesResponse listPages(ListPagesRequest request) {
    return call(MessengerServiceGrpc.getListPagesMethod(), request);
  }

  /**
   * Sends a message to each of many people. The results come one per item, in any order.
   *
   * <p>The source may have any length, and may wait for items to come. A thread of its own reads
   * it, and never further ahead than the service allows without a result that the caller has taken.
   * What it throws, the results throw after the last one.
   *
   * <p>A stream that ends early (a deploy, the network, a crash) is opened again under the same
   * bulk id, with exponential backoff, and what has no result is sent again; the service sends
   * nothing twice. A start without a bulk id gets a random one, which the results tell: with it
   * another process can go on with the bulk. The same goes for the run id. All streams are of one
   * run: with {@code ON_UNKNOWN_RESEND} it sends again what earlier runs left unknown, and reports
   * what it leaves unknown itself.
   *
   * @param start what holds for all items
   * @param items the items, in the order in which those of one recipient are sent
   * @return the results; close them to stop early
   */
  public BulkResults sendBulk(BulkStart start, Iterator<BulkItem> items) {
    BulkStart.Builder named = start.toBuilder();
    if (!hasId(start.getBulkId())) {
      named.setBulkId(newId());
    }
    if (!hasId(start.getRunId())) {
      named.setRunId(newId());
    }
    return new BulkResults(this, named.build(), items);
  }

  /** As {@link #sendBulk(BulkStart, Iterator)}. The stream stays the caller's to close. */
  public BulkResults sendBulk(BulkStart start, Stream<BulkItem> items) {
    return sendBulk(start, items.iterator());
  }

  /**
   * Ends the connection. Calls that are under way end as cancelled; what they had sent is on
   * record.
   */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  private <Q extends Message, S> S call(MethodDescriptor<Q, S> method, Q request) {
    Deadline deadline = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
    CallOptions options = CallOptions.DEFAULT.withDeadline(deadline);
    for (int waits = 0; ; waits++) {
      try {
        return ClientCalls.blockingUnaryCall(channel, method, options, request);
      } catch (StatusRuntimeException ended) {
        MessengerException failure = MessengerException.of(ended, requestId(request));
        // An earlier try, whose connection broke, may have begun to send the message.
        if (failure.reason() != ErrorReason.ERROR_REASON_REQUEST_IN_PROGRESS) {
          throw failure;
        }
        waitForAnotherTry(waits, deadline, failure);
      }
    }
  }

  /** Waits before the next try; throws how the last one ended if the deadline comes first. */
  private static void waitForAnotherTry(int waits, Deadline deadline, MessengerException failure) {
    long longest = BulkResults.longestWait(waits, failure.reason()).toNanos();
    long asked = failure.retryAfter().orElse(Duration.ZERO).toNanos();
    long wait = Math.max(ThreadLocalRandom.current().nextLong(longest), asked);
    if (deadline.timeRemaining(TimeUnit.NANOSECONDS) <= wait) {
      throw failure;
    }
    // The next try tells that the context was cancelled.
    CountDownLatch cancelled = new CountDownLatch(1);
    Context.CancellationListener listener = context -> cancelled.countDown();
    Context context = Context.current();
    context.addListener(listener, Runnable::run);
    try {
      cancelled.await(wait, TimeUnit.NANOSECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      Status status = Status.CANCELLED.withDescription("the thread was interrupted");
      throw MessengerException.of(status.asRuntimeException(), failure.requestId());
    } finally {
      context.removeListener(listener);
    }
  }

  /** The request's id; empty for one that has no such field. */
  private static String requestId(Message request) {
    FieldDescriptor field = request.getDescriptorForType().findFieldByName("request_id");
    return field == null ? "" : (String) request.getField(field);
  }

  private static boolean hasId(String id) {
    return !id.isEmpty();
  }

  private static String newId() {
    return UUID.randomUUID().toString();
  }

  /** How to reach the service. */
  public static final class Builder {
    private final String address;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private String key = "";
    private Duration timeout = Duration.ofSeconds(30);
    private Duration reconnectTimeout = Duration.ofMinutes(5);

    private Builder(String address) {
      this.address = address;
    }

    /**
     * Turns TLS on: {@link io.grpc.TlsChannelCredentials#create()} trusts the system's authorities,
     * and its builder takes others, and a certificate of the client's own for mutual TLS.
     */
    public Builder tls(ChannelCredentials credentials) {
      this.credentials = credentials;
      return this;
    }

    /**
     * The caller's key, sent as {@code authorization: Bearer KEY}. Use it over TLS, or within a
     * mesh that encrypts.
     */
    public Builder key(String key) {
      this.key = key;
      return this;
    }

    /**
     * Deadline of a unary call, how long the start of a stream may take, and how long a bulk tries
     * for its first stream. Default: 30 s.
     */
    public Builder timeout(Duration timeout) {
      this.timeout = timeout;
      return this;
    }

    /** How long a bulk tries for further streams without any result. Default: 5 minutes. */
    public Builder reconnectTimeout(Duration reconnectTimeout) {
      this.reconnectTimeout = reconnectTimeout;
      return this;
    }

    /** The client. It connects with the first call. */
    public MessengerClient connect() {
      ManagedChannelBuilder<?> channel =
          Grpc.newChannelBuilder(address, credentials)
              .defaultServiceConfig(serviceConfig())
              .keepAliveTime(KEEPALIVE_INTERVAL.toSeconds(), TimeUnit.SECONDS)
              .keepAliveTimeout(KEEPALIVE_TIMEOUT.toSeconds(), TimeUnit.SECONDS)
              .userAgent("messenger-connector-java/" + VERSION);
      if (!key.isEmpty()) {
        channel.intercept(bearer(key));
      }
      return new MessengerClient(channel.build(), timeout, reconnectTimeout);
    }

    private static ClientInterceptor bearer(String key) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + key);
      return MetadataUtils.newAttachHeadersInterceptor(headers);
    }

    /**
     * Unary calls that end UNAVAILABLE, and no others, are made again. A connection that breaks
     * ends them so, too, and tells nothing of the message: every send has an id, the same for all
     * tries, and the reading calls change nothing. A bulk has its own way.
     */
    private static Map<String, ?> serviceConfig() {
      String service = MessengerServiceGrpc.SERVICE_NAME;
      Map<String, ?> unary =
          Map.of(
              "name", List.of(Map.of("service", service)),
              "retryPolicy",
                  Map.of(
                      "maxAttempts",
                      4.0,
                      "initialBackoff",
                      "0.2s",
                      "maxBackoff",
                      "5s",
                      "backoffMultiplier",
                      2.0,
                      "retryableStatusCodes",
                      List.of("UNAVAILABLE")));
      Map<String, ?> bulk =
          Map.of("name", List.of(Map.of("service", service, "method", "SendBulkMessages")));
      return Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "retryThrottling", Map.of("maxTokens", 100.0, "tokenRatio", 0.1),
          "methodConfig", List.of(unary, bulk));
    }
  }
}
