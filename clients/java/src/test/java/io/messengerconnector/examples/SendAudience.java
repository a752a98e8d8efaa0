package io.messengerconnector.examples;

import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import io.messengerconnector.BulkResults;
import io.messengerconnector.MessengerClient;
import io.messengerconnector.v1.Action;
import io.messengerconnector.v1.BulkItem;
import io.messengerconnector.v1.BulkStart;
import io.messengerconnector.v1.ItemResult;
import io.messengerconnector.v1.ItemState;
import io.messengerconnector.v1.MessagingType;
import io.messengerconnector.v1.Recipient;
import io.messengerconnector.v1.SendOptions;
import io.messengerconnector.v1.TextMessage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Map;
import java.util.stream.Stream;

/**
 * Sends a text to every row of a CSV file with the columns recipient and first_name, through the
 * service at localhost:50051. The file is read row by row, so it may be larger than memory.
 */
public final class SendAudience {
  private SendAudience() {}

  public static void main(String[] arguments) throws IOException {
    BulkStart start =
        BulkStart.newBuilder()
            .setBulkId("spring-sale")
            .setOptions(
                SendOptions.newBuilder().setMessagingType(MessagingType.MESSAGING_TYPE_UPDATE))
            .setAction(
                Action.newBuilder()
                    .setText(
                        TextMessage.newBuilder()
                            .setText("Hello {{first_name}}, the sale has begun.")))
            .build();
    Map<ItemState, Integer> counts = new EnumMap<>(ItemState.class);
    try (Stream<String> rows = Files.lines(Path.of(arguments[0]));
        MessengerClient client = MessengerClient.connect("localhost:50051");
        BulkResults results = client.sendBulk(start, rows.skip(1).map(SendAudience::item))) {
      for (ItemResult result : results) {
        counts.merge(result.getState(), 1, Integer::sum);
        if (result.hasError()) {
          System.out.println(
              result.getItemId()
                  + " "
                  + result.getError().getReason()
                  + " "
                  + result.getError().getMessage());
        }
      }
    }
    System.out.println(counts);
  }

  /** An item of a row without quotes; for others, use a library that reads CSV. */
  private static BulkItem item(String row) {
    String[] fields = row.split(",", 2);
    if (fields.length < 2) {
      throw new IllegalArgumentException("a row without the column first_name: " + row);
    }
    return BulkItem.newBuilder()
        .setItemId(fields[0])
        .setRecipient(Recipient.newBuilder().setId(fields[0]))
        .setVariables(
            Struct.newBuilder()
                .putFields("first_name", Value.newBuilder().setStringValue(fields[1]).build()))
        .build();
  }
}
