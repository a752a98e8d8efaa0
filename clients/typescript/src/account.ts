import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { MessengerError, mayPass } from "./error.js";
import { ErrorReason, type SendError } from "./gen/messenger/v1/error_pb.js";
import { ItemState } from "./gen/messenger/v1/message_pb.js";
import {
  type BulkItem,
  BulkItemSchema,
  type BulkStart,
  type ItemResult,
  type SendBulkMessagesRequest,
  SendBulkMessagesRequestSchema,
} from "./gen/messenger/v1/messenger_service_pb.js";

const ITEMS_PER_FRAME_MAX = 500;
const FRAME_BYTES_MAX = 512 * 1024;
/** The longest first wait before another try. It doubles with every failure. */
export const FIRST_WAIT_MAX_MS = 200;
const WAIT_MAX_MS = 15_000;
/** The longest wait for what is in progress: the service is well, and the outcome may come any time. */
export const IN_PROGRESS_WAIT_MAX_MS = 2_000;

// Nothing was sent for now; the same item may be sent once the service is well again, or has finished what an earlier
// stream began.
const PUT_OFF = [ErrorReason.DRAINING, ErrorReason.LEDGER_UNAVAILABLE, ErrorReason.REQUEST_IN_PROGRESS];

/** An item without a result, and its place in the order of the source. */
interface Entry {
  readonly item: BulkItem;
  readonly number: number;
}

/** What was taken from the source of a bulk, and what of it has no result yet, over all its streams. */
export class Account {
  sourceEnded = false;
  sourceError: { error: unknown } | undefined;
  /** Taken, and in no frame yet. */
  private taken: Entry[] = [];
  private takenCount = 0;
  /** Taken, and the caller has not got the result yet. */
  private held = 0;

  // This stream's: items that earlier streams left and it has not sent yet, and items that it has sent and that have no
  // result, by id. Several items can have one id.
  private again: Entry[] = [];
  private readonly unsettled = new Map<string, Entry[]>();
  private inFlight = 0;
  private inFlightMax = 0;
  // Items whose result is not final: they are left for the next stream. Why this one takes no more then, or that they
  // are in progress, which does not concern the others.
  private left: Entry[] = [];
  private putOff: SendError | undefined;
  private inProgress: SendError | undefined;
  private openedAt = 0;

  private failures = 0;
  private failingSince: number | undefined;

  /**
   * `start` has a bulk id, because only a bulk with a name can be opened again, and a run id: all streams are of one
   * run.
   */
  constructor(
    private readonly start: BulkStart,
    private timeoutMs: number,
    private readonly reconnectTimeoutMs: number,
  ) {}

  /** True if every item of the source has its result. */
  get isComplete(): boolean {
    return this.sourceEnded && this.held === 0;
  }

  /** True if another item may be taken from the source. */
  get hasRoom(): boolean {
    return this.held < this.inFlightMax;
  }

  take(item: BulkItem): void {
    this.taken.push({ item, number: this.takenCount++ });
    this.held += 1;
  }

  /** Notes that the caller has got a result. */
  release(): void {
    this.held -= 1;
  }

  /** Begins a stream: its first frame. */
  open(): SendBulkMessagesRequest {
    const left = [...this.again, ...this.left, ...[...this.unsettled.values()].flat()];
    this.again = left.sort((one, other) => one.number - other.number);
    this.unsettled.clear();
    this.left = [];
    this.inFlight = this.inFlightMax = 0;
    this.putOff = this.inProgress = undefined;
    this.openedAt = performance.now();
    return create(SendBulkMessagesRequestSchema, { frame: { case: "start", value: this.start } });
  }

  accept(maxInFlight: number): void {
    this.inFlightMax = Math.max(1, maxInFlight);
    this.timeoutMs = this.reconnectTimeoutMs;
  }

  /** True if this stream gets no further items. */
  get isWritten(): boolean {
    // Nothing but items in progress is there: only another stream can bring their results.
    const isIdle = this.left.length > 0 && this.left.length === this.held;
    const hasAll = this.sourceEnded && this.taken.length === 0 && this.again.length === 0;
    return this.putOff !== undefined || isIdle || hasAll;
  }

  /** The next frame of items, if there are items and there is room. */
  frame(): SendBulkMessagesRequest | undefined {
    if (this.putOff) {
      return undefined;
    }
    const queue = this.again.length > 0 ? this.again : this.taken;
    const room = Math.min(this.inFlightMax - this.inFlight, ITEMS_PER_FRAME_MAX, queue.length);
    let count = 0;
    for (let bytes = 0; count < room; count++) {
      bytes += toBinary(BulkItemSchema, queue[count]!.item).length;
      if (count > 0 && bytes > FRAME_BYTES_MAX) {
        break;
      }
    }
    if (count <= 0) {
      return undefined;
    }
    const entries = queue.splice(0, count);
    for (const entry of entries) {
      const sameId = this.unsettled.get(entry.item.itemId);
      if (sameId) {
        sameId.push(entry);
      } else {
        this.unsettled.set(entry.item.itemId, [entry]);
      }
    }
    this.inFlight += entries.length;
    const items = entries.map((entry) => entry.item);
    return create(SendBulkMessagesRequestSchema, { frame: { case: "items", value: { items } } });
  }

  /** Takes a result, and tells whether it is final. */
  settle(result: ItemResult): boolean {
    const entries = this.unsettled.get(result.itemId);
    const first = entries?.shift();
    if (!entries || !first) {
      return false;
    }
    if (entries.length === 0) {
      this.unsettled.delete(result.itemId);
    }
    this.inFlight -= 1;
    if (
      result.state === ItemState.NOT_SENT &&
      result.outcome.case === "error" &&
      PUT_OFF.includes(result.outcome.value.reason)
    ) {
      this.left.push(first);
      if (result.outcome.value.reason === ErrorReason.REQUEST_IN_PROGRESS) {
        this.inProgress = result.outcome.value;
      } else {
        this.putOff = result.outcome.value;
      }
      return false;
    }
    this.noteSuccess();
    return true;
  }

  /**
   * Milliseconds to wait before the next stream, after one that ended with this error, or without one. Exponential with
   * full jitter, so that many clients of a service that comes back do not come all at once.
   *
   * Throws the error if another stream would end likewise, or trying has taken too long.
   */
  waitAfter(ended: MessengerError | undefined): number {
    const why = this.putOff ?? this.inProgress;
    const message = why?.message ?? "the service ended the stream before the last result";
    const error = ended ?? new MessengerError(Code.Unavailable, message, why);
    const now = performance.now();
    if (this.inFlightMax > 0 && now - this.openedAt >= WAIT_MAX_MS) {
      this.noteSuccess();
    }
    this.failingSince ??= now;
    const left = this.failingSince + this.timeoutMs - now;
    if (!mayPass(error) || left <= 0) {
      throw error;
    }
    const isInProgress = error.reason === ErrorReason.REQUEST_IN_PROGRESS;
    const waitMaxMs = isInProgress ? IN_PROGRESS_WAIT_MAX_MS : WAIT_MAX_MS;
    const longest = Math.min(FIRST_WAIT_MAX_MS * 2 ** Math.min(this.failures, 10), waitMaxMs);
    this.failures += 1;
    return Math.min(Math.max(Math.random() * longest, error.retryAfterMs ?? 0), left);
  }

  private noteSuccess(): void {
    this.failures = 0;
    this.failingSince = undefined;
  }
}
