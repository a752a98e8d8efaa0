// Command audience sends a text to every row of a CSV file, with the columns recipient and first_name, through the
// service at localhost:50051.
//
//	go run ./examples/audience audience.csv
package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"google.golang.org/protobuf/types/known/structpb"

	messenger "github.com/messenger-connector/messenger-connector/clients/go"
	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: audience FILE.csv")
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	client, err := messenger.Connect("localhost:50051", messenger.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	audience := &audience{rows: csv.NewReader(file)}
	start := &messengerv1.BulkStart{
		BulkId:  "spring-sale",
		Options: &messengerv1.SendOptions{MessagingType: messengerv1.MessagingType_MESSAGING_TYPE_UPDATE},
		Action: &messengerv1.Action{Kind: &messengerv1.Action_Text{
			Text: &messengerv1.TextMessage{Text: "Hello {{first_name}}, the sale has begun."},
		}},
	}
	counts := map[messengerv1.ItemState]int{}
	for result, err := range client.SendBulk(ctx, start, audience.items).Results() {
		if err != nil {
			log.Fatal(err)
		}
		counts[result.GetState()]++
		if result.GetError() != nil {
			fmt.Println(result.GetItemId(), result.GetError().GetReason(), result.GetError().GetMessage())
		}
	}
	if audience.err != nil {
		log.Fatal(audience.err)
	}
	fmt.Println(counts)
}

// audience reads a file row by row: it may be larger than memory.
type audience struct {
	rows *csv.Reader
	err  error
}

func (a *audience) items(yield func(*messengerv1.BulkItem) bool) {
	columns, err := a.rows.Read()
	for err == nil {
		var row []string
		if row, err = a.rows.Read(); err != nil {
			break
		}
		variables := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for n, column := range columns {
			variables.Fields[column] = structpb.NewStringValue(row[n])
		}
		recipient := variables.Fields["recipient"].GetStringValue()
		if !yield(&messengerv1.BulkItem{
			ItemId:    recipient,
			Recipient: &messengerv1.Recipient{Identifier: &messengerv1.Recipient_Id{Id: recipient}},
			Variables: variables,
		}) {
			return
		}
	}
	if err != io.EOF {
		a.err = err
	}
}
