/** What calls end with, compared with what a scenario says. */
import assert from "node:assert/strict";
import { Code, ErrorReason, MessengerError, type SendTextMessageResponse } from "../src/index.js";
import type { ExpectedError } from "./stack.js";

/** RESOURCE_EXHAUSTED of ResourceExhausted. */
function codeName(code: Code): string {
  const name = code === Code.Canceled ? "Cancelled" : Code[code];
  return name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

export function checkError(error: unknown, expected: ExpectedError): void {
  assert(error instanceof MessengerError, `${error}`);
  const found = {
    code: codeName(error.code),
    reason: `ERROR_REASON_${ErrorReason[error.reason]}`,
    retryable: error.retryable,
    graph: error.graph && { code: error.graph.code, subcode: error.graph.subcode },
    violated_fields: error.violations.map((violation) => violation.field).sort(),
    has_retry_after: (error.retryAfterMs ?? 0) > 0,
  };
  if (expected.violated_fields) {
    expected.violated_fields.sort();
    assert(error.violations.every((violation) => violation.description));
  }
  assert.deepEqual(found, { ...found, ...expected }, error.message);
  assert(error.message, "an error says something");
}

export function checkReceipt({ result }: SendTextMessageResponse, expected: Record<string, unknown>): void {
  assert(result.case === "receipt");
  const found = {
    has_message_id: result.value.messageId !== "",
    recipient_id: result.value.recipientId,
    replayed: result.value.replayed,
    attempts: result.value.attempts,
  };
  assert.deepEqual(found, { ...found, ...expected });
}
