import { setTimeout as sleep } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Account } from "./account.js";
import { MessengerError, typedError } from "./error.js";
import {
  type BulkItem,
  BulkItemSchema,
  type ItemResult,
  type SendBulkMessagesRequest,
  type SendBulkMessagesResponse,
} from "./gen/messenger/v1/messenger_service_pb.js";

/** An item of a bulk, as a message or as a plain object. */
export type BulkItemInit = MessageInitShape<typeof BulkItemSchema>;
/** Items, any number of them. */
export type BulkSource = Iterable<BulkItemInit> | AsyncIterable<BulkItemInit>;

/** Opens one stream. */
export type OpenStream = (
  frames: AsyncIterable<SendBulkMessagesRequest>,
  signal: AbortSignal,
) => AsyncIterable<SendBulkMessagesResponse>;

/** Wakes whoever waits for something to change. */
class Changes {
  private waiting: { promise: Promise<void>; wake: () => void } | undefined;

  note(): void {
    this.waiting?.wake();
    this.waiting = undefined;
  }

  wait(): Promise<void> {
    if (!this.waiting) {
      let wake = () => {};
      const promise = new Promise<void>((resolve) => (wake = resolve));
      this.waiting = { promise, wake };
    }
    return this.waiting.promise;
  }
}

/**
 * Runs the streams of one bulk, one after another. A stream that is not accepted in time is given up. The source is read, frames are written and results are read
 * independently, so that none waits for another without need.
 */
export async function* runBulk(
  account: Account,
  source: BulkSource,
  open: OpenStream,
  acceptTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<ItemResult, void, undefined> {
  const closed = new AbortController();
  const cancelled = AbortSignal.any([signal, closed.signal]);
  const changes = new Changes();
  const wake = () => changes.note();
  cancelled.addEventListener("abort", wake);
  void readSource(account, source, changes, cancelled);
  try {
    for (;;) {
      let error: MessengerError | undefined;
      const ended = new AbortController();
      let isLate = false;
      const timer = setTimeout(() => {
        isLate = true;
        ended.abort();
      }, acceptTimeoutMs);
      try {
        const over = AbortSignal.any([cancelled, ended.signal]);
        for await (const { frame } of open(frames(account.open(), account, changes, over), over)) {
          if (frame.case === "accepted") {
            clearTimeout(timer);
            account.accept(frame.value.maxInFlight);
          } else if (frame.case === "results") {
            const results = frame.value.results.filter((result) => account.settle(result));
            changes.note();
            for (const result of results) {
              yield result;
              account.release();
            }
          }
          changes.note();
        }
      } catch (raised) {
        const message = `the service did not answer the start within ${acceptTimeoutMs} ms`;
        error = isLate
          ? new MessengerError(Code.Unavailable, message)
          : typedError(raised, cancelled.aborted);
      } finally {
        clearTimeout(timer);
        ended.abort();
        changes.note();
      }
      if (account.isComplete) {
        break;
      }
      if (signal.aborted) {
        throw error ?? typedError(signal.reason, true);
      }
      await sleep(account.waitAfter(error), undefined, { signal: cancelled }).catch(() => {});
    }
    if (account.sourceError) {
      throw account.sourceError.error;
    }
  } finally {
    closed.abort();
    cancelled.removeEventListener("abort", wake);
  }
}

async function* frames(
  start: SendBulkMessagesRequest,
  account: Account,
  changes: Changes,
  ended: AbortSignal,
): AsyncGenerator<SendBulkMessagesRequest, void, undefined> {
  yield start;
  while (!ended.aborted && !account.isWritten) {
    const frame = account.frame();
    if (frame) {
      yield frame;
    } else {
      await changes.wait();
    }
  }
}

async function readSource(
  account: Account,
  source: BulkSource,
  changes: Changes,
  cancelled: AbortSignal,
): Promise<void> {
  const items = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  try {
    for (;;) {
      while (!account.hasRoom && !cancelled.aborted) {
        await changes.wait();
      }
      if (cancelled.aborted) {
        // The source may be busy: nobody waits for it.
        void Promise.resolve(items.return?.()).catch(() => {});
        return;
      }
      const next = items.next();
      const { done, value } = next instanceof Promise ? await next : (next as IteratorResult<BulkItemInit>);
      if (done) {
        break;
      }
      account.take(create(BulkItemSchema, value) as BulkItem);
      changes.note();
    }
  } catch (error) {
    // The caller gets it after the results of what the source had yielded.
    account.sourceError = { error };
  }
  account.sourceEnded = true;
  changes.note();
}
