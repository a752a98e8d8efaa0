"""Sends Facebook Messenger messages through a messenger-connector service.

    from messenger_connector import *

    with MessengerClient.connect("127.0.0.1:50051") as client:
        response = client.send_text_message(
            SendTextMessageRequest(
                recipient=Recipient(id="1254477777772919"),
                options=SendOptions(messaging_type=MESSAGING_TYPE_RESPONSE),
                text=TextMessage(text="Your order has shipped."),
            )
        )

All messages and enums of the contract are here; each field's documentation says what it takes.
"""

from messenger_connector import aio as aio
from messenger_connector._client import BulkRun as BulkRun
from messenger_connector._client import MessengerClient as MessengerClient
from messenger_connector._connection import Tls as Tls
from messenger_connector._errors import MessengerError as MessengerError
from messenger_connector.v1.error_pb2 import *  # noqa: F403
from messenger_connector.v1.message_pb2 import *  # noqa: F403
from messenger_connector.v1.messenger_service_pb2 import *  # noqa: F403

__version__ = "0.1.0"
