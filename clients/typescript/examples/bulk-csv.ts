/**
 * Sends a text to everybody in a file of `recipient,first_name` lines, without quotes, below a line of titles.
 *
 * `node bulk-csv.js FILE BULK_ID [ADDRESS]`. Run again with the same BULK_ID, it resumes: nobody gets the text twice.
 */
import { open } from "node:fs/promises";
import {
  type BulkItemInit,
  type BulkStartInit,
  ItemState,
  MessagingType,
  MessengerClient,
} from "messenger-connector";

const [path = "audience.csv", bulkId = "", address = "127.0.0.1:50051"] = process.argv.slice(2);

async function* items(): AsyncGenerator<BulkItemInit> {
  let isTitle = true;
  for await (const line of (await open(path)).readLines()) {
    if (!isTitle) {
      const [recipient = "", first_name = ""] = line.split(",");
      yield {
        itemId: recipient,
        recipient: { identifier: { case: "id", value: recipient } },
        variables: { first_name },
      };
    }
    isTitle = false;
  }
}

const client = MessengerClient.connect(address);
const start: BulkStartInit = {
  bulkId,
  action: { kind: { case: "text", value: { text: "Hello {{first_name}}, the sale has begun." } } },
  options: { messagingType: MessagingType.UPDATE },
};
const counts: Record<string, number> = {};
for await (const { itemId, state, outcome } of client.sendBulk(start, items())) {
  counts[ItemState[state]] = (counts[ItemState[state]] ?? 0) + 1;
  if (outcome.case === "error") {
    console.log(itemId, ItemState[state], outcome.value.message);
  }
}
console.log(counts);
client.close();
