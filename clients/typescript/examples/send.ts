/** Sends one text: `node send.js RECIPIENT TEXT [ADDRESS]`. */
import { ErrorReason, MessagingType, MessengerClient, MessengerError } from "messenger-connector";

const [recipient = "1254477777772919", text = "Hello", address = "127.0.0.1:50051"] = process.argv.slice(2);
const client = MessengerClient.connect(address);
try {
  const { result } = await client.sendTextMessage({
    recipient: { identifier: { case: "id", value: recipient } },
    options: { messagingType: MessagingType.RESPONSE },
    text: { text },
  });
  console.log("sent:", result.case === "receipt" && result.value.messageId);
} catch (error) {
  if (!(error instanceof MessengerError)) throw error;
  console.error(`not sent: ${error.message} (${ErrorReason[error.reason]}, retryable ${error.retryable})`);
  process.exitCode = 1;
} finally {
  client.close();
}
