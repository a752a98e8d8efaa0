package io.messengerconnector;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.FieldViolation;
import io.messengerconnector.v1.GraphError;
import io.messengerconnector.v1.SendError;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** How a call failed. Decide by {@link #reason()}, never by a text. */
public final class MessengerException extends StatusRuntimeException {
  private static final long serialVersionUID = 1L;

  private final SendError error;
  private final String requestId;

  private MessengerException(StatusRuntimeException failure, SendError error, String requestId) {
    super(failure.getStatus(), failure.getTrailers());
    this.error = error;
    this.requestId = requestId;
  }

  /** The contract's error, if the service made the exception; else its status in the same form. */
  static MessengerException of(StatusRuntimeException failure) {
    return failure instanceof MessengerException known
        ? known
        : of(failure, "");
  }

  static MessengerException of(StatusRuntimeException failure, String requestId) {
    return new MessengerException(failure, sendError(failure), requestId);
  }

  static MessengerException of(Status status, SendError error) {
    return new MessengerException(status.asRuntimeException(), error, "");
  }

  private static SendError sendError(StatusRuntimeException failure) {
    com.google.rpc.Status status = StatusProto.fromThrowable(failure);
    for (Any detail : status.getDetailsList()) {
      if (detail.is(SendError.class)) {
        try {
          return detail.unpack(SendError.class);
        } catch (InvalidProtocolBufferException unreadable) {
          failure.addSuppressed(unreadable);
        }
      }
    }
    return SendError.newBuilder()
        .setMessage(status.getMessage())
        .setRetryable(failure.getStatus().getCode() == Status.Code.UNAVAILABLE)
        .build();
  }

  /** The gRPC code. */
  public Status.Code code() {
    return getStatus().getCode();
  }

  /**
   * What to decide by. It is {@code ERROR_REASON_UNSPECIFIED} if the service did not make the
   * error: no connection, a deadline that passed on this side, a call that was cancelled. That does
   * not tell whether the message was sent.
   */
  public ErrorReason reason() {
    return error.getReason();
  }

  /** One sentence for a developer's log. Contains no key, recipient or message text. */
  public String message() {
    return error.getMessage();
  }

  /** True if the same request with the same id may succeed and cannot be delivered twice. */
  public boolean retryable() {
    return error.getRetryable();
  }

  /** How long to wait before that, if it is known. */
  public Optional<Duration> retryAfter() {
    com.google.protobuf.Duration wait = error.getRetryAfter();
    return error.hasRetryAfter()
        ? Optional.of(Duration.ofSeconds(wait.getSeconds(), wait.getNanos()))
        : Optional.empty();
  }

  /** What Graph answered, if it answered with an error. */
  public Optional<GraphError> graph() {
    return error.hasGraph() ? Optional.of(error.getGraph()) : Optional.empty();
  }

  /** The rules that the request breaks, by field. */
  public List<FieldViolation> violations() {
    return error.getViolationsList();
  }

  /**
   * The id that the request was sent with, also if the client made it up: the same request with it
   * repeats the call, or tells what became of it. Only another message takes another id. Empty if
   * the request has none, as that of a bulk.
   */
  public String requestId() {
    return requestId;
  }

  /** The reason, the message and every violation in one line. */
  @Override
  public String getMessage() {
    boolean isOfService = reason() != ErrorReason.ERROR_REASON_UNSPECIFIED;
    String name = isOfService ? reason().name().substring("ERROR_REASON_".length()) : code().name();
    StringBuilder text = new StringBuilder(name).append(": ").append(message());
    for (FieldViolation violation : violations()) {
      text.append("; ")
          .append(violation.getField())
          .append(": ")
          .append(violation.getDescription());
    }
    return text.toString();
  }
}
