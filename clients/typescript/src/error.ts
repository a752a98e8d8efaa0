import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ErrorReason,
  type FieldViolation,
  type GraphError,
  type SendError,
  SendErrorSchema,
} from "./gen/messenger/v1/error_pb.js";

/**
 * A call failed. Decide by `reason`, or by `retryable`; never by a text.
 *
 * An error that the service did not make (no connection, a deadline that passed on this side, a call that was cancelled)
 * has the reason `ErrorReason.UNSPECIFIED`; `code` then says what happened, and nothing whether the message was sent.
 */
export class MessengerError extends Error {
  override readonly name = "MessengerError";
  /** The gRPC status code. */
  readonly code: Code;
  /** Why nothing was sent, or why the outcome is not known. Example: `ErrorReason.OUTSIDE_WINDOW`. */
  readonly reason: ErrorReason;
  /** True if the same request with the same `requestId` may succeed later and cannot deliver the message twice. */
  readonly retryable: boolean;
  /** How long to wait before a retry, if that is known. */
  readonly retryAfterMs: number | undefined;
  /** What Graph answered, if it answered with an error. */
  readonly graph: GraphError | undefined;
  /** Every rule that the request breaks. */
  readonly violations: readonly FieldViolation[];
  /**
   * The id that the request was sent with, also if the client made it up: the same request with it repeats the call, or
   * tells what became of it. Only another message takes another id. Empty if the request has none, as that of a bulk.
   */
  readonly requestId: string;

  /** @internal */
  constructor(code: Code, message: string, error?: SendError, cause?: unknown, requestId = "") {
    const violations = error?.violations ?? [];
    super(
      [message, ...violations.map((violation) => `${violation.field}: ${violation.description}`)].join(
        "\n  ",
      ),
      {
        cause,
      },
    );
    this.code = code;
    this.reason = error?.reason ?? ErrorReason.UNSPECIFIED;
    this.retryable = error?.retryable ?? code === Code.Unavailable;
    this.retryAfterMs = error?.retryAfter && durationMs(error.retryAfter);
    this.graph = error?.graph;
    this.violations = violations;
    this.requestId = requestId;
  }
}

/** The typed error of a call that failed with this one; `isCancelled` tells whether its caller had cancelled it. */
export function typedError(error: unknown, isCancelled: boolean, requestId = ""): MessengerError {
  const connectError = ConnectError.from(error);
  const sendError = connectError.findDetails(SendErrorSchema)[0];
  if (sendError) {
    return new MessengerError(connectError.code, sendError.message, sendError, error, requestId);
  }
  if (isLost(connectError, isCancelled)) {
    const message = `the connection was lost: ${connectError.rawMessage}`;
    return new MessengerError(Code.Unavailable, message, undefined, error, requestId);
  }
  return new MessengerError(connectError.code, connectError.rawMessage, undefined, error, requestId);
}

/** True if the connection broke or was never made. Other gRPC libraries call that UNAVAILABLE, this one does not. */
function isLost(error: ConnectError, isCancelled: boolean): boolean {
  const hasSystemError = error.cause instanceof Error && "code" in error.cause;
  return (
    error.code === Code.Aborted ||
    (error.code === Code.Internal && hasSystemError) ||
    (error.code === Code.Canceled && !isCancelled)
  );
}

/** True if a stream that ended so should be opened again. */
export function mayPass(error: MessengerError): boolean {
  // What is made of a connection that breaks. The service never ends a stream so without a SendError.
  const isLost = [Code.Unknown, Code.Internal].includes(error.code);
  if (error.code === Code.ResourceExhausted) {
    return error.retryable;
  }
  return error.code === Code.Unavailable || (isLost && error.reason === ErrorReason.UNSPECIFIED);
}
