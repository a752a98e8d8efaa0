/**
 * Messages per second of one bulk of 100,000 items, against a sandbox that costs little.
 *
 * `npm run throughput [ITEMS]`; `$MESSENGER_CONNECTOR` should be a release build.
 */
import {
  type BulkItemInit,
  type BulkStartInit,
  ItemState,
  MessagingType,
  MessengerClient,
} from "../src/index.js";
import { Stack } from "./stack.js";

function* items(count: number): Generator<BulkItemInit> {
  for (let number = 0; number < count; number++) {
    yield {
      itemId: `item-${number}`,
      recipient: { identifier: { case: "id", value: `10000000${`${number}`.padStart(8, "0")}` } },
      variables: { name: "Ann" },
    };
  }
}

const count = Number(process.argv[2] ?? 100_000);
const stack = await Stack.start({ name: "throughput" }, ["--light"]);
const client = MessengerClient.connect(stack.address);
const start: BulkStartInit = {
  action: { kind: { case: "text", value: { text: "Hello {{name}}, your order has shipped." } } },
  options: { messagingType: MessagingType.UPDATE },
};
const [started, cpuBefore] = [performance.now(), process.cpuUsage()];
let sent = 0;
for await (const result of client.sendBulk(start, items(count))) {
  sent += Number(result.state === ItemState.SENT);
}
const [seconds, cpu] = [(performance.now() - started) / 1000, process.cpuUsage(cpuBefore)];
client.close();
await stack.stop();
const cpuPerMessage = (cpu.user + cpu.system) / count;
const memory = Math.round(process.resourceUsage().maxRSS / 1024);
const rate = Math.round(sent / seconds).toLocaleString("en");
console.log(
  `typescript: ${sent} messages in ${seconds.toFixed(2)} s, ${rate} messages/s; ` +
    `client ${cpuPerMessage.toFixed(1)} us CPU per message, ${memory} MiB`,
);
process.exitCode = sent === count ? 0 : 1;
