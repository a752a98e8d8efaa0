/** What the client tries again by itself, on a service that says what it is told to. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { clone, create, fromJson, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  type BulkStart,
  BulkStart_OnUnknown,
  BulkStartSchema,
  ErrorReason,
  ItemState,
  MessengerClient,
  MessengerError,
  MessengerService,
  ReceiptSchema,
  type SendBulkMessagesRequest,
  type SendBulkMessagesResponseSchema,
  SendErrorSchema,
} from "../src/index.js";
import { checkError, checkReceipt } from "./check.js";
import { scenarios, type TryScenario } from "./stack.js";

const TIMEOUT = { timeout: 30_000 };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type Service = Partial<ServiceImpl<typeof MessengerService>>;
type Answer = MessageInitShape<typeof SendBulkMessagesResponseSchema>;

async function serving(service: Service, use: (address: string) => Promise<void>): Promise<void> {
  const handler = connectNodeAdapter({ routes: (router) => router.service(MessengerService, service) });
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.close();
  }
}

async function runTries(scenario: TryScenario): Promise<void> {
  const requestIds: string[] = [];
  const sendTextMessage: Service["sendTextMessage"] = ({ requestId }) => {
    const { code, reason, receipt } = scenario.answers[requestIds.length] ?? scenario.answers.at(-1)!;
    requestIds.push(requestId);
    if (receipt) {
      return { result: { case: "receipt", value: fromJson(ReceiptSchema, receipt as JsonValue) } };
    }
    const error = new ConnectError("told to", codeOf(code!));
    if (reason) {
      const name = reason.replace("ERROR_REASON_", "") as keyof typeof ErrorReason;
      error.details.push({ desc: SendErrorSchema, value: { reason: ErrorReason[name], message: "told to" } });
    }
    throw error;
  };
  await serving({ sendTextMessage }, async (address) => {
    const client = MessengerClient.connect(address);
    const started = performance.now();
    const call = client.sendTextMessage({}, scenario.timeout_ms ? { timeoutMs: scenario.timeout_ms } : {});
    if (scenario.error) {
      const { error } = scenario;
      await assert.rejects(call, (raised) => {
        checkError(raised, error);
        return (raised as MessengerError).requestId === requestIds[0];
      });
    } else {
      checkReceipt(await call, scenario.receipt!);
    }
    assert(performance.now() - started < (scenario.within_ms ?? 60_000), "in time");
    client.close();
  });
  assert.equal(requestIds.length, scenario.tries ?? requestIds.length);
  assert.equal(new Set(requestIds).size, 1, "every try is of one message");
  assert.match(requestIds[0]!, UUID);
}

/** The code of RESOURCE_EXHAUSTED. */
function codeOf(name: string): Code {
  const camel = name.toLowerCase().replace(/(^|_)[a-z]/g, (letter) => letter.toUpperCase().replace("_", ""));
  return Code[camel as keyof typeof Code];
}

describe("tries", { concurrency: 4 }, () => {
  for (const scenario of scenarios.tries) {
    test(scenario.name, TIMEOUT, () => runTries(scenario));
  }
});

/** A service that keeps the starts, and never accepts the second stream, or none if it is silent. */
class Streams {
  readonly starts: BulkStart[] = [];

  constructor(private readonly isSilent = false) {}

  async *sendBulkMessages(frames: AsyncIterable<SendBulkMessagesRequest>): AsyncGenerator<Answer> {
    for await (const { frame } of frames) {
      if (frame.case === "start") {
        this.starts.push(clone(BulkStartSchema, frame.value));
        if (this.isSilent || this.starts.length === 2) {
          continue;
        }
        yield { frame: { case: "accepted", value: { maxInFlight: 10 } } };
        if (this.starts.length === 1) {
          throw new ConnectError("lost", Code.Unavailable);
        }
      } else if (frame.case === "items") {
        const results = frame.value.items.map(({ itemId }) => ({ itemId, state: ItemState.SENT }));
        yield { frame: { case: "results", value: { results } } };
      }
    }
    yield { frame: { case: "summary", value: {} } };
  }

  async serving(use: (address: string) => Promise<void>): Promise<void> {
    await serving({ sendBulkMessages: (frames) => this.sendBulkMessages(frames) }, use);
  }
}

const resend = { onUnknown: BulkStart_OnUnknown.RESEND };

test("all streams are of one run, and one that is never accepted does not hold it", TIMEOUT, async () => {
  const service = new Streams();
  await service.serving(async (address) => {
    const client = MessengerClient.connect(address, { timeoutMs: 3_000 });
    const run = client.sendBulk(resend, [{ itemId: "a" }], { reconnectTimeoutMs: 30_000 });
    const ids: string[] = [];
    for await (const { itemId } of run) {
      ids.push(itemId);
    }
    client.close();
    assert.deepEqual(ids, ["a"]);
    assert(service.starts.length > 2, `${service.starts.length} streams`);
    const { bulkId, runId } = run;
    for (const start of service.starts) {
      assert.deepEqual(start, create(BulkStartSchema, { ...resend, bulkId, runId }));
    }
    assert.match(bulkId, UUID);
    assert.match(runId, UUID);
    assert.notEqual(bulkId, runId);
  });
});

test("a caller's own names stay", () => {
  const client = MessengerClient.connect("127.0.0.1:1");
  const { bulkId, runId } = client.sendBulk({ bulkId: "sale", runId: "again" }, []);
  client.close();
  assert.deepEqual([bulkId, runId], ["sale", "again"]);
});

test("a service that accepts nothing does not hold a bulk", TIMEOUT, () =>
  new Streams(true).serving(async (address) => {
    const client = MessengerClient.connect(address, { timeoutMs: 300 });
    await assert.rejects(client.sendBulk(resend, []).next(), (error: MessengerError) => {
      assert.equal(error.code, Code.Unavailable);
      return error.retryable;
    });
    client.close();
  }),
);

test("one client has a thousand calls at a time", TIMEOUT, async () => {
  let noteAll = () => {};
  const hasAll = new Promise<void>((resolve) => (noteAll = resolve));
  let waiting = 0;
  const sendTextMessage: Service["sendTextMessage"] = async () => {
    waiting += 1;
    if (waiting === 1000) {
      noteAll();
    }
    await hasAll;
    return {};
  };
  await serving({ sendTextMessage }, async (address) => {
    const client = MessengerClient.connect(address);
    await Promise.all(Array.from({ length: 1000 }, () => client.sendTextMessage({})));
    client.close();
  });
});
