/** Items that are in progress elsewhere, on a service that says so of one of them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Account } from "../src/account.js";
import {
  type BulkItem,
  type BulkItemInit,
  BulkItemSchema,
  BulkStartSchema,
  ErrorReason,
  ItemResultSchema,
  ItemState,
  MessengerClient,
  MessengerService,
  type SendBulkMessagesRequest,
  type SendBulkMessagesResponseSchema,
} from "../src/index.js";

const TIMEOUT = { timeout: 30_000 };

type Answer = MessageInitShape<typeof SendBulkMessagesResponseSchema>;
type ResultInit = MessageInitShape<typeof ItemResultSchema>;

/** Sent, or not sent for a reason. */
function result(itemId: string, reason?: ErrorReason, retryAfterSeconds?: bigint): ResultInit {
  if (reason === undefined) {
    return { itemId, state: ItemState.SENT };
  }
  const retryAfter = retryAfterSeconds === undefined ? {} : { retryAfter: { seconds: retryAfterSeconds } };
  return { itemId, state: ItemState.NOT_SENT, outcome: { case: "error", value: { reason, ...retryAfter } } };
}

function item(itemId: string, recipient: string): BulkItemInit {
  return { itemId, recipient: { identifier: { case: "id", value: recipient } } };
}

/**
 * A service on whose first two streams the message to "1" is in progress; all others are sent. `answeredWith` says
 * whose messages of the first stream are answered when this one has come; without any entry, its own.
 */
class Scripted {
  readonly streams: string[][] = [];

  constructor(
    private readonly maxInFlight: number,
    private readonly answeredWith: Record<string, string[]> = {},
  ) {}

  async *stream(frames: AsyncIterable<SendBulkMessagesRequest>): AsyncGenerator<Answer> {
    const isFirst = this.streams.length === 0;
    const isInProgress = this.streams.length < 2;
    const hasScript = isFirst && Object.keys(this.answeredWith).length > 0;
    const seen: string[] = [];
    this.streams.push(seen);
    const results = new Map<string, ResultInit>();
    for await (const { frame } of frames) {
      if (frame.case === "start") {
        yield { frame: { case: "accepted", value: { bulkId: "b", maxInFlight: this.maxInFlight } } };
      }
      for (const { itemId, recipient } of frame.case === "items" ? frame.value.items : []) {
        const to = `${recipient?.identifier.value}`;
        seen.push(to);
        const isSent = to !== "1" || !isInProgress;
        results.set(to, result(itemId, isSent ? undefined : ErrorReason.REQUEST_IN_PROGRESS));
        const answered = hasScript ? (this.answeredWith[to] ?? []) : [to];
        yield { frame: { case: "results", value: { results: answered.map((to) => results.get(to)!) } } };
      }
    }
    yield { frame: { case: "summary", value: {} } };
  }

  /** Sends the items, and returns the ids of the results. */
  async run(items: (hasResult: Promise<void>) => AsyncIterable<BulkItemInit>): Promise<string[]> {
    const handler = connectNodeAdapter({
      routes: (router) =>
        router.rpc(MessengerService.method.sendBulkMessages, (frames) => this.stream(frames)),
    });
    const server = createServer(handler).listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = MessengerClient.connect(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    let noteResult = () => {};
    const hasResult = new Promise<void>((resolve) => (noteResult = resolve));
    const ids: string[] = [];
    for await (const { itemId } of client.sendBulk({}, items(hasResult))) {
      ids.push(itemId);
      noteResult();
    }
    client.close();
    server.close();
    return ids;
  }
}

test(
  "an item in progress holds up no other, and one of the same id gets its own result",
  TIMEOUT,
  async () => {
    const service = new Scripted(100, { 3: ["1", "2"], 5: ["3", "4", "5"] });
    const ids = await service.run(async function* (hasResult) {
      yield* [item("a", "1"), item("b", "2"), item("c", "3")];
      await hasResult;
      yield* [item("d", "4"), item("a", "5")];
    });
    assert.deepEqual(service.streams, [["1", "2", "3", "4", "5"], ["1"], ["1"]]);
    assert.deepEqual(ids, ["b", "c", "d", "a", "a"]);
  },
);

for (const [why, maxInFlight] of [
  ["there is no room", 1],
  ["the source gives nothing", 100],
] as const) {
  test(`a stream with nothing but items in progress ends if ${why}`, TIMEOUT, async () => {
    const service = new Scripted(maxInFlight);
    const ids = await service.run(async function* (hasResult) {
      yield item("a", "1");
      await (maxInFlight === 1 || hasResult);
      yield item("b", "2");
    });
    assert.deepEqual(service.streams, [["1"], ["1"], ["1", "2"]]);
    assert.deepEqual(ids, ["a", "b"]);
  });
}

test("the wait for items in progress is short", () => {
  const waits = (reason: ErrorReason, retryAfterSeconds?: bigint) => {
    const account = new Account(create(BulkStartSchema), 30_000, 3_600_000);
    return Array.from({ length: 1000 }, () => {
      account.open();
      account.accept(1);
      if (account.hasRoom) {
        account.take(create(BulkItemSchema, item("a", "1")) as BulkItem);
      }
      assert(account.frame());
      assert(!account.settle(create(ItemResultSchema, result("a", reason, retryAfterSeconds))));
      assert(account.isWritten);
      return account.waitAfter(undefined);
    });
  };
  const longest = Math.max(...waits(ErrorReason.REQUEST_IN_PROGRESS));
  assert(longest > 1_500 && longest <= 2_000, `${longest}`);
  assert(Math.max(...waits(ErrorReason.DRAINING)) > 2_000);
  assert.deepEqual(new Set(waits(ErrorReason.REQUEST_IN_PROGRESS, 5n)), new Set([5_000]));
});
