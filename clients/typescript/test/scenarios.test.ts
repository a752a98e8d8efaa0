import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromJson, type JsonValue, type Message } from "@bufbuild/protobuf";
import {
  BulkItemSchema,
  BulkStartSchema,
  Code,
  ErrorReason,
  type ItemResult,
  ItemState,
  MessengerClient,
  MessengerError,
  MessengerService,
  type SendTextMessageResponse,
} from "../src/index.js";
import { checkError, checkReceipt } from "./check.js";
import { type BulkScenario, type Call, scenarios, Stack } from "./stack.js";

/** A test that takes longer hangs. */
const TIMEOUT = { timeout: 60_000 };
/** A bulk that gets no further fails, and does not hang. */
const PATIENCE = { reconnectTimeoutMs: 30_000 };

type AnyMethod = (request: Message, options: object) => Promise<SendTextMessageResponse>;

/** Returns the request id that the error tells. */
async function checkCall(call: Call, answer: Promise<SendTextMessageResponse>): Promise<string | undefined> {
  const started = performance.now();
  const result = await answer.then(
    (response) => ({ response }),
    (error: unknown) => ({ error }),
  );
  assert(performance.now() - started < (call.within_ms ?? 60_000), "in time");
  if (call.error) {
    assert("error" in result, "it fails");
    checkError(result.error, call.error);
    return (result.error as MessengerError).requestId;
  }
  if ("error" in result) {
    throw result.error;
  }
  const { result: sent } = result.response;
  if (call.preview) {
    assert(sent.case === "preview");
    assert(sent.value.url.endsWith(call.preview.url_end), sent.value.url);
    assert(sent.value.bodyJson.includes(call.preview.body_contains), sent.value.bodyJson);
    return undefined;
  }
  checkReceipt(result.response, call.receipt ?? {});
  return undefined;
}

async function cancel(call: Promise<unknown>, controller: AbortController): Promise<void> {
  const cancelled = performance.now();
  controller.abort();
  await assert.rejects(call, (error) => error instanceof MessengerError && error.code === Code.Canceled);
  assert(performance.now() - cancelled < 1000, "within a second");
}

async function runCalls(stack: Stack, calls: Call[]): Promise<void> {
  const client = MessengerClient.connect(stack.address, stack.connection());
  const background: Promise<unknown>[] = [];
  let idOfError: string | undefined;
  for (const call of calls) {
    const method = MessengerService.methods.find((method) => method.name === call.method)!;
    const again = call.request_id_of_error && { request_id: idOfError };
    const request = fromJson(method.input, { ...call.request, ...again } as JsonValue);
    const before = structuredClone(request);
    const controller = new AbortController();
    const answer = (client[method.localName as keyof MessengerClient] as AnyMethod).call(client, request, {
      signal: controller.signal,
      ...(call.timeout_ms && { timeoutMs: call.timeout_ms }),
    });
    if (call.background) {
      background.push(checkCall(call, answer));
      await stack.waitForDelivered(1);
    } else if (call.cancel_when_delivered) {
      await stack.waitForDelivered(1);
      await cancel(answer, controller);
    } else {
      const checked = checkCall(call, answer);
      if (call.restart_when_delivered) {
        await stack.waitForDelivered(1);
        await stack.restart(call.restart_when_delivered);
      }
      idOfError = await checked;
    }
    assert.deepEqual(request, before, "the caller's request is not changed");
  }
  await Promise.all(background);
  client.close();
}

describe("calls", { concurrency: 4 }, () => {
  for (const scenario of scenarios.calls) {
    test(scenario.name, TIMEOUT, async () => {
      const stack = await Stack.start(scenario);
      try {
        await runCalls(stack, scenario.calls);
        if (scenario.delivered !== undefined) {
          assert.equal((await stack.state()).delivered, scenario.delivered);
        }
      } finally {
        await stack.stop();
      }
    });
  }
});

/** The source of a scenario, and what was taken from it. */
class Audience {
  taken = 0;
  yielded = 0;
  mostAhead = 0;
  isClosed = false;

  constructor(private readonly scenario: BulkScenario) {}

  *items() {
    const filler = "x".repeat(this.scenario.filler_bytes ?? 0);
    const templates = this.scenario.items.map(({ item }) =>
      JSON.stringify(item).replaceAll("{filler}", filler),
    );
    try {
      for (let round = 0; round < this.scenario.rounds; round++) {
        for (const template of templates) {
          this.taken += 1;
          this.mostAhead = Math.max(this.mostAhead, this.taken - this.yielded);
          const item = JSON.parse(template.replaceAll("{round}", `${round}`)) as JsonValue;
          yield fromJson(BulkItemSchema, item);
        }
      }
    } finally {
      this.isClosed = true;
    }
  }

  async *asyncItems() {
    yield* this.items();
  }
}

/** One result for every item, with its state and reason. */
function checkResults(scenario: BulkScenario, results: ItemResult[]): void {
  const expected: string[] = [];
  const kinds = new Map<string, BulkScenario["items"][number]>();
  for (let round = 0; round < scenario.rounds; round++) {
    for (const kind of scenario.items) {
      const id = kind.item.item_id.replaceAll("{round}", `${round}`);
      expected.push(id);
      kinds.set(id, kind);
    }
  }
  assert.deepEqual(results.map((result) => result.itemId).sort(), expected.sort());
  let others = 0;
  for (const result of results) {
    const kind = kinds.get(result.itemId)!;
    const state = `ITEM_STATE_${ItemState[result.state]}`;
    if (state === kind.or_state) {
      others += 1;
      continue;
    }
    assert.equal(state, kind.state, `${result.itemId} ${result.outcome.value?.$typeName}`);
    if (kind.reason) {
      assert(result.outcome.case === "error");
      assert.equal(`ERROR_REASON_${ErrorReason[result.outcome.value.reason]}`, kind.reason);
    }
  }
  assert(others <= (scenario.or_state_max ?? 0), `${others} ended otherwise`);
}

async function runBulk(stack: Stack, scenario: BulkScenario, isAsync: boolean): Promise<void> {
  const client = MessengerClient.connect(stack.address, stack.connection());
  const audience = new Audience(scenario);
  const results: ItemResult[] = [];
  const start = fromJson(BulkStartSchema, scenario.start as JsonValue);
  const restarted = scenario.restart && restartInTheMiddle(stack, scenario.restart);
  const read = async () => {
    for await (const result of client.sendBulk(
      start,
      isAsync ? audience.asyncItems() : audience.items(),
      PATIENCE,
    )) {
      results.push(result);
      audience.yielded += 1;
      if (results.length === scenario.cancel_after_results) {
        break;
      }
    }
  };
  if (scenario.error) {
    const { error } = scenario;
    await assert.rejects(read(), (raised: MessengerError) => {
      checkError(raised, error);
      return raised.requestId === "";
    });
    assert.equal(results.length, 0);
  } else {
    await read();
  }
  await restarted;
  const state = await stack.state();
  assert.equal(state.duplicates, 0);
  assert(audience.mostAhead <= (scenario.ahead_max ?? Infinity), `${audience.mostAhead} ahead`);
  if (scenario.cancel_after_results) {
    assert.equal(results.length, scenario.cancel_after_results);
    const { taken } = audience;
    await stack.waitForDelivered(results.length);
    assert.equal(audience.taken, taken, "nobody reads the source any more");
    assert(audience.isClosed, "the source is told");
  } else if (!scenario.error) {
    checkResults(scenario, results);
  }
  if (scenario.delivered !== undefined) {
    assert.equal(state.delivered, scenario.delivered);
  } else {
    await checkDelivered(stack, results);
  }
  client.close();
}

async function restartInTheMiddle(
  stack: Stack,
  restart: NonNullable<BulkScenario["restart"]>,
): Promise<void> {
  await stack.waitForDelivered(restart.when_delivered);
  await stack.restart(restart.signal);
}

/** What was sent according to its result was delivered. */
async function checkDelivered(stack: Stack, results: ItemResult[]): Promise<void> {
  type Kept = { messages: { body: { recipient: { id: string } } }[] };
  const { messages } = await stack.sandbox<Kept>("messages?limit=1000000");
  const delivered = new Set(messages.map((message) => message.body.recipient.id.split(".").at(-1)));
  const sent = results.filter((result) => result.state === ItemState.SENT);
  assert.deepEqual(
    sent.filter((result) => !delivered.has(result.itemId)),
    [],
  );
}

describe("bulks", { concurrency: 2 }, () => {
  for (const scenario of scenarios.bulks) {
    for (const isAsync of [false, true]) {
      test(`${scenario.name}, from ${isAsync ? "an async iterable" : "an iterable"}`, TIMEOUT, async () => {
        const stack = await Stack.start(scenario);
        try {
          await runBulk(stack, scenario, isAsync);
        } finally {
          await stack.stop();
        }
      });
    }
  }
});
