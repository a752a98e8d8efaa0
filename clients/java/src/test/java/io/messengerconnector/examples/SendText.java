package io.messengerconnector.examples;

import io.messengerconnector.MessengerClient;
import io.messengerconnector.MessengerException;
import io.messengerconnector.v1.ErrorReason;
import io.messengerconnector.v1.MessagingType;
import io.messengerconnector.v1.Recipient;
import io.messengerconnector.v1.SendOptions;
import io.messengerconnector.v1.SendTextMessageRequest;
import io.messengerconnector.v1.SendTextMessageResponse;
import io.messengerconnector.v1.TextMessage;

/** Sends one text message through the service at localhost:50051. */
public final class SendText {
  private SendText() {}

  public static void main(String[] arguments) {
    try (MessengerClient client = MessengerClient.connect("localhost:50051")) {
      SendTextMessageResponse response =
          client.sendTextMessage(
              SendTextMessageRequest.newBuilder()
                  .setRecipient(Recipient.newBuilder().setId("1254477777772919"))
                  .setOptions(
                      SendOptions.newBuilder()
                          .setMessagingType(MessagingType.MESSAGING_TYPE_RESPONSE))
                  .setText(TextMessage.newBuilder().setText("Your order has shipped."))
                  .build());
      System.out.println("sent: " + response.getReceipt().getMessageId());
    } catch (MessengerException failure) {
      if (failure.reason() != ErrorReason.ERROR_REASON_OUTSIDE_WINDOW) {
        throw failure;
      }
      System.out.println("the person has not written for too long: send a utility template");
    }
  }
}
