package messenger

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	messengerv1 "github.com/messenger-connector/messenger-connector/clients/go/messenger/v1"
)

func textStart(text string) *messengerv1.BulkStart {
	return &messengerv1.BulkStart{
		Options: &messengerv1.SendOptions{MessagingType: messengerv1.MessagingType_MESSAGING_TYPE_UPDATE},
		Action:  &messengerv1.Action{Kind: &messengerv1.Action_Text{Text: &messengerv1.TextMessage{Text: text}}},
	}
}

func itemTo(id string) *messengerv1.BulkItem {
	return &messengerv1.BulkItem{
		ItemId: id, Recipient: &messengerv1.Recipient{Identifier: &messengerv1.Recipient_Id{Id: id}},
	}
}

// More of them than the service takes at a time, and nothing else: each is a result, and none the end of the bulk.
func TestItemsThatCannotBeEncodedAreRejected(t *testing.T) {
	t.Parallel()
	s := startStack(t, []byte(`{"serve": ["--bulk-in-flight-max", "2"]}`))
	bad := []string{"not UTF-8: \xff", strings.Repeat("x", 5<<20)}
	items := func(yield func(*messengerv1.BulkItem) bool) {
		for n := range 6 {
			item := itemTo("1001")
			item.Action = textStart(bad[n%len(bad)]).Action
			if !yield(item) {
				return
			}
		}
		yield(itemTo("1002"))
	}
	rejected, sent := 0, 0
	for result, err := range s.connect(connection{}).SendBulk(t.Context(), textStart("Hello"), items).Results() {
		if err != nil {
			t.Fatal(err)
		}
		switch result.GetState() {
		case messengerv1.ItemState_ITEM_STATE_REJECTED:
			rejected++
			if strings.Contains(result.GetError().GetMessage(), "not UTF-8") {
				t.Error("an error repeats the message")
			}
		case messengerv1.ItemState_ITEM_STATE_SENT:
			sent++
		}
	}
	if rejected != 6 || sent != 1 {
		t.Errorf("%d rejected, %d sent", rejected, sent)
	}
}

// A source that waits for the result of each item before it gives the next.
func TestAnItemIsNotHeldBackForAFullFrame(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	results := make(chan string)
	items := func(yield func(*messengerv1.BulkItem) bool) {
		for _, id := range []string{"1", "2", "3"} {
			if !yield(itemTo(id)) || <-results != id {
				return
			}
		}
	}
	count := 0
	for result, err := range s.connect(connection{}).SendBulk(t.Context(), textStart("Hello"), items).Results() {
		if err != nil {
			t.Fatal(err)
		}
		count++
		results <- result.GetItemId()
	}
	if count != 3 {
		t.Errorf("%d results", count)
	}
}

func TestABulkWithoutAServiceEnds(t *testing.T) {
	t.Parallel()
	client, err := Connect(nothingListens, Options{Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends := func(ctx context.Context) (failure *Error) {
		for _, err := range client.SendBulk(ctx, textStart("Hello"), nil).Results() {
			if !errors.As(err, &failure) {
				t.Fatal(err)
			}
		}
		return failure
	}
	if failure := ends(t.Context()); failure == nil || failure.Code != codes.Unavailable || !failure.Retryable {
		t.Error(failure)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if failure := ends(cancelled); !errors.Is(failure, context.Canceled) {
		t.Error(failure)
	}
}

func TestClosingTheClientEndsItsBulks(t *testing.T) {
	t.Parallel()
	client := startStack(t, nil).connect(connection{})
	items := func(yield func(*messengerv1.BulkItem) bool) {
		for n := 0; yield(itemTo("slow-20." + strconv.Itoa(n))); n++ {
		}
	}
	var failure error
	for _, err := range client.SendBulk(t.Context(), textStart("Hello"), items).Results() {
		failure = err
		_ = client.Close()
	}
	if status.Code(failure) != codes.Canceled {
		t.Error(failure)
	}
}
