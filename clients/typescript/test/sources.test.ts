import assert from "node:assert/strict";
import { test } from "node:test";
import { type BulkItemInit, type BulkStartInit, MessagingType, MessengerClient } from "../src/index.js";
import { Stack } from "./stack.js";

const TIMEOUT = { timeout: 30_000 };
const start: BulkStartInit = {
  action: { kind: { case: "text", value: { text: "Hello" } } },
  options: { messagingType: MessagingType.UPDATE },
};

function item(number: number): BulkItemInit {
  return { itemId: `${number}`, recipient: { identifier: { case: "id", value: `${number}` } } };
}

async function withClient(run: (client: MessengerClient, stack: Stack) => Promise<void>): Promise<void> {
  const stack = await Stack.start({ name: "sources" });
  const client = MessengerClient.connect(stack.address);
  try {
    await run(client, stack);
  } finally {
    client.close();
    await stack.stop();
  }
}

test("a slow source holds nothing back", TIMEOUT, () =>
  withClient(async (client) => {
    let gotResult = (_itemId: string) => {};
    async function* items() {
      for (let number = 0; number < 20; number++) {
        const result = new Promise<string>((resolve) => (gotResult = resolve));
        yield item(number);
        assert.equal(await result, `${number}`, "its result comes before the next item");
      }
    }
    for await (const { itemId } of client.sendBulk(start, items())) {
      gotResult(itemId);
    }
  }),
);

test("an error of the source comes after the results of its items", TIMEOUT, () =>
  withClient(async (client, stack) => {
    function* items() {
      for (let number = 0; number < 300; number++) {
        yield item(number);
      }
      throw new RangeError("row 301 is broken");
    }
    const results: string[] = [];
    const read = async () => {
      for await (const { itemId } of client.sendBulk(start, items())) {
        results.push(itemId);
      }
    };
    await assert.rejects(read(), { name: "RangeError", message: "row 301 is broken" });
    assert.equal(results.length, 300);
    assert.equal((await stack.state()).delivered, 300);
  }),
);

test("a signal, and closing the client, cancel a bulk", TIMEOUT, () =>
  withClient(async (client) => {
    function* items() {
      for (let number = 0; ; number++) {
        yield item(number);
      }
    }
    for (const how of ["signal", "close"]) {
      const controller = new AbortController();
      const read = async () => {
        for await (const _ of client.sendBulk(start, items(), { signal: controller.signal })) {
          if (how === "signal") {
            controller.abort();
          } else {
            client.close();
          }
        }
      };
      await assert.rejects(read(), { name: "MessengerError", code: 1 }, how);
    }
  }),
);
