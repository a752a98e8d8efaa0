import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Account, FIRST_WAIT_MAX_MS, IN_PROGRESS_WAIT_MAX_MS } from "./account.js";
import { type BulkSource, runBulk } from "./bulk.js";
import { typedError } from "./error.js";
import { ErrorReason } from "./gen/messenger/v1/error_pb.js";
import {
  type Bulk,
  BulkStartSchema,
  type GetBulkRequestSchema,
  type ItemResult,
  type ListBulkResultsRequestSchema,
  type ListBulkResultsResponse,
  type ListPagesRequestSchema,
  type ListPagesResponse,
  MessengerService,
  type SendMediaMessageRequestSchema,
  type SendMediaMessageResponse,
  type SendSenderActionRequestSchema,
  type SendSenderActionResponse,
  type SendTemplateMessageRequestSchema,
  type SendTemplateMessageResponse,
  type SendTextMessageRequestSchema,
  type SendTextMessageResponse,
} from "./gen/messenger/v1/messenger_service_pb.js";

const USER_AGENT = "messenger-connector-typescript/0.1.0";
const TRIES_MAX = 4;
const WAIT_MAX_MS = 5_000;

/** How to connect. */
export interface ConnectOptions {
  /** The caller's key, sent as `authorization: Bearer`. */
  key?: string;
  /**
   * TLS: `true` trusts Node's own authorities; `ca`, and for mutual TLS `cert` and `key`, are PEM.
   */
  tls?: true | { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer };
  /** Deadline of a call that names none, and of the start of a stream. Default: 30,000. */
  timeoutMs?: number;
}

/** Options of one call. */
export interface CallOptions {
  /** Deadline of the call, retries included. Default: the client's. */
  timeoutMs?: number;
  /** Cancels the call. */
  signal?: AbortSignal;
}

/** What holds for a whole bulk, as a message or as a plain object. */
export type BulkStartInit = MessageInitShape<typeof BulkStartSchema>;

/** Options of one bulk. */
export interface BulkOptions {
  /** How long to try for a new stream without any result. Default: 300,000. */
  reconnectTimeoutMs?: number;
  /** Cancels the bulk. */
  signal?: AbortSignal;
}

/**
 * The results of a bulk, as they come. Nothing is sent before the first one is asked for.
 */
export interface BulkRun extends AsyncGenerator<ItemResult, void, undefined> {
  /** Name of the bulk: the start's, or the one made up for it. Under it the bulk can be resumed. */
  readonly bulkId: string;
  /** Name of this run of the bulk: the start's, or the one made up for it. */
  readonly runId: string;
}

type Send<Request extends DescMessage, Response> = (
  request: MessageInitShape<Request>,
  options: { timeoutMs: number; signal: AbortSignal },
) => Promise<Response>;

/** Sends messages through a messenger-connector service. Failed calls throw a `MessengerError`. */
export class MessengerClient {
  private readonly closing = new AbortController();

  private constructor(
    private readonly client: Client<typeof MessengerService>,
    private readonly sessions: Http2SessionManager,
    private readonly timeoutMs: number,
  ) {
    // As many calls at a time as the service allows listen to it.
    setMaxListeners(0, this.closing.signal);
  }

  /**
   * A client of the service at `address` ("host:port"). Connects with the first call.
   *
   * A call that ends UNAVAILABLE is made again, 4 times in all, and one whose message is in progress until its deadline;
   * no other is.
   */
  static connect(address: string, options: ConnectOptions = {}): MessengerClient {
    const { key, tls, timeoutMs = 30_000 } = options;
    const baseUrl = `${tls ? "https" : "http"}://${address}`;
    const sessions = new Http2SessionManager(
      baseUrl,
      { pingIntervalMs: 30_000, pingTimeoutMs: 20_000 },
      tls && tls !== true ? tls : {},
    );
    const identify: Interceptor = (next) => (request) => {
      request.header.set("user-agent", USER_AGENT);
      if (key) {
        request.header.set("authorization", `Bearer ${key}`);
      }
      return next(request);
    };
    const transport = createGrpcTransport({ baseUrl, sessionManager: sessions, interceptors: [identify] });
    return new MessengerClient(createClient(MessengerService, transport), sessions, timeoutMs);
  }

  /** Closes the connection, and cancels what is under way. A process does not end before. */
  close(): void {
    this.closing.abort();
    this.sessions.abort();
  }

  /** Sends one text. */
  sendTextMessage(
    request: MessageInitShape<typeof SendTextMessageRequestSchema>,
    options?: CallOptions,
  ): Promise<SendTextMessageResponse> {
    return this.call(this.client.sendTextMessage, withRequestId(request), options);
  }

  /** Sends one image, sound, video or file. */
  sendMediaMessage(
    request: MessageInitShape<typeof SendMediaMessageRequestSchema>,
    options?: CallOptions,
  ): Promise<SendMediaMessageResponse> {
    return this.call(this.client.sendMediaMessage, withRequestId(request), options);
  }

  /** Shows or removes the typing indicator, or marks the last message as seen. */
  sendSenderAction(
    request: MessageInitShape<typeof SendSenderActionRequestSchema>,
    options?: CallOptions,
  ): Promise<SendSenderActionResponse> {
    return this.call(this.client.sendSenderAction, withRequestId(request), options);
  }

  /** Sends one structured message. */
  sendTemplateMessage(
    request: MessageInitShape<typeof SendTemplateMessageRequestSchema>,
    options?: CallOptions,
  ): Promise<SendTemplateMessageResponse> {
    return this.call(this.client.sendTemplateMessage, withRequestId(request), options);
  }

  /** Counts of one bulk, by state. */
  getBulk(request: MessageInitShape<typeof GetBulkRequestSchema>, options?: CallOptions): Promise<Bulk> {
    return this.call(this.client.getBulk, request, options);
  }

  /** Recorded results of one bulk, page by page. */
  listBulkResults(
    request: MessageInitShape<typeof ListBulkResultsRequestSchema>,
    options?: CallOptions,
  ): Promise<ListBulkResultsResponse> {
    return this.call(this.client.listBulkResults, request, options);
  }

  /** The configured pages and how they fare. */
  listPages(
    request: MessageInitShape<typeof ListPagesRequestSchema> = {},
    options?: CallOptions,
  ): Promise<ListPagesResponse> {
    return this.call(this.client.listPages, request, options);
  }

  /**
   * Sends one message per item, and yields one result per item, in any order.
   *
   * `items` may be of any length: it is read as far as the service has room and results are taken. When the stream ends
   * early (a deploy, the network) it is opened again, and what has no result is sent again; no message is sent twice.
   *
   * An empty bulk id or run id of the start is made up, and the run tells it. All streams are of one run: with
   * `OnUnknown.RESEND` it sends again what earlier runs left unknown, and reports what it leaves unknown itself.
   *
   * Leaving the loop, or aborting the signal, cancels what was not started. An error that `items` throws is thrown
   * after the results of what it had yielded.
   */
  sendBulk(start: BulkStartInit, items: BulkSource, options: BulkOptions = {}): BulkRun {
    const { reconnectTimeoutMs = 300_000 } = options;
    const bulkId = start.bulkId || randomUUID();
    const runId = start.runId || randomUUID();
    const named = create(BulkStartSchema, { ...start, bulkId, runId });
    const account = new Account(named, this.timeoutMs, reconnectTimeoutMs);
    const open = (frames: Parameters<typeof this.client.sendBulkMessages>[0], ended: AbortSignal) =>
      this.client.sendBulkMessages(frames, { signal: ended });
    const results = runBulk(account, items, open, this.timeoutMs, this.orClosing(options.signal));
    return Object.assign(results, { bulkId, runId });
  }

  private async call<Request extends DescMessage, Response>(
    send: Send<Request, Response>,
    request: MessageInitShape<Request>,
    options: CallOptions = {},
  ): Promise<Response> {
    const { timeoutMs = this.timeoutMs } = options;
    const { requestId } = request as { requestId?: string };
    const signal = this.orClosing(options.signal);
    const deadline = performance.now() + timeoutMs;
    let failures = 0;
    let waits = 0;
    for (;;) {
      try {
        // Whole milliseconds: gRPC knows no fractions.
        const timeLeftMs = Math.max(1, Math.round(deadline - performance.now()));
        return await send(request, { timeoutMs: timeLeftMs, signal });
      } catch (raised) {
        const error = typedError(raised, signal.aborted, requestId);
        let wait: number;
        if (error.code === Code.Unavailable && failures + 1 < TRIES_MAX) {
          // A connection that breaks is UNAVAILABLE, too, and tells nothing of the message: trying again is safe because
          // every send has an id, and the reading calls change nothing.
          wait = Math.random() * longestWait(failures++, WAIT_MAX_MS);
        } else if (error.reason === ErrorReason.REQUEST_IN_PROGRESS) {
          // An earlier try, whose connection broke, may have begun to send the message.
          wait = Math.max(
            Math.random() * longestWait(waits++, IN_PROGRESS_WAIT_MAX_MS),
            error.retryAfterMs ?? 0,
          );
        } else {
          throw error;
        }
        if (performance.now() + wait >= deadline || signal.aborted) {
          throw error;
        }
        // The next try tells that the call was cancelled.
        await sleep(wait, undefined, { signal }).catch(() => {});
      }
    }
  }

  private orClosing(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.closing.signal]) : this.closing.signal;
  }
}

/** The longest wait after a failure with so many before it. */
function longestWait(failures: number, longestMs: number): number {
  return Math.min(FIRST_WAIT_MAX_MS * 2 ** Math.min(failures, 10), longestMs);
}

/** The request with an id, made up if it has none: all tries of a send must carry the same. */
function withRequestId<Request extends { requestId?: string }>(request: Request): Request {
  return request.requestId ? request : { ...request, requestId: randomUUID() };
}
