"""Sends one text: `python send.py RECIPIENT TEXT [ADDRESS]`."""

import sys

from messenger_connector import (
    MESSAGING_TYPE_RESPONSE,
    ErrorReason,
    MessengerClient,
    MessengerError,
    Recipient,
    SendOptions,
    SendTextMessageRequest,
    TextMessage,
)


def main(recipient: str, text: str, address: str = "127.0.0.1:50051") -> None:
    with MessengerClient.connect(address) as client:
        request = SendTextMessageRequest(
            recipient=Recipient(id=recipient),
            options=SendOptions(messaging_type=MESSAGING_TYPE_RESPONSE),
            text=TextMessage(text=text),
        )
        try:
            response = client.send_text_message(request)
        except MessengerError as error:
            sys.exit(f"not sent: {error}\nreason {ErrorReason.Name(error.reason)}, retryable {error.retryable}")
        print("sent:", response.receipt.message_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
