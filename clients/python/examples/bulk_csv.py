"""Sends a text to everybody in a CSV file with the columns recipient and first_name.

`python bulk_csv.py FILE BULK_ID [ADDRESS]`. Run again with the same BULK_ID, it resumes: nobody gets the text twice.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator

from messenger_connector import (
    ITEM_STATE_SENT,
    MESSAGING_TYPE_UPDATE,
    Action,
    BulkItem,
    BulkStart,
    ItemState,
    MessengerClient,
    Recipient,
    SendOptions,
    TextMessage,
)


def items(path: str) -> Iterator[BulkItem]:
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            yield BulkItem(
                item_id=row["recipient"],
                recipient=Recipient(id=row["recipient"]),
                variables={"first_name": row["first_name"]},
            )


def main(path: str, bulk_id: str, address: str = "127.0.0.1:50051") -> None:
    start = BulkStart(
        bulk_id=bulk_id,
        action=Action(text=TextMessage(text="Hello {{first_name}}, the sale has begun.")),
        options=SendOptions(messaging_type=MESSAGING_TYPE_UPDATE),
    )
    counts = Counter[str]()
    with MessengerClient.connect(address) as client:
        for result in client.send_bulk(start, items(path)):
            counts[ItemState.Name(result.state)] += 1
            if result.state != ITEM_STATE_SENT:
                print(result.item_id, ItemState.Name(result.state), result.error.message)
    print(dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
