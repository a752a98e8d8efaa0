/**
 * Sends Facebook Messenger messages through a messenger-connector service. `MessengerClient.connect` is the way in; all
 * messages and enums of the contract are here, and each field's documentation says what it takes.
 *
 * @packageDocumentation
 */
export type { BulkItemInit, BulkSource } from "./bulk.js";
export {
  MessengerClient,
  type BulkRun,
  type BulkStartInit,
  type BulkOptions,
  type CallOptions,
  type ConnectOptions,
} from "./client.js";
export { MessengerError } from "./error.js";
export { Code } from "@connectrpc/connect";
export * from "./gen/messenger/v1/error_pb.js";
export * from "./gen/messenger/v1/message_pb.js";
export * from "./gen/messenger/v1/messenger_service_pb.js";
