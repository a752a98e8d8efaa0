// Command send sends one text message through the service at localhost:50051.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	messenger "github.com/messenger-connector/messenger-connector/clients/go"
	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

func main() {
	client, err := messenger.Connect("localhost:50051", messenger.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	response, err := client.SendTextMessage(context.Background(), &messengerv1.SendTextMessageRequest{
		Recipient: &messengerv1.Recipient{Identifier: &messengerv1.Recipient_Id{Id: "1254477777772919"}},
		Options:   &messengerv1.SendOptions{MessagingType: messengerv1.MessagingType_MESSAGING_TYPE_RESPONSE},
		Text:      &messengerv1.TextMessage{Text: "Your order has shipped."},
	})
	var failure *messenger.Error
	switch {
	case err == nil:
		fmt.Println("sent:", response.GetReceipt().GetMessageId())
	case errors.As(err, &failure) && failure.Reason == messengerv1.ErrorReason_ERROR_REASON_OUTSIDE_WINDOW:
		fmt.Println("the person has not written for too long: send a utility template")
	default:
		log.Fatal(err)
	}
}
